"""Revocation and certificate status as a service: revoke, lists, OCSP, issuer certificates.

The commit order of a revocation, and what a crash after each step leaves behind:

    1. decide           nothing is on record, nothing is promised
    2. store            durable: the revocation. From here on it is for ever, told or not
    3. drop             no OCSP answer that was signed before is given any more
    4. sign, store and publish the list (crl_publication.py); after a crash the next start does it
    5. reply            with the number of that list, or without one when signing lags

Rules:
- What a published list says stays so, whatever database was restored: at each start every list in DATA_DIR/ca/crl that
  one of our authorities signed is read, and what it revokes and the record does not know is put on record, durably,
  before anything is answered.
- Answers about what is not on record are short-lived and not kept: it may be issued tomorrow.
- The answer to an OCSP request is looked up, signed and kept without giving up the event loop in between: no revocation
  can come in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from services.ca.inventory.expiry import Item
from services.ca.messages import Refusal
from services.ca.serials import parse_serial, serial_text
from services.ca.status import ocsp, revocation
from services.ca.status.authorities import Authorities
from services.ca.status.crl_publication import CrlPublication, Signing
from services.ca.status.messages import (
    MAX_CRL_PART_OCTETS,
    CrlDocument,
    GetCrl,
    GetIssuerCertificate,
    IssuerCertificate,
    OcspAnswer,
    OcspQuery,
    Revoke,
    Revoked,
)
from services.ca.status.ocsp import Answer, CertId, Failure, IssuerHashes, Outcome, Responder, Status, Unanswerable
from services.ca.status.ocsp_cache import AnswerCache
from services.ca.status.responders import Responders
from services.ca.status.revocation import Revocable, Revocation
from services.ca.status.storage import StatusStorage
from services.ca.status.surroundings import Surroundings
from services.errors import ProbeCause, ProbeFailed, StorageUnavailable, Unavailable
from services.rpc_server import Call

ACKNOWLEDGED_WITHIN_SECONDS: Final = 3.0
ROUND_SECONDS: Final = 10.0
SETTLING_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
SIGNED_AHEAD: Final = 200
UNKNOWN_LIFETIME: Final = 300
_WORST_FIRST: Final = ("revoked", "unknown", "good")
_PROBED_SERIAL: Final = 1  # serial numbers here have 128 bits: this one is not on record


class CertificateStatusService:
    """Answers `revoke`, `crl`, `ocsp` and `issuer_certificate` of `messages`. `answer_lifetime` is in seconds."""

    def __init__(
        self,
        *,
        authorities: Authorities,
        storage: StatusStorage,
        publication: CrlPublication,
        responders: Responders,
        around: Surroundings,
        counting_refusals: Callable[[], AbstractContextManager[None]],
        answer_lifetime: int,
    ) -> None:
        self._authorities: Authorities
        self._storage = storage
        self._publication = publication
        self._responders = responders
        self._metrics = around.metrics
        self._log = around.log
        self._now = around.now
        self._backdate = around.backdate
        self._counting_refusals = counting_refusals
        self._answer_lifetime = answer_lifetime
        self._cache = AnswerCache()
        self._named: dict[IssuerHashes, tuple[str, ...]]
        self._know(authorities)
        self._due = asyncio.Event()
        self._settled = False
        self._revoking: set[asyncio.Task[Any]] = set()
        self._background: asyncio.Task[None] | None = None

    def adopt(self, authorities: Authorities, signings: Mapping[str, Signing]) -> None:
        """Answer for these authorities from now on; the lists of new ones are signed at once."""
        self._know(authorities)
        self._publication.sign_with(signings)
        self._responders.speak_for(authorities.issuers)
        self._due.set()

    def _know(self, authorities: Authorities) -> None:
        self._authorities = authorities
        self._named = {}
        for name, issuer in authorities.issuers.items():
            for hashes in ocsp.hashes_of(issuer.certificate):
                self._named[hashes] = (*self._named.get(hashes, ()), name)

    async def start(self) -> None:
        """Sign the lists that are due, and go on doing so. What a full disk prevents is done later."""
        await self._renew_lists(await self._storage.newest_revocations())
        with suppress(StorageUnavailable):
            await self._publication.write_files()
        self._background = asyncio.get_running_loop().create_task(self._keep())

    async def revoke(self, request: Revoke, call: Call) -> Revoked:
        """Revoke a certificate for ever. Raises Refusal; StorageUnavailable when nothing was acknowledged."""
        with self._metrics.request("revoke"), self._counting_refusals():
            task = asyncio.get_running_loop().create_task(self._revoke(request, call.trace))
            self._revoking.add(task)
            task.add_done_callback(self._revoking.discard)
            return await asyncio.shield(task)

    async def crl(self, request: GetCrl, _call: Call) -> CrlDocument:
        """A part of the newest list. Raises Refusal("not-found")."""
        with self._metrics.request("crl"), self._counting_refusals():
            found = self._publication.get((request.issuer, request.partition))
            if found is None:
                raise Refusal("not-found", "issuer", "there is no revocation list of this issuer and partition")
            return CrlDocument(
                der=found.der[request.offset : request.offset + MAX_CRL_PART_OCTETS],
                size=len(found.der),
                number=found.number,
                this_update=found.this_update,
                next_update=found.next_update,
            )

    async def ocsp(self, request: OcspQuery, _call: Call) -> OcspAnswer:
        """The answer to an OCSP request, whatever it holds."""
        with self._metrics.request("ocsp"):
            outcome, answer = await self._answered(request.request)
            self._metrics.answers[outcome]()
            return OcspAnswer(
                der=answer.der,
                this_update=answer.this_update,
                next_update=answer.next_update,
                produced_at=answer.produced_at,
            )

    async def issuer_certificate(self, request: GetIssuerCertificate, _call: Call) -> IssuerCertificate:
        """The certificate of an authority. Raises Refusal("not-found")."""
        with self._metrics.request("issuer_certificate"), self._counting_refusals():
            certificate = self._authorities.certificate(request.issuer)
            if certificate is None:
                raise Refusal("not-found", "issuer", "there is no issuer with this serial number")
            return IssuerCertificate(der=certificate.public_bytes(serialization.Encoding.DER))

    def certificates(self) -> Mapping[str, x509.Certificate]:
        """The certificates of all authorities by name, as they are now."""
        return self._authorities.certificates()

    def items(self) -> list[Item]:
        """Lists and responders, for the expiry radar."""
        return [*self._publication.items(), *self._responders.items()]

    async def keep_up(self) -> None:
        """Do everything that time has made due: lists, their files, responders, answers. What fails is tried again."""
        try:
            await self._renew_lists({})
            await self._publication.write_files()
            await self._responders.renew()
            await self._sign_ahead()
        except Unavailable as error:
            self._log.warning("status is not kept up to date", error=str(error))
        except Exception as error:  # noqa: BLE001 - tried again; the probe judges what comes of it
            self._log.error("status is not kept up to date", exc_info=error)
        self._settled = True

    async def probe(self) -> None:
        """No list may be overdue, and an OCSP answer must verify. Raises ProbeFailed, StorageUnavailable."""
        if overdue := self._publication.overdue():
            await self._publication.renew(overdue)
        if overdue := self._publication.overdue():
            trouble = self._publication.trouble()
            cause: ProbeCause = "environment" if isinstance(trouble, StorageUnavailable) else "own"
            issuer, partition = overdue[0]
            raise ProbeFailed(cause, f"the revocation list {issuer}/{partition} is overdue: {trouble or 'not signed'}")
        # Responders are made a moment after the start: the callers of a killed authority wait for certificates.
        for name in self._authorities.issuers_at(self._now()) if self._settled else ():
            await self._probe_responder(name)

    async def finish(self) -> None:
        """Wait until what was begun to be revoked is on record and published."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait((self._background,))
        while self._revoking:
            await asyncio.wait(tuple(self._revoking))
        await self._publication.finish()

    async def _revoke(self, request: Revoke, trace: str) -> Revoked:
        serial = serial_text(parse_serial(request.serial))
        wanted = revocation.decide(
            self._revocable(serial), request.reason, request.proof, request.requester, trace, self._now()
        )
        # Before anybody is told: a revocation that was acknowledged must be here after any crash.
        counts = await self._storage.revoke(wanted)
        self._cache.drop(int(serial, 16))
        if counts != wanted:
            return self._revoked_before(counts, trace)
        self._metrics.revoked[wanted.reason]()
        number = await self._listed(wanted)
        self._log.info("revoked", serial=serial, reason=wanted.reason, requester=wanted.requester, crl_number=number)
        return Revoked(serial=serial, revoked_at=wanted.revoked_at, reason=wanted.reason, crl_number=number)

    def _revoked_before(self, counts: Revocation, trace: str) -> Revoked:
        """The answer to a call that is sent again because its first answer was lost. Raises Refusal for all others."""
        if not trace or trace != counts.trace:
            raise Refusal(
                "already-revoked", "serial", f"it was revoked at {_date(counts.revoked_at)}, reason: {counts.reason}"
            )
        return Revoked(serial=counts.serial, revoked_at=counts.revoked_at, reason=counts.reason, crl_number=None)

    def _revocable(self, serial: str) -> Revocable:
        found = self._storage.on_record(serial)
        if found is not None:
            place = self._authorities.partition(int(serial, 16), found.certificate)
            return Revocable(serial, found.issuer, place, found.not_after, found.certificate)
        below = self._authorities.revocable_authority(serial)
        if below is None:
            raise Refusal("not-found", "serial", f"no certificate with the serial number {serial} was issued here")
        return below

    async def _listed(self, revoked: Revocation) -> int | None:
        """The number of the list that tells it; None when that takes too long."""
        if self._authorities.signer(revoked.issuer) is None:
            self._log.warning("revoked by an authority whose key is not here: sign its list where the key is")
            return None
        try:
            async with asyncio.timeout(ACKNOWLEDGED_WITHIN_SECONDS):
                return await self._publication.covering((revoked.issuer, revoked.partition))
        except TimeoutError:
            return None

    async def _answered(self, request: bytes) -> tuple[Outcome, Answer]:
        try:
            asked, *more = ocsp.questions(request)
            issuers = self._issuers_named(asked)
            if more:
                return await self._signed_together([asked, *more], issuers)
            kept = self._cache.get(asked, self._now())
            if kept is not None:
                self._metrics.hits()
                return kept
            return await self._signed(asked, issuers)
        except Unanswerable as error:
            return error.failure, _failure(error.failure)
        except Unavailable as error:
            self._log.warning("an OCSP request could not be answered", error=str(error))
            return "try_later", _failure("try_later")

    def _issuers_named(self, asked: CertId) -> tuple[str, ...]:
        """The issuers with this name and key, the one that signs last: it has to be valid."""
        named = self._named.get(IssuerHashes(asked.digest, asked.issuer_name_hash, asked.issuer_key_hash), ())
        now = self._now()
        signing = [name for name in named if self._authorities.issuers[name].validity.covers(now)]
        if not signing:
            raise Unanswerable("unauthorized", "its issuer is not here, or not valid now")
        return (*(name for name in named if name != signing[-1]), signing[-1])

    async def _signed(self, asked: CertId, issuers: tuple[str, ...]) -> tuple[Outcome, Answer]:
        responder = await self._responders.get(issuers[-1])
        status = self._storage.status(issuers, serial_text(asked.serial))
        answer = self._answer([(asked, status)], responder)
        if status.outcome != "unknown":
            self._cache.put(asked, status.outcome, answer, self._now())
            self._metrics.cached.set(len(self._cache))
        return status.outcome, answer

    async def _signed_together(self, asked: list[CertId], issuers: tuple[str, ...]) -> tuple[Outcome, Answer]:
        """One answer about several certificates, signed for who asks: it counts as what is worst in it."""
        if any(self._issuers_named(one) != issuers for one in asked):
            raise Unanswerable("unauthorized", "it asks about certificates of several issuers, who sign for themselves")
        responder = await self._responders.get(issuers[-1])
        answered = [(one, self._storage.status(issuers, serial_text(one.serial))) for one in asked]
        outcomes = {status.outcome for _, status in answered}
        worst: Outcome = next(outcome for outcome in _WORST_FIRST if outcome in outcomes)
        return worst, self._answer(answered, responder)

    def _answer(self, answered: list[tuple[CertId, Status]], responder: Responder) -> Answer:
        lifetime = self._answer_lifetime
        if any(status.outcome == "unknown" for _, status in answered):
            lifetime = min(lifetime, UNKNOWN_LIFETIME)
        return ocsp.answer_all(answered, responder, self._now(), backdate=self._backdate, lifetime=lifetime)

    async def _probe_responder(self, name: str) -> None:
        issuer = self._authorities.issuers[name].certificate
        named = ocsp.hashes_of(issuer)[0]
        asked = ocsp.parse(ocsp.request_for(named, _PROBED_SERIAL))
        responder = await self._responders.get(name)
        answer = self._answer([(asked, Status("unknown"))], responder)
        try:
            ocsp.verify(answer.der, asked, issuer, self._now())
        except InvalidSignature as error:
            raise ProbeFailed("own", f"an OCSP answer does not verify: {error}") from None

    async def _keep(self) -> None:
        """Ends only by being cancelled."""
        pause = SETTLING_SECONDS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), pause)
            self._due.clear()
            await self.keep_up()
            pause = RETRY_SECONDS if self._publication.trouble() is not None else ROUND_SECONDS

    async def _renew_lists(self, newest: Mapping[tuple[str, int], int]) -> None:
        wanted = self._authorities.lists_at(self._now())
        await self._publication.renew(self._publication.due(newest, wanted))
        self._publication.show()

    async def _sign_ahead(self) -> None:
        for asked in self._cache.to_sign_ahead(self._now(), SIGNED_AHEAD):
            await self._signed(asked, self._issuers_named(asked))
            await asyncio.sleep(0)


def _failure(kind: Failure) -> Answer:
    return Answer(ocsp.failure(kind), 0, 0, 0)


def _date(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
