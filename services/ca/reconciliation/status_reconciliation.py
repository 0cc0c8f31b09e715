"""Revocations on record against what revocation lists and OCSP answers say. Pure: octets and time are arguments.

Rules:
- A list is judged by what was on record when it was signed: `covered` is the newest revocation that its signer looked
  at. What is newer is pending, which contradicts nothing until the list is overdue.
- An entry may leave a list after it was in one that was signed after the certificate's last second (RFC 5280, section
  3.3): a revocation of an expired certificate need not be in it.
- What a list says is for ever, so that an entry without a revocation on record means that the record was put back.
- Memory: the entries of one list at a time, about 250 octets each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from services.ca.messages import RevocationReason
from services.ca.reconciliation.contradictions import Finding, Note, Observation, digests, of_serial
from services.ca.serials import serial_text
from services.ca.status import crl, ocsp
from services.ca.status.crl import Entry, UnreadableCrl
from services.ca.status.ocsp import CertId, Status


@dataclass(frozen=True, slots=True)
class Recorded:
    """One revocation on record; `id` orders them. Times are seconds since the Unix epoch."""

    id: int
    serial: str
    revoked_at: int
    reason: RevocationReason
    not_after: int

    @property
    def needed_until(self) -> int:
        """A list that is signed later than this may leave it out."""
        return max(self.revoked_at, self.not_after)


@dataclass(frozen=True, slots=True)
class ListOnRecord:
    """The newest list of a partition as the record has it. `covered` is the newest revocation that it tells."""

    issuer: str
    partition: int
    number: int
    covered: int
    der: bytes

    @property
    def subject(self) -> str:
        """What findings about it are about."""
        return f"list {self.issuer}-{self.partition}"


def of_list(
    stored: ListOnRecord, authority: x509.Certificate | None, recorded: Iterable[Recorded], now: int
) -> Iterator[Observation]:
    """Compare a list with the revocations of its partition that are on record."""
    seen = digests(crl=stored.der)
    if authority is None:
        yield Finding("crl_invalid", stored.subject, "its authority is not here", seen)
        return
    try:
        published, _ = crl.read(stored.der, authority)
        listed = {entry.serial: entry for entry in crl.entries(stored.der)}
    except UnreadableCrl as error:
        yield Finding("crl_invalid", stored.subject, str(error)[:400], seen)
        return
    if published.number != stored.number:
        yield Finding("crl_invalid", stored.subject, f"it has number {published.number}, not {stored.number}", seen)
    if published.next_update < now:
        yield Note("crl_overdue", stored.subject, f"a newer one was due at {published.next_update}")
    for one in recorded:
        entry = listed.pop(int(one.serial, 16), None)
        if entry is not None:
            yield from _entry_of(stored, entry, one)
        elif one.id > stored.covered:
            yield Note("revocation_pending", of_serial(one.serial), f"not yet in {stored.subject}")
        elif one.needed_until >= published.this_update:
            text = f"revoked at {one.revoked_at}, and {stored.subject} number {stored.number} does not say so"
            yield Finding("revocation_untold", of_serial(one.serial), text, seen)
    for serial in listed:
        text = f"{stored.subject} number {stored.number} says it is revoked, and the record does not"
        yield Finding("revocation_unrecorded", of_serial(serial_text(serial)), text, seen)


def of_file(
    stored: ListOnRecord | None, subject: str, der: bytes, authority: x509.Certificate
) -> Iterator[Observation]:
    """Compare a published file with the list on record: a file that is newer means that the record was put back."""
    seen = digests(file=der, crl=None if stored is None else stored.der)
    try:
        published, _ = crl.read(der, authority)
    except UnreadableCrl as error:
        yield Finding("crl_invalid", subject, f"the published file: {error}"[:400], seen)
        return
    if stored is not None and published.number == stored.number and published.der != stored.der:
        yield Finding("crl_invalid", subject, f"two lists have the number {stored.number}", seen)
    elif published.number > (0 if stored is None else stored.number):
        known = "none" if stored is None else str(stored.number)
        text = f"the published file has number {published.number}, the newest on record is {known}"
        yield Finding("crl_invalid", subject, text, seen)


def of_answer(der: bytes, asked: CertId, issuer: x509.Certificate, status: Status, now: int) -> Iterator[Finding]:
    """Compare an OCSP answer with what is on record about the serial number."""
    subject, seen = of_serial(serial_text(asked.serial)), digests(ocsp=der)
    try:
        said = ocsp.verify(der, asked, issuer, now)
    except InvalidSignature as error:
        yield Finding("ocsp_differs", subject, f"the answer does not verify: {error}"[:400], seen)
        return
    if said != status.outcome:
        yield Finding("ocsp_differs", subject, f"the answer is {said}, the record says {status.outcome}", seen)


def _entry_of(stored: ListOnRecord, entry: Entry, one: Recorded) -> Iterator[Finding]:
    if (entry.revoked_at, entry.reason) != (one.revoked_at, one.reason):
        listed = f"{entry.reason} at {entry.revoked_at}"
        text = f"{stored.subject} says {listed}, the record says {one.reason} at {one.revoked_at}"
        yield Finding("revocation_differs", of_serial(one.serial), text, digests(crl=stored.der))
