"""An authority with its log in memory: it issues, logs, revokes and composes evidence, all by the pure parts alone.

Every test gets the same keys, made once; what is made is honest, and the tests break it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.audit.verification import Anchors
from services.ca.evidence import evidence
from services.ca.evidence.messages import EVIDENCE_FORMAT, Evidence, LoggedEvidence
from services.ca.hierarchy.hierarchy import Issuer
from services.ca.issuance.certification import Certified, Certifier, Precertificate
from services.ca.keys.signing_keys import signing_hash
from services.ca.policy.profile import Validity
from services.ca.reconciliation.certified import der
from services.ca.reconciliation.reconciliation import LoggedEntry, RecordRow
from services.ca.serials import serial_text
from services.ca.status import ocsp
from services.ca.status.ocsp import Responder, Status
from services.ct.messages import (
    Checkpoint,
    Consistency,
    Entries,
    Entry,
    EntryAndProof,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetLog,
    GetTreeHead,
    LogDescription,
    SignedTreeHead,
)
from services.ct.signing import LogSigner
from services.errors import RemoteError
from services.rfc6962 import merkle, note, structures
from services.rfc6962.merkle import EMPTY_EDGE
from services.rfc6962.structures import PrecertEntry
from services.rfc6962.verifier import SignedHead, TreeHead
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, decided, hierarchy_of, rules

ORIGIN = "trust.localhost/ct"
MILLISECONDS = 1000
QUIET = "quiet"
T = TypeVar("T")
PROFILES = {QUIET: 'description = "not logged"\nextended_key_usages = ["serverAuth"]\ntransparency = false'}


@cache
def log_signer() -> LogSigner:
    """The key of the log."""
    return LogSigner(ec.generate_private_key(ec.SECP256R1()))


def issuer() -> Issuer:
    """The intermediate that issues."""
    return hierarchy_of().issuer


def root() -> x509.Certificate:
    """What is trusted."""
    return hierarchy_of().root


def certify_authority(
    key: ec.EllipticCurvePrivateKey, name: x509.Name, constraints: x509.NameConstraints | None = None
) -> x509.Certificate:
    """An authority that the root signs and that nobody knows of."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .serial_number(77)
        .issuer_name(root().subject)
        .subject_name(name)
        .not_valid_before(root().not_valid_before_utc)
        .not_valid_after(root().not_valid_after_utc)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(issuer().certificate.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
        .add_extension(identifier, critical=False)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    root_key = hierarchy_of().active_root().private_key
    assert root_key is not None
    return builder.sign(root_key, signing_hash(root_key))


def issuer_name() -> str:
    """What rows call it."""
    return serial_text(issuer().certificate.serial_number)


def authorities() -> dict[str, x509.Certificate]:
    """Who signs here."""
    return {issuer_name(): issuer().certificate, serial_text(root().serial_number): root()}


@dataclass
class Journal:
    """Rows and entries as an honest authority leaves them."""

    rows: list[RecordRow] = field(default_factory=list)
    entries: list[LoggedEntry] = field(default_factory=list)

    def issue(self, name: str = "www.example.test", *, logged: bool = True) -> RecordRow:
        """One certificate, on record, and in the log unless its profile is not to be."""
        serial = int.from_bytes(sha256(f"serial {len(self.rows)}".encode()).digest()[:16], "big") | 1 << 127
        profile = "tls-server" if logged else QUIET
        decision = decided(pem(request(dns(name))), profile, ruled=rules(PROFILES), serial=serial)
        certifier = Certifier(decision.issuer)
        draft = certifier.draft(decision)
        made = self._logged_for(certifier, certifier.precertificate(draft)) if logged else certifier.plain(draft)
        promised = made.logged
        row = RecordRow(
            serial=serial_text(serial),
            state="issued",
            issuer=issuer_name(),
            profile=profile,
            subject=decision.subject.rfc4514_string(),
            names=(name,),
            not_before=decision.validity.not_before,
            not_after=decision.validity.not_after,
            issued_at=NOW,
            certificate=made.certificate,
            precertificate=None if promised is None else promised.precertificate,
            sct=None if promised is None else promised.sct,
            leaf_index=None if promised is None else promised.leaf_index,
        )
        self.rows.append(row)
        return row

    def _logged_for(self, certifier: Certifier, made: Precertificate) -> Certified:
        entry = PrecertEntry(certifier.key_hash, made.logged)
        index, timestamp = len(self.entries), NOW * MILLISECONDS + len(self.entries)
        sct = log_signer().sign_entry(structures.signed_entry(entry), timestamp, index)
        self.entries.append(LoggedEntry(index, timestamp, entry, sct.extensions, made.certificate))
        return certifier.certificate(made, structures.sct(sct), index)

    def row_of(self, serial: str) -> RecordRow | None:
        """A row by its serial number."""
        return next((row for row in self.rows if row.serial == serial), None)

    def leaf_hashes(self) -> list[bytes]:
        """The leaves of the log's tree."""
        return [leaf_hash_of(entry) for entry in self.entries]

    def evidence(self, row: RecordRow, *, status: Status | None = None) -> Evidence:
        """All that proves the certificate of this row, composed a second after it was issued."""
        assert row.certificate is not None
        unsealed = Evidence(
            format=EVIDENCE_FORMAT,
            serial=row.serial,
            profile=row.profile,
            issued_at=NOW,
            composed_at=NOW + 1,
            chain=[
                one.public_bytes(serialization.Encoding.PEM).decode("ascii")
                for one in (
                    x509.load_der_x509_certificate(row.certificate),
                    *issuer().chain,
                    root(),
                )
            ],
            log=None if row.leaf_index is None else self._logged(row),
            ocsp=answer(row.serial, status or Status("good")),
            quorum=None,
            seal=b"",
        )
        return evidence.sealed(unsealed, issuer().private_key)

    def _logged(self, row: RecordRow) -> LoggedEvidence:
        assert row.sct is not None
        assert row.leaf_index is not None
        leaves = self.leaf_hashes()
        edge = EMPTY_EDGE.extended(leaves)
        signed = log_signer().sign_head(TreeHead(edge.size, NOW * MILLISECONDS + edge.size, edge.root))
        head, log_id = signed.head, log_signer().log_id
        text = note.checkpoint_text(note.Checkpoint(ORIGIN, head.size, head.root))
        line = note.rfc6962_signature(ORIGIN, log_id, head.timestamp, signed.signature)
        return LoggedEvidence(
            log_id=log_id,
            scts=[row.sct],
            leaf_index=row.leaf_index,
            audit_path=merkle.inclusion_proof(nodes_of(leaves), row.leaf_index, len(leaves)),
            tree_size=head.size,
            timestamp=head.timestamp,
            root_hash=head.root,
            signature=signed.signature,
            checkpoint=note.encode(note.Note(text, (line,))).decode("utf-8"),
        )


def leaf_hash_of(entry: LoggedEntry) -> bytes:
    """The Merkle leaf hash of an entry."""
    signed = structures.signed_entry(entry.entry)
    return merkle.leaf_hash(structures.merkle_tree_leaf(entry.timestamp, signed, entry.extensions))


def nodes_of(leaves: Sequence[bytes]) -> merkle.NodeSource:
    """The complete subtrees above these leaf hashes."""
    return lambda level, index: merkle.perfect_root(leaves[index << level : (index + 1) << level])


def anchors() -> Anchors:
    """What an auditor has."""
    return Anchors(frozenset({der(root())}), log_signer().verifier)


@cache
def responder() -> Responder:
    """Who signs OCSP answers for the issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Responder(ocsp.sign_responder(issuer(), key, 1 << 100, Validity(NOW - 60, NOW + 10 * 86_400)), key)


def answer(serial: str, status: Status, by: Responder | None = None, now: int = NOW) -> bytes:
    """An OCSP answer that holds for an hour from `now` on."""
    named = ocsp.hashes_of(issuer().certificate)[0]
    question = ocsp.parse(ocsp.request_for(named, int(serial, 16)))
    return ocsp.answer(question, status, by or responder(), now, backdate=60, lifetime=3600).der


class JournalPeer:
    """The log of a journal as the authority asks it, without a socket. `calls` are what it was asked."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.signer = log_signer()
        self.calls: list[str] = []
        self.trouble: RemoteError | None = None
        self.note: bytes | None = None

    async def call(
        self,
        method: str,
        request: Any,
        reply_type: type[T],
        *,
        timeout: float,  # noqa: ASYNC109 - as the client has it
        trace: str = "",
        idempotent: bool = False,
    ) -> T:
        """Answer as the log does."""
        assert timeout > 0
        assert idempotent, "nothing that is only read may be lost because a log restarts"
        assert isinstance(trace, str)
        self.calls.append(method)
        if self.trouble is not None:
            raise self.trouble
        reply = getattr(self, f"_{method}")(request)
        assert isinstance(reply, reply_type)
        return reply

    def _log(self, _request: GetLog) -> LogDescription:
        key = self.signer.verifier.public_key
        return LogDescription(
            origin=ORIGIN,
            public_key=key,
            log_id=self.signer.log_id,
            verifier_key=note.verifier_key(ORIGIN, key),
            maximum_merge_delay=86_400,
        )

    def _tree_head(self, _request: GetTreeHead) -> SignedTreeHead:
        signed = self._signed()
        head = signed.head
        return SignedTreeHead(
            tree_size=head.size, timestamp=head.timestamp, root_hash=head.root, signature=signed.signature
        )

    def _consistency(self, request: GetConsistency) -> Consistency:
        nodes = nodes_of(self.journal.leaf_hashes())
        return Consistency(path=merkle.consistency_proof(nodes, request.first, request.second))

    def _entries(self, request: GetEntries) -> Entries:
        chosen = self.journal.entries[request.start : request.end + 1]
        return Entries(start=request.start, entries=[_on_the_wire(entry) for entry in chosen])

    def _checkpoint(self, _request: GetCheckpoint) -> Checkpoint:
        if self.note is not None:
            return Checkpoint(note=self.note)
        signed = self._signed()
        text = note.checkpoint_text(note.Checkpoint(ORIGIN, signed.head.size, signed.head.root))
        line = note.rfc6962_signature(ORIGIN, self.signer.log_id, signed.head.timestamp, signed.signature)
        return Checkpoint(note=note.encode(note.Note(text, (line,))))

    def _entry_and_proof(self, request: GetEntryAndProof) -> EntryAndProof:
        leaves = self.journal.leaf_hashes()
        path = merkle.inclusion_proof(nodes_of(leaves), request.leaf_index, request.tree_size)
        return EntryAndProof(entry=_on_the_wire(self.journal.entries[request.leaf_index]), audit_path=path)

    def _signed(self) -> SignedHead:
        edge = EMPTY_EDGE.extended(self.journal.leaf_hashes())
        return self.signer.sign_head(TreeHead(edge.size, NOW * MILLISECONDS + edge.size, edge.root))


def _on_the_wire(entry: LoggedEntry) -> Entry:
    leaf = structures.merkle_tree_leaf(entry.timestamp, structures.signed_entry(entry.entry), entry.extensions)
    chain = [der(issuer().certificate), der(root())]
    extra = (
        structures.chain_extra_data(chain)
        if entry.pre_certificate is None
        else structures.precert_extra_data(entry.pre_certificate, chain)
    )
    return Entry(leaf_input=leaf, extra_data=extra)
