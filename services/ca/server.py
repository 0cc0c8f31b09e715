"""The certificate authority as a service: receive, decide, store, reply.

The commit order of issuance, and what a crash after each step leaves behind:

    1. decide         what is to be signed exists, and the lint has nothing to say of it; nothing is on record
    2. reserve        durable: the serial number and all that will be signed; signed is nothing yet
    3. precertificate signed; nobody has seen it
    4. log            durable at the log, which promises it; its timestamp was verified. Here the row is `reserved`
    5. certificate    signed, compared with the precertificate and looked at by the lint; nobody has seen it
    6. store          durable: the certificate, its precertificate, timestamp and leaf index; the row is `issued`
    7. reply          the only step that promises anything

Rules:
- Two fsyncs here, one at the log. The precertificate is not stored before step 6: after a crash between 4 and 6 the log
  itself holds it, under a serial number that is on record, which is how it is found again.
- From step 2 on the work is finished even when its caller goes away: a certificate that was signed gets on record.
- What the lint, the comparison or the verification of a signature objects to after step 3 is `quarantined`: on record
  with its findings, given to nobody. Before step 2 nothing is kept; if the request is at fault it is refused.
- A refusal stores nothing. A full or failing disk is StorageUnavailable, a log that does not answer Unavailable: the
  caller may try again. A profile without transparency skips steps 3 and 4.
- Everything runs on the event loop: deciding takes 0.3 to 2 ms, a look 0.2 ms, signing and verifying 0.1 ms (P-256) to
  1 ms (RSA-3072), and the library holds the interpreter's lock while it does, so that a thread would gain nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from config.profile_schema import HierarchyKind
from monitoring.metrics import Histogram
from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy, Issuer, Root
from services.ca.installation import Installation
from services.ca.inventory import listing
from services.ca.inventory.expiry import Item
from services.ca.inventory.messages import ExpiryKind
from services.ca.issuance import issuance, trial
from services.ca.issuance.certification import Certified, Certifier, Draft, Objection
from services.ca.issuance.issuance import Decision
from services.ca.issuance.rules import Rules
from services.ca.issuance.transparency import LogFault, TransparencyLog
from services.ca.lint.findings import Finding
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
from services.ca.policy.profile import IssuerNotValid
from services.ca.serials import new_serial, parse_serial, serial_text
from services.ca.storage import Issued, Reservation
from services.errors import Internal, ProbeFailed, Unavailable
from services.rpc_server import Call

P = ParamSpec("P")
T = TypeVar("T")


class CertificateAuthority:
    """Answers the methods of `messages`. `now` gives seconds since the Unix epoch."""

    def __init__(
        self,
        *,
        installation: Installation,
        rules: Rules,
        transparency: TransparencyLog,
        metrics: AuthorityMetrics,
        log: Any,
        now: Callable[[], int],
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._storage = installation.storage
        self._rules = rules
        self._transparency = transparency
        self._metrics = metrics
        self._log = log
        self._now = now
        self._random_octets = random_octets
        self._issuers: Mapping[HierarchyKind, Issuer]
        self._certifiers: Mapping[HierarchyKind, Certifier]
        self._issue_with(installation.hierarchy)
        self._unfinished = 0
        self._quarantined = 0
        self._finishing: set[asyncio.Task[Any]] = set()

    @property
    def hierarchy(self) -> Hierarchy:
        """All roots and issuers, as they are now."""
        return self._hierarchy

    def adopt(self, hierarchy: Hierarchy) -> None:
        """Issue with this hierarchy from now on. What is in flight is finished with the issuer that it began with."""
        self._issue_with(hierarchy)
        self._metrics.show_expiry(hierarchy, self._now())

    def _issue_with(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._issuers = {kind: hierarchy.active(kind) for kind in hierarchy.kinds}
        self._certifiers = {kind: Certifier(issuer) for kind, issuer in self._issuers.items()}
        self._transparency.trust(hierarchy.anchors())

    def start(self) -> None:
        """Show the state that was found, and begin to introduce the authority to the log."""
        self._metrics.show_expiry(self._hierarchy, self._now())
        self._count_unfinished(self._storage.unfinished())
        if self._unfinished:
            self._log.info("serial numbers are on record without a certificate", count=self._unfinished)
        self._quarantined = self._storage.quarantined()
        self._metrics.quarantined.set(self._quarantined)
        if self._quarantined:
            self._log.error("certificates are quarantined", count=self._quarantined)
        self._transparency.start()

    async def try_profiles(self) -> None:
        """Try every profile, between the calls that come. Raises ConfigurationError for one that cannot be used."""
        for _ in trial.trials(self._rules, self._issuers):
            await asyncio.sleep(0)

    async def issue(self, request: IssueRequest, call: Call) -> Certificate:
        """Issue one certificate.

        Raises Refusal; Unavailable (StorageUnavailable) when it may be tried again; Internal when a lint objects.
        """
        with self._metrics.request():
            decision = self._decide(request)
            certifier = self._certifiers[decision.profile.hierarchy]
            draft = self._draft(certifier, decision)
            if decision.profile.transparency:
                await self._log_is_ready()
            return await self._finish(self._commit(certifier, draft, call.trace))

    def _decide(self, request: IssueRequest) -> Decision:
        serial = new_serial(self._random_octets)
        try:
            with self._metrics.counting_refusals():
                return issuance.decide(request, self._rules, self._issuers, self._now(), serial)
        except Refusal as refusal:
            self._log.info("refused", reason=str(refusal), requester=request.requester)
            raise
        except IssuerNotValid as error:
            raise Unavailable(self._trouble() or str(error)) from error

    def _draft(self, certifier: Certifier, decision: Decision) -> Draft:
        """What is to be signed, when the lint has nothing to say of it."""
        try:
            with self._metrics.counting_refusals():
                return self._signing(certifier.draft, decision)
        except Refusal as refusal:
            self._log.warning("refused by the lint", reason=str(refusal), requester=decision.requester)
            raise
        except Objection as objection:
            self._log.error(
                "nothing was signed: the lint objects to what was to be",
                profile=decision.profile.name,
                findings=objection.findings,
            )
            raise Internal(f"the certificate would break a rule, and was not signed: {objection}") from objection

    async def _log_is_ready(self) -> None:
        try:
            await self._transparency.ready()
        except LogFault as fault:
            raise Unavailable(str(fault)) from fault

    async def _commit(self, certifier: Certifier, draft: Draft, trace: str) -> Certificate:
        reservation = self._reservation(draft.decision)
        # Before anything is signed: a certificate that nobody knows of cannot be revoked, and a serial number that is
        # not on record could be used again.
        row = await self._timed(self._metrics.storage["reserve"], self._storage.reserve(reservation))
        self._count_unfinished(self._unfinished + 1)
        try:
            made = await self._certified(certifier, draft, trace)
        except Objection as objection:
            await self._quarantine(row, reservation, objection)
            raise Internal(f"the certificate {reservation.serial} breaks a rule: {objection}") from objection
        issued_at = self._now()
        # Before anybody is told: what a client holds must be here after any crash.
        await self._timed(
            self._metrics.storage["store"], self._storage.store(row, made.certificate, issued_at, made.logged)
        )
        self._count_unfinished(self._unfinished - 1)
        self._metrics.issued[reservation.profile]()
        self._log.info(
            "issued",
            serial=reservation.serial,
            names=reservation.names,
            profile=reservation.profile,
            requester=reservation.requester,
            not_after=reservation.not_after,
            leaf_index=None if made.logged is None else made.logged.leaf_index,
        )
        return self._message(_issued(reservation, made, issued_at))

    async def _certified(self, certifier: Certifier, draft: Draft, trace: str) -> Certified:
        """Sign and log. Raises Objection, and Unavailable when the log does not answer."""
        if not draft.decision.profile.transparency:
            return self._signing(certifier.plain, draft)
        made = self._signing(certifier.precertificate, draft)
        try:
            promise = await self._timed(
                self._metrics.log,
                self._transparency.add(certifier.chain(made), certifier.key_hash, made.logged, trace),
            )
        except LogFault as fault:
            raise Objection([Finding("timestamps", str(fault))], precertificate=made.certificate) from fault
        return self._signing(certifier.certificate, made, promise.serialized, promise.leaf_index)

    def _signing(self, step: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        started = time.monotonic_ns()
        try:
            return step(*arguments, **named)
        except Objection as objection:
            for finding in objection.findings:
                self._metrics.found[finding.rule]()
            raise
        finally:
            self._metrics.sign.record(time.monotonic_ns() - started)

    async def _quarantine(self, row: int, reservation: Reservation, objection: Objection) -> None:
        self._log.error(
            "quarantined: signed, found wrong, and given to nobody",
            serial=reservation.serial,
            profile=reservation.profile,
            findings=objection.findings,
        )
        await self._storage.quarantine(row, objection.quarantined)
        self._count_unfinished(self._unfinished - 1)
        self._quarantined += 1
        self._metrics.quarantined.set(self._quarantined)

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
            return Roots(certificates=[*map(_pem, self._hierarchy.trusted())])

    def items(self) -> Iterable[Item]:
        """The authority's own certificates, for the expiry radar: those in use are to be rotated in time."""
        for root in self._hierarchy.roots.values():
            yield _item("root", root)
        for issuer in self._hierarchy.issuers.values():
            yield _item("intermediate", issuer)

    async def probe(self) -> None:
        """Issue nothing, but do all that issuing needs: a valid issuer, a signature that verifies, a durable write, a
        log that answers.
        """
        if trouble := self._trouble():
            raise ProbeFailed("environment", trouble)
        for issuer in self._issuers.values():
            try:
                hierarchy.prove(issuer)
            except InvalidSignature:
                raise ProbeFailed("own", "a signature by the intermediate key does not verify") from None
        await self._storage.probe()
        await self._transparency.probe()

    async def finish(self) -> None:
        """Wait until what was begun to be committed is on record."""
        while self._finishing:
            await asyncio.wait(self._finishing)

    async def close(self) -> None:
        """Let go of the log and close the record."""
        await self._transparency.close()
        await self._storage.close()

    def _reservation(self, decision: Decision) -> Reservation:
        return Reservation(
            serial=serial_text(decision.serial),
            issuer=decision.issuer.id,
            profile=decision.profile.name,
            subject=decision.subject.rfc4514_string(),
            names=tuple(name.text for name in decision.names),
            requester=decision.requester,
            not_before=decision.validity.not_before,
            not_after=decision.validity.not_after,
            reserved_at=self._now(),
        )

    def _message(self, issued: Issued) -> Certificate:
        return Certificate(
            serial=issued.serial,
            certificate=ssl.DER_cert_to_PEM_cert(issued.certificate),
            chain=[*self._chain(issued.issuer)],
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

    def _chain(self, issuer_id: str) -> Iterable[str]:
        issuer = self._hierarchy.issuers.get(issuer_id)
        return () if issuer is None else map(_pem, issuer.chain_at(self._now()))

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

    async def _timed(self, series: Histogram, work: Coroutine[Any, Any, T]) -> T:
        started = time.monotonic_ns()
        result = await work
        series.record(time.monotonic_ns() - started)
        return result

    def _count_unfinished(self, count: int) -> None:
        self._unfinished = count
        self._metrics.unfinished.set(count)

    def _trouble(self) -> str | None:
        return next(filter(None, (issuer.trouble(self._now()) for issuer in self._issuers.values())), None)


@lru_cache(maxsize=256)
def _pem(certificate: x509.Certificate) -> str:
    return certificate_pem(certificate).decode("ascii")


def _issued(reservation: Reservation, made: Certified, issued_at: int) -> Issued:
    return Issued(
        serial=reservation.serial,
        issuer=reservation.issuer,
        profile=reservation.profile,
        subject=reservation.subject,
        names=reservation.names,
        not_before=reservation.not_before,
        not_after=reservation.not_after,
        issued_at=issued_at,
        certificate=made.certificate,
        logged=made.logged,
    )


def _item(kind: ExpiryKind, authority: Root | Issuer) -> Item:
    if authority.state == "active":
        return Item.of_certificate(kind, authority.certificate)
    name = authority.certificate.subject.rfc4514_string()
    return Item(kind=kind, name=name, not_after=authority.validity.not_after, serial=authority.id)
