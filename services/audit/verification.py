"""Verifying evidence: what an auditor does who has a root and the key of a log, and trusts nothing else. Pure.

Rules:
- Every check is told, held or not, in the order in which they build on each other. One whose ground is missing fails;
  it is not left out.
- Nothing in the file vouches for anything of the file: roots and the key of the log come from the verifier.
- The seal comes last. It covers every octet, so that whatever the other checks do not look at cannot be changed either.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from services.audit import path, status
from services.audit.path import PathRefused
from services.ca.evidence import evidence
from services.ca.evidence.messages import Evidence, LoggedEvidence
from services.ca.keys.signing_keys import spki
from services.ca.reconciliation import certified
from services.ca.reconciliation.certified import UNREADABLE, Unreadable
from services.ca.serials import serial_text
from services.rfc6962 import merkle, note, structures
from services.rfc6962.merkle import ProofRefused
from services.rfc6962.note import NoteError
from services.rfc6962.structures import PrecertEntry, Sct, StructureError
from services.rfc6962.verifier import LogVerifier, SignatureRefused, SignedHead, TreeHead

_MILLISECONDS: Final = 1000
_FAILURES: Final = (
    PathRefused,
    Unreadable,
    ProofRefused,
    NoteError,
    SignatureRefused,
    StructureError,
    InvalidSignature,
    *UNREADABLE,
)


@dataclass(frozen=True, slots=True)
class Anchors:
    """What the verifier trusts: root certificates (DER), and the key of the log; None when there is none at hand."""

    roots: frozenset[bytes]
    log: LogVerifier | None

    def __post_init__(self) -> None:
        if not self.roots:
            raise ValueError("nothing can be verified without a root")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `text` says what holds, or why it does not."""

    name: str
    passed: bool
    text: str


class _Failed(Exception):
    """A check that did not hold."""


def verify(octets: bytes, anchors: Anchors, at: int) -> list[Check]:
    """All checks of an evidence file. `at` is the second to judge by, since the Unix epoch."""
    # The parser warns of what it will refuse one day: that would let anybody write to standard error.
    with warnings.catch_warnings(action="ignore"):
        return _verify(octets, anchors, at)


def _verify(octets: bytes, anchors: Anchors, at: int) -> list[Check]:
    try:
        given = evidence.parse(octets)
        chain = [x509.load_pem_x509_certificate(text.encode("ascii")) for text in given.chain]
    except (evidence.EvidenceError, *UNREADABLE) as error:
        return [Check("form", False, str(error)[:400])]
    form = Check(
        "form", True, f"serial {given.serial}, profile {given.profile}, composed at {_date(given.composed_at)}"
    )
    return [form, *_Verification(given, chain, anchors, at).checks()]


class _Verification:
    """One evidence file under examination."""

    def __init__(self, given: Evidence, chain: list[x509.Certificate], anchors: Anchors, at: int) -> None:
        self._given = given
        self._chain = chain
        self._leaf, self._issuer = chain[0], chain[1]
        self._anchors = anchors
        self._at = at

    def checks(self) -> Iterator[Check]:
        yield _checked("chain", lambda: path.check_signatures(self._chain, self._anchors.roots))
        yield _checked("validity", lambda: path.check_validity(self._chain, self._at))
        yield _checked("constraints", lambda: path.check_constraints(self._chain))
        yield _checked("serial", self._serial)
        logged = self._given.log
        if logged is None:
            yield _checked("log", self._not_logged)
        else:
            yield from self._log_checks(logged)
        yield _checked("ocsp", lambda: status.check(self._given.ocsp, self._leaf, self._issuer, self._at))
        yield _checked("times", self._times)
        yield _checked("seal", self._seal)

    def _log_checks(self, logged: LoggedEvidence) -> Iterator[Check]:
        yield _checked("timestamp", lambda: self._timestamp(logged))
        yield _checked("inclusion", lambda: self._inclusion(logged))
        yield _checked("tree head", lambda: self._tree_head(logged))
        yield _checked("checkpoint", lambda: self._checkpoint(logged))

    def _serial(self) -> str:
        found = serial_text(self._leaf.serial_number)
        if found != self._given.serial:
            raise _Failed(f"the certificate has the serial number {found}, the evidence is about {self._given.serial}")
        return found

    def _not_logged(self) -> str:
        try:
            certified.timestamps(self._leaf)
        except Unreadable:
            return f"certificates of the profile {self._given.profile} are not logged, says the issuer's seal"
        raise _Failed("the certificate embeds a timestamp, and the evidence does not show it in the log")

    def _timestamp(self, logged: LoggedEvidence) -> str:
        if certified.timestamps(self._leaf) != tuple(logged.scts):
            raise _Failed("the timestamps of the evidence are not those that the certificate embeds")
        sct = self._sct(logged)
        self._log(logged).verify_sct(sct, self._entry())
        return f"signed by the log at {_date(sct.timestamp // _MILLISECONDS)}"

    def _inclusion(self, logged: LoggedEvidence) -> str:
        sct = self._sct(logged)
        if structures.parse_leaf_index(sct.extensions) != logged.leaf_index:
            raise _Failed("the timestamp promises another entry")
        leaf = structures.merkle_tree_leaf(sct.timestamp, structures.signed_entry(self._entry()), sct.extensions)
        merkle.verify_inclusion(
            logged.leaf_index, logged.tree_size, merkle.leaf_hash(leaf), logged.audit_path, logged.root_hash
        )
        return f"entry {logged.leaf_index} of {logged.tree_size}, root {logged.root_hash.hex()}"

    def _tree_head(self, logged: LoggedEvidence) -> str:
        head = TreeHead(logged.tree_size, logged.timestamp, logged.root_hash)
        self._log(logged).verify_head(SignedHead(head, logged.signature))
        if logged.timestamp < self._sct(logged).timestamp:
            raise _Failed("the tree head is older than the entry that it is to contain")
        return f"signed by the log at {_date(logged.timestamp // _MILLISECONDS)}"

    def _checkpoint(self, logged: LoggedEvidence) -> str:
        read = note.parse(logged.checkpoint.encode("utf-8"))
        said = note.parse_checkpoint(read.text)
        if (said.size, said.root) != (logged.tree_size, logged.root_hash):
            raise _Failed("the checkpoint is that of another tree head")
        signed = note.find_rfc6962_signature(read, said.origin, logged.log_id)
        if signed != (logged.timestamp, logged.signature):
            raise _Failed("the checkpoint has another signature than the tree head")
        return f"the same tree head, of {said.origin}"

    def _times(self) -> str:
        given = self._given
        if not given.issued_at <= given.composed_at:
            raise _Failed("it was composed before the certificate was issued")
        first, last = self._leaf.not_valid_before_utc.timestamp(), self._leaf.not_valid_after_utc.timestamp()
        if not first <= given.issued_at <= last:
            raise _Failed("the certificate was not valid when it was issued")
        return f"issued at {_date(given.issued_at)}"

    def _seal(self) -> str:
        evidence.verify_seal(self._given, self._issuer)
        return "the issuer stands by every octet of this file"

    def _entry(self) -> PrecertEntry:
        key_hash = sha256(spki(self._issuer.public_key())).digest()
        return PrecertEntry(key_hash, certified.without_timestamps(self._leaf))

    def _sct(self, logged: LoggedEvidence) -> Sct:
        read = (structures.parse_sct(one) for one in logged.scts)
        found = [sct for sct in read if sct.log_id == logged.log_id]
        if len(found) != 1:
            raise _Failed(f"{len(found)} timestamps are by the log; one has to be")
        return found[0]

    def _log(self, logged: LoggedEvidence) -> LogVerifier:
        log = self._anchors.log
        if log is None:
            raise _Failed("no key of a log was given to verify it with")
        if log.log_id != logged.log_id:
            raise _Failed("it is about another log than the one whose key was given")
        return log


def passed(checks: Collection[Check]) -> bool:
    """Whether all of them hold."""
    return bool(checks) and all(check.passed for check in checks)


def _checked(name: str, judge: Callable[[], str]) -> Check:
    try:
        return Check(name, True, judge())
    except (_Failed, *_FAILURES) as failure:
        return Check(name, False, str(failure)[:400] or "the signature does not verify")


def _date(unix_seconds: int) -> str:
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"second {unix_seconds}"
