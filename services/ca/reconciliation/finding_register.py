"""The register of findings: kept first, told then, and shown for as long as they are open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from services.ca.reconciliation.contradictions import Finding, Observation
from services.ca.reconciliation.messages import AcceptFindings, FindingKind
from services.ca.reconciliation.metrics import ReconcilerMetrics
from services.ca.reconciliation.storage import ReconciliationStorage, Standing

TOLD_AT_ONCE: Final = 10


class FindingRegister:
    """Keeps what is found. `now` gives seconds since the Unix epoch."""

    def __init__(
        self, storage: ReconciliationStorage, metrics: ReconcilerMetrics, log: Any, now: Callable[[], int]
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._log = log
        self._now = now
        self._open: dict[FindingKind, int] = {}

    async def tell(self, observations: Iterable[Observation]) -> None:
        """Keep the findings among these; what is new is told in the log. Raises StorageUnavailable."""
        found = [one for one in observations if isinstance(one, Finding)]
        if not found:
            return
        new = await self._storage.found(found, self._now())
        for one in new[:TOLD_AT_ONCE]:
            self._log.error("finding", kind=one.kind, subject=one.subject, text=one.text, digests=dict(one.digests))
        if len(new) > TOLD_AT_ONCE:
            self._log.error("more findings, see `trustchain findings`", count=len(new) - TOLD_AT_ONCE)
        await self.show()

    async def close_unseen(self, kinds: Iterable[FindingKind], before: int) -> None:
        """Close those that were not found again since `before`. Raises StorageUnavailable."""
        if closed := await self._storage.close_unseen(kinds, before, self._now()):
            self._log.info("findings are gone", count=closed)
            await self.show()

    async def close_all(self, kinds: Iterable[FindingKind]) -> None:
        """Close those of these kinds: what they told is no longer so. Raises StorageUnavailable."""
        if any(kind in self._open for kind in kinds):
            await self.close_unseen(kinds, self._now() + 1)

    async def accept(self, request: AcceptFindings) -> Standing:
        """Accept open findings, if they are as many as asked for; returns how many there were before.

        Raises StorageUnavailable.
        """
        standing = await self._storage.accept(request, self._now())
        if standing.open == request.count:
            said = {"kind": request.kind, "subject": request.subject, "reason": request.reason}
            self._log.warning("findings are accepted", count=request.count, requester=request.requester, **said)
            await self.show()
        return standing

    async def show(self) -> None:
        """Tell monitoring how many stand."""
        self._open = await self._storage.open_counts()
        self._metrics.show_findings(self._open, await self._storage.accepted_count())
