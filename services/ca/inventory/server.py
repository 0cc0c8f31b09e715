"""The inventory: what is on record in numbers, what ends and is to be renewed, how the record grows.

Rules:
- Every figure is read in constant time: counted when a certificate is stored (`storage.py`), never by looking
  through the record.
- The radar gets its items from sources: whoever owns what ends knows its schedule. The leaves and the certificate of
  the API are on record here.
- The figures for monitoring are renewed every REFRESH_SECONDS in the background, retention sweeps every SWEEP_SECONDS.
  What fails there is told and tried again: no certificate depends on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from services.ca.inventory import expiry, growth
from services.ca.inventory.expiry import Item
from services.ca.inventory.growth import Growth, Usage
from services.ca.inventory.messages import (
    Expiring,
    ExpiryKind,
    ExpiryReport,
    GetExpiry,
    GetInventory,
    InventorySummary,
    IssuedDay,
    RecordSize,
    Tally,
)
from services.ca.inventory.metrics import HORIZONS, InventoryMetrics
from services.ca.inventory.retention import SECONDS_PER_DAY, Retention
from services.ca.inventory.storage import Counts, InventoryStorage, Leaf
from services.ca.messages import OWN_API
from services.errors import DatabaseCorrupt, Overloaded, StorageUnavailable
from services.rpc_server import Call

FIRST_REFRESH_SECONDS: Final = 1.0  # a worker that replaces a dead one has better things to do at first
REFRESH_SECONDS: Final = 60.0
SWEEP_SECONDS: Final = 600.0
EXAMINED_LEAVES: Final = 2_000
EXPIRED_TOLD_SECONDS: Final = 86_400

Source = Callable[[], Iterable[Item]]


class Inventory:
    """Answers the methods `inventory` and `expiry`, and keeps the figures for monitoring.

    `sources` give what ends beside the certificates on record; `disk_free` gives the octets that are free where the
    record is, and may raise OSError; `now` gives seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        storage: InventoryStorage,
        retention: Retention,
        sources: Sequence[Source],
        metrics: InventoryMetrics,
        log: Any,
        now: Callable[[], int],
        disk_free: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._retention = retention
        self._sources = tuple(sources)
        self._metrics = metrics
        self._log = log
        self._now = now
        self._disk_free = disk_free
        self._background: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the figures and to delete what is kept no longer."""
        self._background = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Stop; a batch of deletions that was begun is finished."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait((self._background,))

    async def inventory(self, request: GetInventory, _call: Call) -> InventorySummary:
        """What is on record, in numbers."""
        with self._metrics.query("inventory"):
            now = self._now()
            counts = await self._storage.counts(now, tuple(HORIZONS), request.top)
            free, grown = await self._growth(counts, now)
            return _summary(counts, free, grown, self._retention.days, now)

    async def expiry(self, request: GetExpiry, _call: Call) -> ExpiryReport:
        """What ends and is to be renewed."""
        with self._metrics.query("expiry"):
            now = self._now()
            examined = await self._storage.unrenewed(now - EXPIRED_TOLD_SECONDS, now + request.within, EXAMINED_LEAVES)
            due = [item for item in map(_leaf, examined) if item.state(now) != "ok"]
            leaves = sorted(expiry.radar(due[: request.limit], now), key=lambda leaf: leaf.not_after)
            more = len(due) > request.limit or len(examined) == EXAMINED_LEAVES
            return ExpiryReport(items=expiry.radar(await self._items(), now), leaves=leaves, more=more)

    async def refresh(self) -> None:
        """Renew the figures for monitoring. Raises StorageUnavailable, Overloaded or DatabaseCorrupt."""
        now = self._now()
        counts = await self._storage.counts(now, tuple(HORIZONS), 1)
        _, grown = await self._growth(counts, now)
        self._metrics.show_record(counts, grown)
        self._metrics.show_ending(counts.ending)
        self._metrics.show_overdue(expiry.overdue_kinds(await self._items(), now))

    async def _items(self) -> list[Item]:
        items = [item for source in self._sources for item in source()]
        own = await self._storage.newest_of(OWN_API)
        return items if own is None else [*items, _scheduled("api", own)]

    async def _growth(self, counts: Counts, now: int) -> tuple[int, Growth]:
        try:
            free = await asyncio.to_thread(self._disk_free)
        except OSError as error:
            raise StorageUnavailable(
                f"the free space of the data directory cannot be read: {error.strerror}"
            ) from error
        leaving = 0
        if self._retention.days:
            begin = now - self._retention.days * SECONDS_PER_DAY
            leaving = (await self._storage.ending(begin, begin + SECONDS_PER_DAY - 1)).certificates
        usage = Usage(rows=counts.issued, used=counts.used, unused=counts.unused, disk_free=free)
        return free, growth.growth(usage, dict(counts.days), counts.first_day, leaving, now)

    async def _keep(self) -> None:
        await asyncio.sleep(FIRST_REFRESH_SECONDS)
        sweep_at = time.monotonic()
        while True:
            try:
                await self.refresh()
                if time.monotonic() >= sweep_at:
                    await self._retention.sweep()
                    sweep_at = time.monotonic() + SWEEP_SECONDS
            except (StorageUnavailable, Overloaded, DatabaseCorrupt) as error:
                self._log.warning("the figures of the inventory could not be renewed", error=str(error))
            except Exception as error:  # noqa: BLE001 - a fault in what only counts must not go unnoticed, nor end it
                self._log.error("the figures of the inventory could not be renewed", exc_info=error)
            await asyncio.sleep(REFRESH_SECONDS)


def _leaf(leaf: Leaf) -> Item:
    return _scheduled("leaf", leaf)


def _scheduled(kind: ExpiryKind, leaf: Leaf) -> Item:
    return Item.scheduled(kind, ", ".join(leaf.names), leaf.not_before, leaf.not_after, leaf.serial)


def _summary(counts: Counts, free: int, grown: Growth, retention_days: int, now: int) -> InventorySummary:
    return InventorySummary(
        certificates=counts.issued,
        valid=counts.valid,
        expired=counts.issued - counts.valid,
        revoked=counts.revoked,
        unfinished=counts.reserved,
        profiles=_tallies(counts.profiles),
        issuers=_tallies(counts.issuers),
        requesters=_tallies(counts.requesters),
        expiring=[
            Expiring(within_seconds=each.seconds, certificates=each.certificates, unrenewed=each.unrenewed)
            for each in counts.ending
        ],
        issued=[IssuedDay(day=day * SECONDS_PER_DAY, certificates=number) for day, number in counts.days],
        record=RecordSize(
            octets=counts.used + counts.unused,
            unused_octets=counts.unused,
            disk_free_octets=free,
            rows_per_day=grown.rows_per_day,
            octets_per_day=grown.octets_per_day,
            full_at=None if grown.full_after is None else now + int(grown.full_after),
        ),
        retention_days=retention_days,
        deleted=counts.deleted,
        complete_from=counts.complete_from,
    )


def _tallies(counted: Iterable[tuple[str, int]]) -> list[Tally]:
    return [Tally(value=value, certificates=number) for value, number in counted]
