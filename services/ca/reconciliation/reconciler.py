"""The reconciler: compares, for as long as the authority runs, what record, log, lists and OCSP answers say.

    each second   the newest head of the log, and what is new in it (`follower.py`)
    each day      everything again, thoroughly (`sweeper.py`)

Rules:
- What is found is durable before it is told, and stays open until it is gone, or an operator accepts it.
- A log that shrank or forked stops issuing at once. What cannot be asked now (a log that restarts) stops nothing.
- The operator's word: a file DATA_DIR/ca/accept-log makes the authority forget what it saw of the log, at its start;
  accept-record makes it miss no rows of what the log has by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from services.ca.issuance.hold import IssuanceHold
from services.ca.messages import Refusal
from services.ca.reconciliation.contradictions import ABOUT_THE_LOG
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.follower import ROUND_SECONDS, LogFollower
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

_OF_DAMAGE: Final = "restore the log, or move DATA_DIR/ct away (a new log begins) and create DATA_DIR/ca/accept-log"
_OF_ANOTHER_LOG: Final = "restore the log, or go on with it as it is: create DATA_DIR/ca/accept-log"


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

    async def start(self, log_accepted: Path, record_accepted: Path, now: int) -> None:
        """Go on from where it was; with these files, from the log and the record as they are.

        Raises StorageUnavailable.
        """
        if _is_given(log_accepted):
            await self._storage.forget_log(now)
            _take_back(log_accepted)
            self._log.warning("the log is accepted as it is now, as the operator wants")
        if _is_given(record_accepted):
            await self._storage.give_up_record(now)
            _take_back(record_accepted)
            self._log.warning("the record is accepted as it is now, as the operator wants")
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
            kinds=counts,
            accepted=await self._storage.accepted_count(),
            log_position=0 if seen is None else seen.position,
            log_size=0 if seen is None else seen.tree_size,
            swept_at=self._sweeper.sweep.swept_at,
        )

    async def accept_findings(self, request: AcceptFindings, _call: Call) -> AcceptedFindings:
        """Accept findings for an operator. Raises Refusal: malformed, not-found; StorageUnavailable."""
        if request.kind in ABOUT_THE_LOG:
            ways_out = _OF_DAMAGE if request.kind == "log_damaged" else _OF_ANOTHER_LOG
            raise Refusal("malformed", "kind", f"{request.kind} cannot be accepted: {ways_out}")
        standing = await self._register.accept(request)
        if standing.open == request.count:
            return AcceptedFindings(count=request.count)
        if standing.open:
            detail = f"{standing.open} are open, not {request.count}: look at all of them, then give this number"
            raise Refusal("malformed", "count", detail)
        if not standing.accepted:
            about = "" if request.subject is None else f" about {request.subject!r}"
            raise Refusal("not-found", "kind", f"there is no open finding {request.kind}{about}")
        return AcceptedFindings(count=0)

    async def _follow(self) -> float:
        pause = await self._follower.follow()
        self._told = ""
        return pause

    async def _sweep(self) -> float:
        seen = self._follower.seen
        # What is new comes first; and of a log that contradicts nothing can be said.
        if seen is None or seen.position < seen.tree_size or self._hold.reason is not None:
            return ROUND_SECONDS
        if not self._follower.is_settled:
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
