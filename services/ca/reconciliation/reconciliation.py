"""The record against the log, one certificate and one entry at a time. Pure: rows, entries and keys are arguments.

Both the reconciler of a running authority and the audit of its files compare by this file.

Rules:
- Nothing is kept between two comparisons, so that a million rows need no more memory than one page of them.
- `range_of` compares a range of the log with the rows that claim places in it; an entry that nobody claims is looked up
  by its serial number. Rows have to be read after the entries: a row is reserved before its entry exists, and never
  goes away while the entry's certificate is valid.
- The log is asked by many: entries of other authorities are none of our business, and our final certificates may be
  logged again by whoever has them. Anybody can also write an ECDSA signature in its other form, which verifies as well:
  two certificates with the same contents are one, whatever the octets of their signatures.
- A serial number that was reserved is no licence: what is in the log under it has to be what it was reserved for.
- Signatures are verified when `thorough`. Without it, what an authority signed and checked a moment ago is compared by
  its octets alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from cryptography import x509

from services.ca.keys.signing_keys import spki
from services.ca.reconciliation import certified
from services.ca.reconciliation.certified import Unreadable
from services.ca.reconciliation.contradictions import Finding, Note, Observation, digests, of_leaf, of_serial
from services.ca.serials import serial_text
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, SignedEntry, StructureError, X509Entry
from services.rfc6962.verifier import LogVerifier, SignatureRefused

State = Literal["reserved", "issued", "quarantined", "responder"]
STATES: Final = ("reserved", "issued", "quarantined", "responder")


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One serial number on record. Octets are DER, `sct` is a SignedCertificateTimestamp structure.

    `log_given_up`: its place was in a log that the operator gave up when he accepted the one that there is.
    """

    serial: str
    state: State
    issuer: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: int
    not_after: int
    issued_at: int | None
    certificate: bytes | None
    precertificate: bytes | None
    sct: bytes | None
    leaf_index: int | None
    log_given_up: bool = False

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"no row has the state {self.state!r}")


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """One entry of the log at its place. `timestamp` is in milliseconds since the Unix epoch."""

    index: int
    timestamp: int
    entry: SignedEntry
    extensions: bytes
    pre_certificate: bytes | None


Lookup = Callable[[str], RecordRow | None]
"""A row by its serial number."""


class Comparison:
    """What is compared with: the certificates of the issuers by their names, and the key of the log, if it is there.

    `unlogged_profiles` are those whose certificates are not logged. What was issued before `log_began`, in seconds
    since the Unix epoch, could not be. What ended before `complete_from` may have been deleted from the record. Rows of
    the first `entries_given_up` entries may be missing, because the operator accepted the record without them.
    """

    def __init__(
        self,
        authorities: Mapping[str, x509.Certificate],
        log: LogVerifier | None,
        unlogged_profiles: Collection[str] = (),
        log_began: int = 0,
        complete_from: int = 0,
        entries_given_up: int = 0,
    ) -> None:
        self._authorities = dict(authorities)
        self._log = log
        self._unlogged = frozenset(unlogged_profiles)
        self._log_began = log_began
        self._complete_from = complete_from
        self._entries_given_up = entries_given_up
        self._by_key = {sha256(spki(one.public_key())).digest(): name for name, one in self._authorities.items()}

    def knows(self, authorities: Mapping[str, x509.Certificate]) -> bool:
        """Whether it was made for the same authorities."""
        return self._authorities == dict(authorities)

    def range_of(
        self, entries: Sequence[LoggedEntry], rows: Iterable[RecordRow], lookup: Lookup, *, thorough: bool
    ) -> Iterator[Observation]:
        """Compare consecutive entries with all rows whose `leaf_index` is in their range."""
        claims: dict[int, list[RecordRow]] = {}
        for row in rows:
            if row.leaf_index is not None:
                claims.setdefault(row.leaf_index, []).append(row)
        for entry in entries:
            named = claims.pop(entry.index, [])
            claimants = [row for row in named if not _is_lost(row, entry)]
            if len(claimants) > 1:
                yield _leaf_twice(entry.index, claimants)
            for row in named:
                yield from self.claimed(row, entry, thorough=thorough)
            if not claimants:
                yield from self.unclaimed(entry, lookup)
        for index in sorted(claims):
            for row in claims[index]:
                yield from self.claimed(row, None, thorough=thorough)

    def claimed(self, row: RecordRow, entry: LoggedEntry | None, *, thorough: bool) -> Iterator[Observation]:
        """Compare a row that names a place in the log with the entry that is there; None if there is none."""
        if _is_lost(row, entry):
            yield _log_lost(row)
            yield from self.stored(row, thorough=thorough)
            return
        if entry is None:
            text = f"it names entry {row.leaf_index}, which the log does not have"
            yield Finding("unlogged", of_serial(row.serial), text, digests(certificate=row.certificate, sct=row.sct))
        try:
            certificate = None if row.certificate is None else certified.load(row.certificate)
        except Unreadable as error:
            yield _unreadable(row, error)
            return
        if certificate is None:
            if entry is not None:
                yield from _unfinished_logged(row, entry)
            return
        yield from self._stored(row, certificate, thorough=thorough)
        if entry is not None:
            yield from self._contents(row, certificate, entry)
            yield from self._timestamp(row, certificate, entry, thorough=thorough)

    def unclaimed(self, entry: LoggedEntry, lookup: Lookup) -> Iterator[Observation]:
        """Look at an entry whose place no row names."""
        if isinstance(entry.entry, X509Entry):
            yield from self._unclaimed_certificate(entry, entry.entry.certificate, lookup)
            return
        if entry.entry.issuer_key_hash not in self._by_key:
            return
        try:
            serial = serial_text(certified.serial_of_tbs(entry.entry.tbs_certificate))
        except Unreadable as error:
            yield Finding("log_damaged", of_leaf(entry.index), f"the contents cannot be read: {error}")
            return
        row = lookup(serial)
        seen = digests(tbs_certificate=entry.entry.tbs_certificate, precertificate=entry.pre_certificate)
        if row is None:
            if certified.ends_before(entry.entry.tbs_certificate, self._complete_from):
                return
            if entry.index < self._entries_given_up:
                yield _record_lost(entry, serial, seen)
                return
            text = f"entry {entry.index}: our issuer signed it, and its serial number is not on record"
            yield Finding("unrecorded", of_serial(serial), text, seen)
        elif row.certificate is None:
            yield from _unfinished_logged(row, entry)
        elif _without_timestamps(row.certificate) != entry.entry.tbs_certificate:
            text = f"entry {entry.index} has other contents under this serial number than the certificate on record"
            yield Finding("serial_twice", of_serial(serial), text, {**seen, **digests(certificate=row.certificate)})
        else:
            yield Note("logged_again", of_leaf(entry.index), f"the same contents as those of serial {serial}")

    def stored(self, row: RecordRow, *, thorough: bool) -> Iterator[Observation]:
        """Compare a row with its own certificate alone, because there is no log to compare it with."""
        if row.certificate is None:
            return
        try:
            yield from self._stored(row, certified.load(row.certificate), thorough=thorough)
        except Unreadable as error:
            yield _unreadable(row, error)

    def unlogged(self, row: RecordRow, *, thorough: bool) -> Iterator[Observation]:
        """Look at a row that names no place in the log."""
        if row.certificate is None:
            yield Note("unfinished", of_serial(row.serial), f"{row.state} without a certificate, profile {row.profile}")
            return
        yield from self.stored(row, thorough=thorough)
        if row.state == "responder" or row.profile in self._unlogged or row.state == "quarantined":
            return
        if row.issued_at is not None and row.issued_at < self._log_began:
            yield Note("before_log", of_serial(row.serial), "issued before the log's first entry")
            return
        text = f"its profile {row.profile} is logged, and the record names no entry of the log"
        yield Finding("unlogged", of_serial(row.serial), text, digests(certificate=row.certificate))

    def _unclaimed_certificate(self, entry: LoggedEntry, certificate: bytes, lookup: Lookup) -> Iterator[Observation]:
        """Whoever has a certificate may log it. It is ours if our key signed it."""
        try:
            found = certified.load(certificate)
            serial = certified.serial_of(found)
            signer = next((one for one in self._authorities.values() if certified.is_signed_by(found, one)), None)
        except Unreadable:
            return  # the log accepts what ends at a root of others, and what this reader refuses is not ours
        if signer is None:
            return
        own = self._authorities.get(serial)
        row = lookup(serial)
        seen = digests(logged=certificate)
        if own is not None and own.tbs_certificate_bytes == found.tbs_certificate_bytes:
            return
        if row is None and int(found.not_valid_after_utc.timestamp()) < self._complete_from:
            return
        if row is None and entry.index < self._entries_given_up:
            yield _record_lost(entry, serial, seen)
            return
        if row is None or row.certificate is None:
            text = f"entry {entry.index}: our issuer signed this certificate, and the record does not have it"
            yield Finding("unrecorded", of_serial(serial), text, seen)
        elif _contents_of(row.certificate) != found.tbs_certificate_bytes:
            text = f"entry {entry.index} is another certificate with this serial number than the one on record"
            yield Finding("serial_twice", of_serial(serial), text, {**seen, **digests(certificate=row.certificate)})

    def _stored(self, row: RecordRow, certificate: x509.Certificate, *, thorough: bool) -> Iterator[Finding]:
        """The stored certificate against its row and its issuer."""
        subject, seen = of_serial(row.serial), digests(certificate=row.certificate)
        try:
            trouble = certified.difference(certificate, row)
        except Unreadable as error:
            trouble = f"the stored certificate cannot be read: {error}"
        if trouble:
            yield Finding("row_differs", subject, trouble[:400], seen)
        issuer = self._authorities.get(row.issuer)
        if issuer is None:
            yield Finding("issuer_unknown", subject, f"its issuer {row.issuer} is not one of this authority", seen)
        elif thorough and not certified.is_signed_by(certificate, issuer):
            yield Finding("signature_invalid", subject, f"its issuer {row.issuer} did not sign it", seen)

    def _contents(self, row: RecordRow, certificate: x509.Certificate, entry: LoggedEntry) -> Iterator[Finding]:
        """The certificate against the contents that the log has."""
        logged = entry.entry
        try:
            tbs = certified.without_timestamps(certificate)
        except Unreadable as error:
            yield _differs(row, entry, f"the certificate embeds no timestamp: {error}")
            return
        if not isinstance(logged, PrecertEntry) or logged.tbs_certificate != tbs:
            yield _differs(row, entry, "the log's contents are not the certificate's contents without its timestamps")
        elif self._by_key.get(logged.issuer_key_hash) is None:
            yield _differs(row, entry, "the log has it under the key of an issuer that is not here")
        elif row.precertificate is not None and entry.pre_certificate not in {None, row.precertificate}:
            yield _differs(row, entry, "the precertificate on record is not the one in the log")

    def _timestamp(
        self, row: RecordRow, certificate: x509.Certificate, entry: LoggedEntry, *, thorough: bool
    ) -> Iterator[Finding]:
        """The promise that the certificate embeds against the entry that it is about."""
        try:
            trouble = self._timestamp_trouble(row, certificate, entry, thorough=thorough)
        except (Unreadable, StructureError, SignatureRefused) as error:
            trouble = str(error)[:200]
        if trouble:
            seen = digests(certificate=row.certificate, sct=row.sct)
            yield Finding("sct_invalid", of_serial(row.serial), f"entry {entry.index}: {trouble}", seen)

    def _timestamp_trouble(
        self, row: RecordRow, certificate: x509.Certificate, entry: LoggedEntry, *, thorough: bool
    ) -> str:
        if row.sct is None:
            return "the record has no signed certificate timestamp"
        if row.sct not in certified.timestamps(certificate):
            return "the certificate does not embed the timestamp that is on record"
        sct = structures.parse_sct(row.sct)
        if self._log is None:
            return ""
        if sct.log_id != self._log.log_id:
            return "the timestamp is by another log"
        if (sct.timestamp, sct.extensions) != (entry.timestamp, entry.extensions):
            return "the timestamp promises another entry than the one that is there"
        if thorough:
            self._log.verify_sct(sct, entry.entry)
        return ""


def _unreadable(row: RecordRow, error: Unreadable) -> Finding:
    seen = digests(certificate=row.certificate)
    return Finding("row_differs", of_serial(row.serial), f"the stored certificate cannot be read: {error}"[:400], seen)


def _is_lost(row: RecordRow, entry: LoggedEntry | None) -> bool:
    """Whether the place that a row names was in a log that was given up, and not in the one that there is."""
    if not row.log_given_up:
        return False
    if entry is None or row.certificate is None or not isinstance(entry.entry, PrecertEntry):
        return True
    return _without_timestamps(row.certificate) != entry.entry.tbs_certificate


def _log_lost(row: RecordRow) -> Finding:
    text = f"its entry {row.leaf_index} was in a log that the operator gave up (accept-log)"
    seen = digests(certificate=row.certificate, sct=row.sct)
    return Finding("unlogged", of_serial(row.serial), text, seen, given_up=True)


def _record_lost(entry: LoggedEntry, serial: str, seen: Mapping[str, str]) -> Finding:
    text = f"entry {entry.index}: the operator accepted the record without its row (accept-record)"
    return Finding("unrecorded", of_serial(serial), text, seen, given_up=True)


def _leaf_twice(index: int, rows: Sequence[RecordRow]) -> Finding:
    serials = ", ".join(row.serial for row in rows[:4])
    seen = {row.serial: sha256(row.certificate).hexdigest() for row in rows[:4] if row.certificate is not None}
    return Finding("leaf_twice", of_leaf(index), f"{len(rows)} certificates name this entry: {serials}", seen)


def _differs(row: RecordRow, entry: LoggedEntry, why: str) -> Finding:
    logged = entry.entry.tbs_certificate if isinstance(entry.entry, PrecertEntry) else entry.entry.certificate
    seen = digests(certificate=row.certificate, logged=logged, precertificate=entry.pre_certificate)
    return Finding("entry_differs", of_serial(row.serial), f"entry {entry.index}: {why}", seen)


def _unfinished_logged(row: RecordRow, entry: LoggedEntry) -> Iterator[Observation]:
    text = f"entry {entry.index} has its precertificate; it is on record as {row.state}, and no certificate was stored"
    seen = digests(precertificate=row.precertificate, logged=entry.pre_certificate)
    if row.precertificate is not None and entry.pre_certificate not in {None, row.precertificate}:
        yield Finding("serial_twice", of_serial(row.serial), f"{text}; the one on record is another", seen)
    elif trouble := _not_as_reserved(row, entry):
        yield Finding("serial_twice", of_serial(row.serial), f"{text}; not what it was reserved for: {trouble}", seen)
    else:
        yield Note("unfinished_logged", of_serial(row.serial), text)


def _not_as_reserved(row: RecordRow, entry: LoggedEntry) -> str:
    """In what an entry is not what was to be signed under this serial number; empty when they agree."""
    if not isinstance(entry.entry, PrecertEntry):
        return "it is no precertificate"
    try:
        return certified.difference(certified.of_contents(entry.entry.tbs_certificate), row)[:400]
    except Unreadable as error:
        return f"its contents cannot be read: {error}"[:400]


def _contents_of(certificate: bytes) -> bytes | None:
    try:
        return certified.load(certificate).tbs_certificate_bytes
    except Unreadable:
        return None


def _without_timestamps(certificate: bytes) -> bytes | None:
    try:
        return certified.without_timestamps(certified.load(certificate))
    except Unreadable:
        return None
