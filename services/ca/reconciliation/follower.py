"""Following the log as it grows: each new head against the last one seen, each new entry against the record.

What a crash leaves: the head is durable before anything is compared in it, the findings before the position after them.
So something may be compared twice, and nothing is left out.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from services.ca.issuance.hold import HELD, IssuanceHold
from services.ca.reconciliation import following
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.following import Contradicted
from services.ca.reconciliation.journal import Comparisons, Journal
from services.ca.reconciliation.messages import FindingKind
from services.ca.reconciliation.metrics import ReconcilerMetrics
from services.ca.reconciliation.positions import SeenLog
from services.ca.reconciliation.storage import ReconciliationStorage

ROUND_SECONDS: Final = 1.0
FOLLOWED_AT_ONCE: Final = 64
PAUSE_SECONDS: Final = 0.02
STOPPING: Final[tuple[FindingKind, ...]] = ("log_shrank", "log_forked")
"""Findings that stop issuing."""


class LogFollower:
    """Follows the log, and holds issuing while the log contradicts what was seen of it."""

    def __init__(
        self,
        storage: ReconciliationStorage,
        journal: Journal,
        comparisons: Comparisons,
        register: FindingRegister,
        hold: IssuanceHold,
        metrics: ReconcilerMetrics,
        log: Any,
    ) -> None:
        self._storage = storage
        self._journal = journal
        self._comparisons = comparisons
        self._register = register
        self._hold = hold
        self._metrics = metrics
        self._log = log
        self.is_settled = False
        self.seen: SeenLog | None = None

    def start(self) -> None:
        """Read how far it came, and what the log gave before. Raises StorageUnavailable."""
        self.seen = self._storage.log_seen()
        self.is_settled = not self._storage.is_record_unsettled()
        self._hold.promise(self._storage.highest_place())

    async def follow(self) -> float:
        """Compare what is new; returns the seconds until the next time. Raises RemoteError."""
        try:
            before, seen = self.seen, await self._newest()
            if before is None or not self.is_settled:
                # Before anything is issued: what is logged from now on has its row.
                await self._storage.settle_record(seen.tree_size)
                self.is_settled = True
            if self._hold.reason is not None:
                self._log.warning("the log continues what was seen of it: issuing goes on")
            # Before it is on record, since callers may wait: the place of what is issued meanwhile is durable with it,
            # and would tell of a smaller log just as well.
            self._hold.release()
            if before is None or seen.tree_size != before.tree_size:
                await self._storage.seen(seen)
            self.seen = seen
            self._metrics.show_log(seen.position, seen.tree_size)
            await self._register.close_all(STOPPING)
            while seen.position < seen.tree_size:
                seen = self.seen = await self._compared(seen)
                await asyncio.sleep(PAUSE_SECONDS)
        except Contradicted as contradicted:
            if contradicted.finding.kind in STOPPING:
                self._stop(contradicted.finding.text)
            await self._register.tell([contradicted.finding])
        return ROUND_SECONDS

    def _stop(self, reason: str) -> None:
        if self._hold.reason is None:
            self._log.error(HELD, reason=reason)
        self._hold.stop(reason)

    async def _newest(self) -> SeenLog:
        # What was promised before the head is asked for: the log goes on giving places meanwhile.
        promised, before = self._hold.promised, self.seen
        key, head = await asyncio.gather(self._journal.public_key(), self._journal.head())
        if before is None:
            seen = following.begun(key, head)
        else:
            path = None
            if following.needs_proof(before, key, head):
                path = await self._journal.consistency(before.tree_size, head.tree_size)
            seen = following.grown(before, head, path)
        following.check_promises(promised, head)
        return seen

    async def _compared(self, seen: SeenLog) -> SeenLog:
        entries = await self._journal.entries(seen.position, min(seen.position + FOLLOWED_AT_ONCE, seen.tree_size))
        advanced = following.advanced(seen, (entry.leaf_hash for entry in entries))
        comparison = await self._comparisons.current(seen.public_key)
        # The rows after the entries: see reconciliation.py.
        rows = await self._storage.rows_in(seen.position, advanced.position)
        logged = [entry.logged for entry in entries]
        await self._register.tell(comparison.range_of(logged, rows, self._storage.row_of, thorough=False))
        await self._storage.seen(advanced)
        self._metrics.show_log(advanced.position, advanced.tree_size)
        return advanced
