"""The whole comparison, again and again: every entry, every certificate, every list, a part of the OCSP answers.

Rules:
- Slices of a few milliseconds with pauses, so that a large sweep takes half a day, and whoever wants a certificate does
  not wait for it. The position is durable every KEPT_EVERY slices; a sweep goes on after a restart.
- What a whole sweep did not find again is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from cryptography import x509

from services.ca.hierarchy.hierarchy import validity_of
from services.ca.reconciliation import status_reconciliation
from services.ca.reconciliation.contradictions import FINDING_KINDS
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.follower import STOPPING
from services.ca.reconciliation.following import Contradicted
from services.ca.reconciliation.journal import Comparisons, Journal
from services.ca.reconciliation.positions import SeenLog, Sweep
from services.ca.reconciliation.reconciliation import RecordRow
from services.ca.reconciliation.storage import ReconciliationStorage
from services.ca.status import ocsp
from services.ca.status.storage import StatusStorage

SWEEP_SECONDS: Final = 86_400
SWEPT_AT_ONCE: Final = 16
KEPT_EVERY: Final = 64
ASKED_OF_A_LIST: Final = 16
_SHORTEST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 5.0
_LOOK_SECONDS: Final = 60.0

AskOcsp = Callable[[bytes], Awaitable[bytes]]


class Sweeper:
    """Sweeps. `ask_ocsp` answers as clients are answered; `now` gives seconds since the Unix epoch."""

    def __init__(
        self,
        storage: ReconciliationStorage,
        status: StatusStorage,
        journal: Journal,
        comparisons: Comparisons,
        register: FindingRegister,
        ask_ocsp: AskOcsp,
        now: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._status = status
        self._journal = journal
        self._comparisons = comparisons
        self._register = register
        self._ask_ocsp = ask_ocsp
        self._now = now
        self._slices = 0
        self.sweep = Sweep(0)

    async def start(self) -> None:
        """Read how far it came. Raises StorageUnavailable."""
        self.sweep = await self._storage.sweep() or Sweep(self._now())

    async def step(self, seen: SeenLog) -> float:
        """One slice of everything; returns the seconds until the next one. Raises RemoteError."""
        now = self._now()
        if self.sweep.is_finished:
            if now < self.sweep.started_at + SWEEP_SECONDS:
                return _LOOK_SECONDS
            self.sweep = Sweep(now, swept_at=self.sweep.swept_at)
        if self.sweep.leaf == 0 and seen.tree_size:
            await self._comparisons.renewed(seen.public_key)
        try:
            self.sweep = await self._slice(seen)
        except Contradicted as contradicted:
            await self._register.tell([contradicted.finding])
            self.sweep = replace(self.sweep, leaf=self.sweep.leaf + SWEPT_AT_ONCE)
        self._slices += 1
        if self._slices % KEPT_EVERY == 0 or self.sweep.is_finished:
            await self._storage.keep_sweep(self.sweep)
        slices = max(1, seen.tree_size // SWEPT_AT_ONCE)
        return min(max(SWEEP_SECONDS / slices / 2, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    async def _slice(self, seen: SeenLog) -> Sweep:
        if self.sweep.leaf < seen.tree_size:
            return await self._of_log(seen)
        if beyond := await self._storage.rows_from(self.sweep.leaf, SWEPT_AT_ONCE):
            return await self._of_no_entry(beyond, seen)
        unlogged = await self._storage.rows_without_leaf(self.sweep.certificate, SWEPT_AT_ONCE)
        if unlogged and seen.tree_size:
            comparison = await self._comparisons.current(seen.public_key)
            await self._register.tell(found for _, row in unlogged for found in comparison.unlogged(row, thorough=True))
            return replace(self.sweep, certificate=unlogged[-1][0])
        await self._compare_lists()
        closing = [kind for kind in FINDING_KINDS if kind not in STOPPING]
        await self._register.close_unseen(closing, self.sweep.started_at)
        return replace(self.sweep, swept_at=self._now())

    async def _of_log(self, seen: SeenLog) -> Sweep:
        first = self.sweep.leaf
        entries = await self._journal.entries(first, min(first + SWEPT_AT_ONCE, seen.tree_size))
        comparison = await self._comparisons.current(seen.public_key)
        rows = await self._storage.rows_in(first, first + len(entries))
        logged = [entry.logged for entry in entries]
        await self._register.tell(comparison.range_of(logged, rows, self._storage.row_of, thorough=True))
        for row in rows[:1]:
            await self._compare_answer(row.issuer, row.serial)
        return replace(self.sweep, leaf=first + len(entries))

    async def _of_no_entry(self, rows: Sequence[RecordRow], seen: SeenLog) -> Sweep:
        """Rows that name places beyond the log as it was seen: it has grown since, or it has lost them."""
        head, comparison = await self._journal.head(), await self._comparisons.current(seen.public_key)
        lost = (row for row in rows if row.leaf_index is not None and row.leaf_index >= head.tree_size)
        await self._register.tell(found for row in lost for found in comparison.claimed(row, None, thorough=True))
        return replace(self.sweep, leaf=1 + max(row.leaf_index or 0 for row in rows))

    async def _compare_lists(self) -> None:
        # The lists first: what is on record afterwards can only be more.
        for stored in await self._storage.lists():
            recorded = await self._storage.recorded(stored.issuer, stored.partition)
            authority = self._comparisons.authority(stored.issuer)
            compared = status_reconciliation.of_list(stored, authority, recorded, self._now())
            # A list of ten thousand entries takes longer to read than whoever asks for a certificate should wait.
            await self._register.tell(await asyncio.to_thread(list, compared))
            for one in recorded[-ASKED_OF_A_LIST:]:
                await self._compare_answer(stored.issuer, one.serial)

    async def _compare_answer(self, issuer: str, serial: str) -> None:
        """What a client is answered about a serial number. A revocation in between is not looked at this time."""
        authority = self._comparisons.authority(issuer)
        if authority is None or not _issues_at(authority, self._now()):
            return
        request = ocsp.request_for(ocsp.hashes_of(authority)[0], int(serial, 16))
        before = self._status.status([issuer], serial)
        answer = await self._ask_ocsp(request)
        if self._status.status([issuer], serial) == before:
            asked = ocsp.parse(request)
            await self._register.tell(status_reconciliation.of_answer(answer, asked, authority, before, self._now()))


def _issues_at(authority: x509.Certificate, now: int) -> bool:
    """Whether there is a responder for what it issued: roots have lists alone."""
    is_root = authority.issuer == authority.subject
    return not is_root and validity_of(authority).covers(now)
