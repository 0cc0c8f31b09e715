"""Batches of entries on their way into the tree: the order of the steps, and what a crash after each leaves behind.

    1. issuers       the certificates above the entries are files; nobody refers to them yet
    2. decide, sign  a head that nobody has seen
    3. commit        durable: entries and head, by compare and swap. From here on they are in the tree
    4. publish       full tiles and checkpoint are files; a crash before leaves that to the next start
    5. release       only now do the submitters get their places, and `published` moves on

Rules:
- One batch at a time. An idle log commits a submission at once; what arrives while a batch is on its way is the next.
- An entry that is on its way already is not taken twice: whoever brings it again gets the same place.
- A failure of 1 to 3 leaves the tree as it was. After a failure of 4 the entries are in the tree, but nobody is told:
  before the next batch, or by the timer, publishing is tried again; who asks again then gets the place from before.
- What only a new process or an operator can mend (HeadMoved, ConfigurationError) ends all sequencing here: `trouble`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from services.ct import sequencing
from services.ct.chain import Submission
from services.ct.metrics import LogMetrics
from services.ct.sequencing import ForkRefused, Place, TreeFull
from services.ct.signing import LogSigner
from services.ct.storage import HeadMoved, LogStorage
from services.errors import ConfigurationError, Overloaded, StorageUnavailable, Unavailable

MAX_BATCH: Final = 512
MAX_WAITING: Final = 4096
HEAD_MAX_AGE_MILLISECONDS: Final = 3_600_000
TIMER_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Waiting:
    submission: Submission
    known: Place | None
    place: asyncio.Future[Place]


class Sequencer:
    """Puts submissions into the tree of `storage`. `now` gives milliseconds since the Unix epoch."""

    def __init__(
        self, storage: LogStorage, signer: LogSigner, metrics: LogMetrics, now: Callable[[], int], log: Any
    ) -> None:
        self._storage = storage
        self._signer = signer
        self._metrics = metrics
        self._now = now
        self._log = log
        self._waiting: dict[bytes, _Waiting] = {}
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_failing = False
        self.trouble: Exception | None = None

    def start(self) -> None:
        """Begin to watch the age of the tree head."""
        self._metrics.show_head(self._storage.published.head)
        self._timer = asyncio.get_running_loop().call_later(TIMER_SECONDS, self._tick)

    async def add(self, submission: Submission) -> Place:
        """The place of an entry that is durable, published, and under a signed head. Raises Unavailable, Overloaded."""
        waiting = self._waiting.get(submission.identity)
        if waiting is None:
            known = self._storage.find(submission.identity)
            if known is not None and known.leaf_index < self._storage.published.head.size:
                self._metrics.duplicate()
                return known
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded(f"{len(self._waiting)} entries already wait for their place")
            waiting = self._enqueue(submission, known)
        else:
            self._metrics.duplicate()
        return await asyncio.shield(waiting.place)

    async def finish(self) -> None:
        """Wait until what was begun has its place."""
        if self._timer is not None:
            self._timer.cancel()
        while self._running is not None and not self._running.done():
            await asyncio.wait((self._running,))

    def _enqueue(self, submission: Submission, known: Place | None) -> _Waiting:
        loop = asyncio.get_running_loop()
        waiting = self._waiting[submission.identity] = _Waiting(submission, known, loop.create_future())
        waiting.place.add_done_callback(_retrieve)
        self._wake()
        return waiting

    def _wake(self) -> None:
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TIMER_SECONDS, self._tick)
        if self.trouble is None and (self._is_old() or not self._storage.is_published):
            self._wake()

    def _is_old(self) -> bool:
        return self._now() - self._storage.committed.head.timestamp >= HEAD_MAX_AGE_MILLISECONDS

    async def _run(self) -> None:
        """Batch after batch until nobody waits."""
        while True:
            batch = list(islice(self._waiting.values(), MAX_BATCH))
            if not batch and self._storage.is_published and not self._is_old():
                return
            try:
                places = await self._take_in(batch)
            except Exception as error:  # noqa: BLE001 - everybody in the batch gets it, typed
                self._settle(batch, self._failed(error))
                if not self._waiting:
                    return
            else:
                self._is_failing = False
                for waiting in batch:
                    waiting.place.set_result(places[waiting.submission.identity])
                    del self._waiting[waiting.submission.identity]

    async def _take_in(self, batch: Sequence[_Waiting]) -> dict[bytes, Place]:
        if self.trouble is not None:
            raise self.trouble
        if not self._storage.is_published:
            await self._publish()
        known = {each.submission.identity: each.known for each in batch if each.known is not None}
        decided = sequencing.sequence(self._storage.tree, (each.submission for each in batch), known, self._now())
        if not decided.entries and not self._is_old():
            return dict(decided.places)
        issuers = {issuer for each in batch for issuer in each.submission.issuers}
        # Before the entries: who finds an entry must find the certificates that it names.
        await self._storage.keep_issuers(issuers)
        sequencing.check_successor(self._storage.committed.head, decided.tree.head)
        signed = self._signer.sign_head(decided.tree.head)
        started = time.monotonic_ns()
        await self._storage.commit(decided, signed)
        self._metrics.committed(len(decided.entries), time.monotonic_ns() - started)
        # Before anybody is told: a head is told only when what it speaks of can be fetched.
        await self._publish()
        return dict(decided.places)

    async def _publish(self) -> None:
        started = time.monotonic_ns()
        await self._storage.publish()
        self._metrics.published(self._storage.published.head, time.monotonic_ns() - started)

    def _failed(self, error: Exception) -> Exception:
        """What those who wait are told; what ends sequencing is kept."""
        if isinstance(error, StorageUnavailable | Overloaded):
            if not self._is_failing:  # once, not each second until there is room
                self._log.warning("the log cannot be written now", error=str(error))
            self._is_failing = True
            return error
        if isinstance(error, TreeFull):
            self._log.critical("the log is full", error=str(error))
            return Unavailable(str(error))
        if self.trouble is None:
            self._log.critical("the log takes nothing more in", error=str(error), exc_info=error)
            self.trouble = error
        if isinstance(error, ConfigurationError | HeadMoved | ForkRefused):
            return Unavailable(f"the log takes nothing in: {error}")
        return error

    def _settle(self, batch: Sequence[_Waiting], error: Exception) -> None:
        for waiting in batch:
            waiting.place.set_exception(error)
            del self._waiting[waiting.submission.identity]


def _retrieve(place: asyncio.Future[Place]) -> None:
    """Nobody may be left to look at the error: that is no news for the log."""
    if not place.cancelled():
        place.exception()
