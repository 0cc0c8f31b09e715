"""Deleting certificates that expired long ago, beside the issuing of new ones.

Rules:
- Small batches with pauses: deleting takes at most a fifth of the time of the thread that all writes wait for.
- A sweep that is interrupted leaves nothing behind: each batch is whole, and the next sweep goes on.
- The log of certificates keeps its entries: what was issued can be proved after its row is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from services.ca.inventory.metrics import InventoryMetrics
from services.ca.inventory.storage import InventoryStorage

BATCH: Final = 50
SECONDS_PER_DAY: Final = 86_400
_SHORTEST_PAUSE: Final = 0.01
_PAUSES: Final = 4  # as long as the batch took


class Retention:
    """Keeps certificates for `days` after they expired; 0 keeps them for ever. `now` gives Unix seconds."""

    def __init__(
        self, storage: InventoryStorage, days: int, metrics: InventoryMetrics, log: Any, now: Callable[[], int]
    ) -> None:
        self.days = days
        self._storage = storage
        self._metrics = metrics
        self._log = log
        self._now = now

    async def sweep(self) -> int:
        """Delete all that is kept no longer; returns how many certificates. Raises StorageUnavailable."""
        if not self.days:
            return 0
        now = self._now()
        before = now - self.days * SECONDS_PER_DAY
        position: tuple[int, int] | None = (0, 0)
        deleted = 0
        while position is not None:
            started = time.monotonic()
            batch = await self._storage.delete_expired(before, now, position, BATCH)
            self._metrics.deleted(batch.deleted)
            deleted += batch.deleted
            position = batch.position
            await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSES * (time.monotonic() - started)))
        if deleted:
            self._log.info("deleted certificates that expired long ago", count=deleted, retention_days=self.days)
        return deleted
