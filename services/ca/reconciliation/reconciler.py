"""The reconciler: compares, for as long as the authority runs, what record, log, lists and OCSP answers say.

    each second   the newest head of the log, and what is new in it (`follower.py`)
    each day      everything again, thoroughly (`sweeper.py`)

Rules:
- What is found is durable before it is told, and stays open until it is gone.
- A log that shrank or forked stops issuing at once. What cannot be asked now (a log that restarts) stops nothing.
- The operator's word: a file DATA_DIR/ca/accept-log makes the authority forget what it saw of the log, at its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from services.ca.issuance.hold import IssuanceHold
from services.ca.messages import Refusal
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.follower import ROUND_SECONDS, STOPPING, LogFollower
from services.ca.reconciliation.messages import (
    MAX_FINDINGS,
    AcceptedFindings,
    AcceptFindings,
    Findings,
    ListFindings,
)
from services.ca.reconciliation.metrics import ReconcilerMetrics
from services.ca.reconciliation.storage import ReconciliationStorage
from services.ca.reconciliation.sweeper import Sweeper
from services.errors import ConfigurationError, RemoteError
from services.rpc_server import Call


class Reconciler:
    """Answers `findings`, and compares in the background."""

    def __init__(
        self,
        storage: ReconciliationStorage,
        follower: LogFollower,
        sweeper: Sweeper,
        register: FindingRegister,
        hold: IssuanceHold,
        metrics: ReconcilerMetrics,
        log: Any,
    ) -> None:
        self._storage = storage
        self._follower = follower
        self._sweeper = sweeper
        self._register = register
        self._hold = hold
        self._metrics = metrics
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        self._told = ""

    async def start(self, consent: Path, now: int) -> None:
        """Go on from where it was; with the file `consent`, from the log as it is. Raises StorageUnavailable."""
        if _is_given(consent):
            await self._storage.forget_log(now)
            _take_back(consent)
            self._log.warning("the log is accepted as it is now, as the operator wants")
        # The follower first: until it has seen the log, nothing is issued.
        self._follower.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(self._follow))]
        await self._sweeper.start()
        await self._register.show()
        self._tasks.append(loop.create_task(self._keep(self._sweep, ROUND_SECONDS)))

    async def close(self) -> None:
        """Stop comparing; what was found is on record."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def findings(self, request: ListFindings, _call: Call) -> Findings:
        """The findings that stand."""
        counts, seen = await self._storage.open_counts(), self._follower.seen
        return Findings(
            findings=await self._storage.standing(request.state, MAX_FINDINGS),
            count=sum(counts.values()),
            accepted=await self._storage.accepted_count(),
            log_position=0 if seen is None else seen.position,
            log_size=0 if seen is None else seen.tree_size,
            swept_at=self._sweeper.sweep.swept_at,
        )

    async def accept_findings(self, request: AcceptFindings, _call: Call) -> AcceptedFindings:
        """Accept findings for an operator. Raises Refusal: malformed, not-found; StorageUnavailable."""
        if request.kind in STOPPING:
            detail = f"{request.kind} stops issuing: restore the log, or accept it as it is (DATA_DIR/ca/accept-log)"
            raise Refusal("malformed", "kind", detail)
        count = await self._register.accept(request)
        if not count:
            about = "" if request.subject is None else f" about {request.subject!r}"
            raise Refusal("not-found", "kind", f"there is no open finding {request.kind}{about}")
        return AcceptedFindings(count=count)

    async def _follow(self) -> float:
        pause = await self._follower.follow()
        self._told = ""
        return pause

    async def _sweep(self) -> float:
        seen = self._follower.seen
        # What is new comes first; and of a log that contradicts nothing can be said.
        if seen is None or seen.position < seen.tree_size or self._hold.reason is not None:
            return ROUND_SECONDS
        pause = await self._sweeper.step(seen)
        self._metrics.show_sweep(self._sweeper.sweep.swept_at)
        return pause

    async def _keep(self, step: Callable[[], Awaitable[float]], pause: float = 0.0) -> None:
        """Ends only by being cancelled."""
        while True:
            await asyncio.sleep(pause)
            pause = ROUND_SECONDS
            try:
                pause = await step()
            except (RemoteError, ConfigurationError) as error:
                self._tell_once(str(error))
            except Exception as error:  # noqa: BLE001 - told and tried again: a comparison must not end for ever
                self._log.error("record and log could not be compared", exc_info=error)

    def _tell_once(self, trouble: str) -> None:
        """Both loops fail for the same reason, each second: once is enough, until the log answers again."""
        if trouble != self._told:
            self._log.warning("record and log cannot be compared now", error=trouble)
        self._told = trouble


def _is_given(consent: Path) -> bool:
    return consent.exists()


def _take_back(consent: Path) -> None:
    consent.unlink()
