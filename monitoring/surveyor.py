"""Takes surveys of the host in a thread: one at a time, and nobody waits for a file system that hangs.

Rule: a survey that fails leaves the last facts in place, is told in the log, and is tried again; it fails nothing else.
The health check sees the age of the facts.
"""

import asyncio
from typing import Final

import structlog

from monitoring.processes import Survey
from monitoring.scoring import SECOND
from monitoring.system import Clock, MonitoringSystem

REQUEST_AGE_NS: Final = SECOND
PATIENCE_SECONDS: Final = 0.1

_log = structlog.stdlib.get_logger()


class Surveyor:
    """Keeps a MonitoringSystem supplied with facts about the host."""

    def __init__(self, system: MonitoringSystem, survey: Survey, deep_interval: float, clock: Clock) -> None:
        """`deep_interval`: seconds between two measurements of proportional memory."""
        self._system, self._survey, self._clock = system, survey, clock
        self._deep_ns = int(deep_interval * SECOND)
        self._taken_ns: int | None = None
        self._deep_taken_ns: int | None = None
        self._pids: tuple[int, ...] = ()
        self._running: asyncio.Task[None] | None = None
        self._failure = ""

    @property
    def busy(self) -> bool:
        """Whether a survey is under way, possibly for ever."""
        return self._running is not None and not self._running.done()

    async def refresh(self, max_age_ns: int = REQUEST_AGE_NS) -> None:
        """Take a survey if the last one is older than that or saw other processes; give up waiting after 0.1 s."""
        now, pids = self._clock.monotonic_ns(), self._system.pids
        fresh = self._taken_ns is not None and now - self._taken_ns < max_age_ns and pids == self._pids
        if fresh:
            return
        if self._running is None or self._running.done():
            deep = self._deep_taken_ns is None or now - self._deep_taken_ns >= self._deep_ns
            self._taken_ns, self._pids = now, pids
            self._deep_taken_ns = now if deep else self._deep_taken_ns
            self._running = asyncio.create_task(self._take(pids, deep))
        await asyncio.wait((self._running,), timeout=PATIENCE_SECONDS)

    async def _take(self, pids: tuple[int, ...], deep: bool) -> None:
        try:
            found = await asyncio.to_thread(self._survey.take, pids, deep=deep)
        except Exception as error:  # noqa: BLE001 - whoever asked gets the last facts, and their age tells
            if repr(error) != self._failure:
                _log.error("the survey of the host failed; it is tried again", exc_info=error)
            self._failure = repr(error)
            return
        self._failure = ""
        self._system.observe(found)
