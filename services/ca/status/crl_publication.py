"""Keeping every revocation list signed, stored and published: on change and on schedule.

The order for one list, and what a crash after each step leaves behind:

    1. read the revocations     each of them is durable; the next start sees that the list does not cover them
    2. sign                     a list that nobody has seen; its number may be given again
    3. store                    durable: the list; from here on its number is used
    4. publish as a file        the next start publishes what is stored, if the file is older or gone
    5. serve                    who asked for a revocation is told the number

Rules:
- One list of a partition is signed at a time. What is revoked meanwhile is in the next one, together: it is signed at
  once when the last one is long ago, and never later than MAX_DELAY_SECONDS after the revocation, so that thousands of
  revocations do not sign thousands of lists.
- A list that cannot be stored is not published. One that is stored but cannot be written as a file is served all the
  same: who asks must learn of a revocation. Both are tried again every second.
- A list that an operator put into the directory, signed by one of our authorities, is published when it is newer: that
  is how the list of a root comes here whose key is kept elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from config.schema import Settings
from services.ca.hierarchy.hierarchy import SECONDS_PER_DAY
from services.ca.inventory.expiry import Item
from services.ca.status import crl
from services.ca.status.authorities import Authorities
from services.ca.status.crl import CrlAuthority, Published, Scope
from services.ca.status.crl_files import CrlFiles
from services.ca.status.storage import ListContents, ListKey, StatusStorage
from services.ca.status.surroundings import Surroundings
from services.ca.status.urls import StatusUrls, urls_of
from services.errors import StorageUnavailable

MAX_DELAY_SECONDS: Final = 1.0
ROOT_VALIDITY: Final = 180 * SECONDS_PER_DAY  # what a root revokes, its key may have to be fetched for
PAUSE_PER_SIGNING: Final = 5.0
LARGE: Final = 200  # entries from which a list is signed beside the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Who signs the lists of one authority, and how long they hold. Seconds; `url` is None for a root's list."""

    authority: CrlAuthority
    validity: int
    interval: int
    urls: StatusUrls | None

    @property
    def not_after(self) -> int:
        """Last second in which the authority can sign."""
        return int(self.authority.certificate.not_valid_after_utc.timestamp())


def signings_of(authorities: Authorities, settings: Settings) -> dict[str, Signing]:
    """How the lists of all authorities are signed whose key is here."""
    ca, urls = settings.ca, urls_of(settings)
    of_issuers = {
        name: Signing(authority=issuer, validity=ca.crl_validity, interval=ca.crl_interval, urls=urls)
        for name, issuer in authorities.issuers.items()
    }
    of_roots = {
        name: Signing(authority=root, validity=ROOT_VALIDITY, interval=ROOT_VALIDITY // 2, urls=None)
        for name, root in authorities.root_signers.items()
    }
    return of_issuers | of_roots


class CrlPublication:
    """The newest list of each partition."""

    def __init__(
        self,
        *,
        signings: Mapping[str, Signing],
        storage: StatusStorage,
        files: CrlFiles,
        around: Surroundings,
    ) -> None:
        self._signings = signings
        self._storage = storage
        self._files = files
        self._metrics = around.metrics
        self._log = around.log
        self._now = around.now
        self._backdate = around.backdate
        self._published: dict[ListKey, Published] = {}
        self._imported: set[ListKey] = set()
        self._numbers: dict[ListKey, int] = {}
        self._waiting: dict[ListKey, list[asyncio.Future[int | None]]] = {}
        self._tasks: dict[ListKey, asyncio.Task[None]] = {}
        self._pause: dict[ListKey, tuple[float, float]] = {}
        self._unwritten: set[ListKey] = set()
        self._trouble: dict[ListKey, Exception] = {}

    def sign_with(self, signings: Mapping[str, Signing]) -> None:
        """Sign the lists of these authorities from now on."""
        self._signings = signings

    def get(self, key: ListKey) -> Published | None:
        """The newest list of a partition."""
        return self._published.get(key)

    def items(self) -> list[Item]:
        """The newest list of each partition that is signed here, as something that ends."""
        return [
            Item.scheduled("crl", f"{issuer}/{partition}", one.this_update, one.next_update)
            for (issuer, partition), one in self._published.items()
            if issuer in self._signings
        ]

    def adopt(self, key: ListKey, published: Published, *, of_file: bool) -> None:
        """Serve a list that was found stored or as a file, unless a newer one is known; its number is used up."""
        self._numbers[key] = max(published.number, self._numbers.get(key, 0))
        known = self._published.get(key)
        if known is not None and known.number >= published.number:
            if not of_file and known.number == published.number:
                self._published[key] = published  # the stored form also tells what it covers
                self._imported.discard(key)
            return
        self._published[key] = published
        if of_file:
            self._imported.add(key)
            self._unwritten.discard(key)
        else:
            self._imported.discard(key)
            self._unwritten.add(key)

    async def renew(self, keys: Iterable[ListKey]) -> None:
        """Sign and publish these lists. What cannot be done is told by the log and by `trouble`, and tried again."""
        await asyncio.gather(*(self.covering(key) for key in keys))

    def covering(self, key: ListKey) -> asyncio.Future[int | None]:
        """The number of a list that covers all that is on record by now; None when it cannot be made at present."""
        waiter: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(waiter)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._work(key))
        return waiter

    def due(self, covered: Mapping[ListKey, int], wanted: Iterable[ListKey]) -> list[ListKey]:
        """The lists that have to be signed now: missing, aged, or without a revocation of `covered`."""
        keys = {*wanted, *covered, *self._published, *self._trouble}
        return sorted(key for key in keys if key[0] in self._signings and self._is_due(key, covered.get(key, 0)))

    def overdue(self) -> list[ListKey]:
        """The lists that we sign and that say themselves that there should be a newer one."""
        now = self._now()
        return [
            key
            for key, published in self._published.items()
            if key[0] in self._signings and published.next_update < now <= self._signings[key[0]].not_after
        ]

    def trouble(self) -> Exception | None:
        """Why a list could not be signed, stored or written lately, if one could not."""
        return next(iter(self._trouble.values()), None)

    async def write_files(self) -> None:
        """Write the lists whose files are missing or old."""
        for key in sorted(self._unwritten):
            await self._write(key, self._published[key])

    async def finish(self) -> None:
        """Wait until what was begun is published."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    def show(self) -> None:
        """Tell numbers and next updates."""
        ours = [published for key, published in self._published.items() if key[0] in self._signings]
        self._metrics.show_lists([one.number for one in ours], [one.next_update for one in ours])

    def _is_due(self, key: ListKey, newest: int) -> bool:
        signing, published, now = self._signings[key[0]], self._published.get(key), self._now()
        if now > signing.not_after:
            self._trouble.pop(key, None)
            return False
        if published is None or key in self._trouble or key in self._imported or published.covered < newest:
            return True
        if signing.urls is not None and signing.urls.crl(*key) not in published.urls:
            return True
        aged = published.this_update + self._backdate + signing.interval
        # A list from the future was signed while the clock was wrong: relying parties refuse it until then.
        return not published.this_update <= now < min(aged, published.next_update)

    async def _work(self, key: ListKey) -> None:
        try:
            while key in self._waiting:
                await self._stand_back(key)
                waiting = self._waiting.pop(key)
                number = await self._try(key)
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(number)
        finally:
            del self._tasks[key]

    async def _stand_back(self, key: ListKey) -> None:
        ended, pause = self._pause.get(key, (0.0, 0.0))
        left = ended + pause - time.monotonic()
        if left > 0:
            await asyncio.sleep(min(left, MAX_DELAY_SECONDS))

    async def _try(self, key: ListKey) -> int | None:
        started = time.monotonic()
        try:
            published = await self._signed(key)
            await self._storage.store_crl(key, published)
        except Exception as error:  # noqa: BLE001 - told and tried again; who revoked is told that it lags
            self._note(key, error)
            return None
        finally:
            ended = time.monotonic()
            self._pause[key] = (ended, min(MAX_DELAY_SECONDS, PAUSE_PER_SIGNING * (ended - started)))
        self._numbers[key] = published.number
        self._trouble.pop(key, None)
        await self._write(key, published)
        self._published[key] = published
        self._imported.discard(key)
        self._metrics.crls["ok"]()
        self.show()
        return published.number

    async def _signed(self, key: ListKey) -> Published:
        signing, before, now = self._signings[key[0]], self._published.get(key), self._now()
        this_update = now - self._backdate
        # A list before that is later than this one was signed while the clock was ahead: nothing has expired since.
        since = 0 if before is None else min(before.this_update, this_update)
        contents = await self._storage.contents(key, since)
        urls = () if signing.urls is None else crl.merged_urls(signing.urls.crl(*key), before.urls if before else ())
        unsigned = Published(
            der=b"",
            number=crl.next_number([self._numbers.get(key, 0)], now),
            this_update=this_update,
            next_update=now + signing.validity,
            covered=contents.covered,
            urls=urls,
        )
        if len(contents.entries) < LARGE:
            return self._sign(signing.authority, unsigned, contents)
        return await asyncio.to_thread(self._sign, signing.authority, unsigned, contents)

    def _sign(self, authority: CrlAuthority, unsigned: Published, contents: ListContents) -> Published:
        started = time.monotonic_ns()
        der = crl.sign(
            authority,
            Scope(unsigned.urls),
            contents.entries,
            unsigned.number,
            unsigned.this_update,
            unsigned.next_update,
        )
        self._metrics.sign.record(time.monotonic_ns() - started)
        return replace(unsigned, der=der)

    async def _write(self, key: ListKey, published: Published) -> None:
        try:
            await asyncio.to_thread(self._files.publish, *key, published.der)
        except StorageUnavailable as error:
            self._unwritten.add(key)
            self._log.warning("a revocation list is served but not written as a file", error=str(error))
        else:
            self._unwritten.discard(key)

    def _note(self, key: ListKey, error: Exception) -> None:
        if key not in self._trouble:
            known = isinstance(error, StorageUnavailable)
            self._log.warning(
                "a revocation list could not be signed",
                issuer=key[0],
                partition=key[1],
                error=str(error),
                exc_info=None if known else error,
            )
        self._trouble[key] = error
        self._metrics.crls["error"]()
