"""The certificate authority as a service: receive, decide, store, reply.

The commit order of issuance, and what a crash after each step leaves behind:

    1. decide         nothing is on record, nothing is promised
    2. reserve        durable: the serial number and all that will be signed; signed is nothing yet
    3. sign           a certificate that nobody has seen; its serial number is on record
    4. store          durable: the certificate
    5. reply          the only step that promises anything

Rules:
- From step 2 on the work is finished even when its caller goes away: a certificate that was signed gets on record.
- A refusal stores nothing. A full or failing disk is StorageUnavailable: the caller may try again.
- Everything runs on the event loop: deciding takes 0.2 to 2 ms, signing 0.2 ms (P-256) to 1 ms (RSA-3072), and the
  library holds the interpreter's lock while it does, so that a thread would add its cost and gain nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from config.schema import Ca
from services.ca import hierarchy, issuance, keys, listing
from services.ca.installation import Installation
from services.ca.issuance import Decision, Rules, new_serial, parse_serial, serial_text
from services.ca.messages import (
    Certificate,
    CertificatePage,
    CertificateStatus,
    GetCertificate,
    GetRoots,
    IssueRequest,
    ListCertificates,
    Refusal,
    Roots,
)
from services.ca.metrics import AuthorityMetrics
from services.ca.names import NamePolicy
from services.ca.profile import IssuerNotValid, Lifetimes
from services.ca.storage import Issued, Reservation
from services.errors import ConfigurationError, ProbeFailed, Unavailable
from services.rpc_server import Call

T = TypeVar("T")


class CertificateAuthority:
    """Answers the methods of `messages`. `now` gives seconds since the Unix epoch."""

    def __init__(
        self,
        *,
        installation: Installation,
        rules: Rules,
        metrics: AuthorityMetrics,
        log: Any,
        now: Callable[[], int],
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._hierarchy = installation.hierarchy
        self._storage = installation.storage
        self._rules = rules
        self._metrics = metrics
        self._log = log
        self._now = now
        self._random_octets = random_octets
        issuer = self._hierarchy.issuer
        self._issuer_serial = serial_text(issuer.certificate.serial_number)
        self._chains = {self._issuer_serial: [keys.pem(certificate).decode("ascii") for certificate in issuer.chain]}
        self._roots = Roots(certificates=[keys.pem(self._hierarchy.root).decode("ascii")])
        self._unfinished = 0
        self._finishing: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Show the state that was found."""
        self._metrics.show_expiry(self._hierarchy)
        self._count_unfinished(await self._storage.unfinished())
        if self._unfinished:
            self._log.info("serial numbers are on record without a certificate", count=self._unfinished)

    async def issue(self, request: IssueRequest, _call: Call) -> Certificate:
        """Issue one certificate. Raises Refusal; Unavailable (StorageUnavailable) when it may be tried again."""
        with self._metrics.request():
            return await self._finish(self._commit(self._decide(request)))

    def _decide(self, request: IssueRequest) -> Decision:
        serial = new_serial(self._random_octets)
        try:
            with self._metrics.counting_refusals():
                return issuance.decide(request, self._rules, self._hierarchy.issuer.validity, self._now(), serial)
        except Refusal as refusal:
            self._log.info("refused", reason=str(refusal), requester=request.requester)
            raise
        except IssuerNotValid as error:
            raise Unavailable(self._issuer_trouble() or str(error)) from error

    async def _commit(self, decision: Decision) -> Certificate:
        reservation = self._reservation(decision)
        # Before anything is signed: a certificate that nobody knows of cannot be revoked, and a serial number that is
        # not on record could be used again.
        row = await self._timed("reserve", self._storage.reserve(reservation))
        self._count_unfinished(self._unfinished + 1)
        certificate = self._sign(decision)
        issued_at = self._now()
        # Before anybody is told: what a client holds must be here after any crash.
        await self._timed("store", self._storage.store(row, certificate, issued_at))
        self._count_unfinished(self._unfinished - 1)
        self._metrics.issued[reservation.profile]()
        self._log.info(
            "issued",
            serial=reservation.serial,
            names=reservation.names,
            profile=reservation.profile,
            requester=reservation.requester,
            not_after=reservation.not_after,
        )
        return self._message(_issued(reservation, certificate, issued_at))

    async def get(self, request: GetCertificate, _call: Call) -> Certificate:
        """One certificate by serial number. Raises Refusal: malformed or not-found."""
        with self._metrics.query("get"), self._metrics.counting_refusals():
            serial = serial_text(parse_serial(request.serial))
            found = self._storage.get(serial)
            if found is None:
                raise Refusal("not-found", "serial", f"no certificate with the serial number {serial} was issued here")
            return self._message(found)

    async def list(self, request: ListCertificates, _call: Call) -> CertificatePage:
        """One page of certificates. Raises Refusal("malformed") for a bad cursor."""
        with self._metrics.query("list"), self._metrics.counting_refusals():
            page = await self._storage.page(listing.query(request, self._now()), request.limit)
            return CertificatePage(
                certificates=[self._message(issued) for issued in page.certificates], next_cursor=page.next_cursor
            )

    async def roots(self, _request: GetRoots, _call: Call) -> Roots:
        """The trust anchors."""
        with self._metrics.query("roots"):
            return self._roots

    async def probe(self) -> None:
        """Issue nothing, but do all that issuing needs: a valid issuer, a signature that verifies, a durable write."""
        if trouble := self._issuer_trouble():
            raise ProbeFailed("environment", trouble)
        try:
            hierarchy.prove(self._hierarchy.issuer)
        except InvalidSignature:
            raise ProbeFailed("own", "a signature by the intermediate key does not verify") from None
        await self._storage.probe()

    async def finish(self) -> None:
        """Wait until what was begun to be committed is on record."""
        while self._finishing:
            await asyncio.wait(self._finishing)

    async def close(self) -> None:
        """Close the record."""
        await self._storage.close()

    def _reservation(self, decision: Decision) -> Reservation:
        return Reservation(
            serial=serial_text(decision.serial),
            issuer=self._issuer_serial,
            profile=decision.profile.name,
            subject=decision.subject.rfc4514_string(),
            names=tuple(name.text for name in decision.names),
            requester=decision.requester,
            not_before=decision.validity.not_before,
            not_after=decision.validity.not_after,
            reserved_at=self._now(),
        )

    def _sign(self, decision: Decision) -> bytes:
        started = time.monotonic_ns()
        certificate = issuance.sign(decision, self._hierarchy.issuer)
        self._metrics.sign.record(time.monotonic_ns() - started)
        return certificate.public_bytes(serialization.Encoding.DER)

    def _message(self, issued: Issued) -> Certificate:
        return Certificate(
            serial=issued.serial,
            certificate=ssl.DER_cert_to_PEM_cert(issued.certificate),
            chain=self._chains.get(issued.issuer, []),
            not_before=issued.not_before,
            not_after=issued.not_after,
            profile=issued.profile,
            subject=issued.subject,
            names=list(issued.names),
            issued_at=issued.issued_at,
            status=self._status(issued),
            revoked_at=issued.revoked_at,
            revocation_reason=issued.reason,
        )

    def _status(self, issued: Issued) -> CertificateStatus:
        if issued.revoked_at is not None:
            return "revoked"
        return "valid" if self._now() <= issued.not_after else "expired"

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work to its end, whether or not the caller still waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._finishing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.warning("not issued", error=str(error))

    async def _timed(self, step: str, work: Coroutine[Any, Any, T]) -> T:
        started = time.monotonic_ns()
        result = await work
        self._metrics.storage[step].record(time.monotonic_ns() - started)
        return result

    def _count_unfinished(self, count: int) -> None:
        self._unfinished = count
        self._metrics.unfinished.set(count)

    def _issuer_trouble(self) -> str | None:
        """Why the intermediate cannot issue now, in the operator's terms."""
        validity, now = self._hierarchy.issuer.validity, self._now()
        if now > validity.not_after:
            return f"the intermediate certificate expired on {_date(validity.not_after)}: replace it"
        if now < validity.not_before:
            return (
                f"the intermediate certificate is valid from {_date(validity.not_before)} on, and the clock of this "
                f"host says {_date(now)}: set the clock"
            )
        return None


def rules_of(ca: Ca) -> Rules:
    """What settings let the authority issue. Raises ConfigurationError."""
    try:
        policy = NamePolicy.of(ca.allowed_names, ca.denied_names)
    except ValueError as error:
        raise ConfigurationError(f"ca.allowed_names or ca.denied_names: {error}") from error
    return Rules(ca.default_profile, Lifetimes(ca.default_validity, ca.max_validity, ca.backdate), policy)


def _issued(reservation: Reservation, certificate: bytes, issued_at: int) -> Issued:
    return Issued(
        serial=reservation.serial,
        issuer=reservation.issuer,
        profile=reservation.profile,
        subject=reservation.subject,
        names=reservation.names,
        not_before=reservation.not_before,
        not_after=reservation.not_after,
        issued_at=issued_at,
        certificate=certificate,
    )


def _date(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat()
