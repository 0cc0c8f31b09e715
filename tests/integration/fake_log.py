"""A Certificate Transparency log for tests of its clients: a real Merkle tree in memory, real signatures and refusals.

It is written from RFC 6962 and C2SP alone and shares nothing with the log of this project. Two things it leaves out: a
precertificate is logged with its poison, and a data tile is leaves and chains one after the other.
"""

import base64
import hashlib
import time
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from services.ct.messages import (
    MAX_ENTRIES,
    MAX_REPLY_OCTETS,
    AddChain,
    Checkpoint,
    Consistency,
    Entries,
    Entry,
    EntryAndProof,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetIssuer,
    GetProofByHash,
    GetRoots,
    GetTile,
    GetTreeHead,
    InclusionProof,
    Part,
    Refusal,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)
from tests.integration.fake_service import FakeService

ORIGIN = "test.log"


def leaf_hash(leaf_input: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf_input).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256().digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) <= 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


def _consistency(first: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = _split(len(leaves))
    if first <= k:
        return [*_consistency(first, leaves[:k], whole), tree_hash(leaves[k:])]
    return [*_consistency(first - k, leaves[k:], False), tree_hash(leaves[:k])]


class FakeLog(FakeService):
    """Serves the socket `path`, and accepts chains that end at `root`. `part` is how much of a tile comes at once."""

    def __init__(self, path: Path, root: x509.Certificate) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.log_id = hashlib.sha256(spki).digest()
        self.root = root
        self.entries: list[Entry] = []
        self.leaves: list[bytes] = []
        self.issuers: dict[bytes, bytes] = {}
        self.part = MAX_REPLY_OCTETS
        self._known: dict[bytes, SignedCertificateTimestamp] = {}
        super().__init__(
            path,
            {
                "add": (AddChain, self._add),
                "tree_head": (GetTreeHead, self._tree_head),
                "consistency": (GetConsistency, self._get_consistency),
                "proof_by_hash": (GetProofByHash, self._proof_by_hash),
                "entries": (GetEntries, self._get_entries),
                "entry_and_proof": (GetEntryAndProof, self._entry_and_proof),
                "roots": (GetRoots, self._roots),
                "checkpoint": (GetCheckpoint, self._checkpoint),
                "tile": (GetTile, self._tile),
                "issuer": (GetIssuer, self._issuer),
            },
        )

    # -- writing

    def _add(self, request: AddChain) -> SignedCertificateTimestamp:
        chain = [_certificate(index, der) for index, der in enumerate(request.chain)]
        poisoned = any(extension.oid == ExtensionOID.PRECERT_POISON for extension in _extensions(chain[0]))
        if poisoned != (request.entry_type == "precert"):
            raise Refusal("wrong-entry-type", "chain", "submit precertificates to add-pre-chain, others to add-chain")
        self._check_chain(chain)
        identity = hashlib.sha256(request.chain[0]).digest()
        if identity not in self._known:
            self._known[identity] = self._append(chain, request)
        return self._known[identity]

    def _check_chain(self, chain: list[x509.Certificate]) -> None:
        try:
            for subject, issuer in pairwise(chain):
                subject.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise Refusal("bad-chain", "chain", "each certificate has to be signed by the next one") from None
        try:
            chain[-1].verify_directly_issued_by(self.root)
        except (ValueError, TypeError, InvalidSignature):
            raise Refusal("unknown-root", "chain", "the chain does not end at a root of get-roots") from None

    def _append(self, chain: list[x509.Certificate], request: AddChain) -> SignedCertificateTimestamp:
        timestamp, index = int(time.time() * 1000), len(self.entries)
        extensions = b"\x00\x00\x05" + index.to_bytes(5, "big")
        rest = b"".join(_vector(der) for der in request.chain[1:])
        issuers = len(rest).to_bytes(3, "big") + rest
        if request.entry_type == "x509":
            signed = b"\x00\x00" + _vector(request.chain[0])
            extra = issuers
        else:
            key = (
                (chain[1] if len(chain) > 1 else self.root)
                .public_key()
                .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            )
            signed = b"\x00\x01" + hashlib.sha256(key).digest() + _vector(chain[0].tbs_certificate_bytes)
            extra = _vector(request.chain[0]) + issuers
        rest = timestamp.to_bytes(8, "big") + signed + len(extensions).to_bytes(2, "big") + extensions
        signature = self.sign(b"\x00\x00" + rest)
        self.entries.append(Entry(leaf_input=b"\x00\x00" + rest, extra_data=extra))
        self.leaves.append(leaf_hash(b"\x00\x00" + rest))
        self.issuers |= {hashlib.sha256(der).digest(): der for der in request.chain[1:]}
        return SignedCertificateTimestamp(
            log_id=self.log_id,
            timestamp=timestamp,
            extensions=extensions,
            signature=signature,
            leaf_index=index,
            serialized=b"\x00" + self.log_id + timestamp.to_bytes(8, "big") + b"\x00\x08" + extensions + signature,
        )

    def sign(self, message: bytes) -> bytes:
        """A DigitallySigned structure (RFC 5246, section 4.7)."""
        signature = self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        return b"\x04\x03" + len(signature).to_bytes(2, "big") + signature

    # -- reading

    def _tree_head(self, _: GetTreeHead) -> SignedTreeHead:
        timestamp, size, root = int(time.time() * 1000), len(self.leaves), tree_hash(self.leaves)
        signed = b"\x00\x01" + timestamp.to_bytes(8, "big") + size.to_bytes(8, "big") + root
        return SignedTreeHead(tree_size=size, timestamp=timestamp, root_hash=root, signature=self.sign(signed))

    def _get_consistency(self, request: GetConsistency) -> Consistency:
        if not request.first <= request.second <= len(self.leaves):
            raise Refusal("out-of-range", "second", f"the tree has {len(self.leaves)} leaves")
        if request.first == 0:
            return Consistency(path=[])
        return Consistency(path=_consistency(request.first, self.leaves[: request.second]))

    def _proof_by_hash(self, request: GetProofByHash) -> InclusionProof:
        leaves = self.leaves[: request.tree_size]
        if request.tree_size > len(self.leaves) or request.leaf_hash not in leaves:
            raise Refusal("not-found", "hash", "no such leaf in a tree of this size")
        index = leaves.index(request.leaf_hash)
        return InclusionProof(leaf_index=index, audit_path=_path(index, leaves))

    def _get_entries(self, request: GetEntries) -> Entries:
        if not request.start <= request.end or request.start >= len(self.entries):
            raise Refusal("out-of-range", "start", f"the log has {len(self.entries)} entries")
        end = min(request.end + 1, request.start + MAX_ENTRIES)
        return Entries(start=request.start, entries=self.entries[request.start : end])

    def _entry_and_proof(self, request: GetEntryAndProof) -> EntryAndProof:
        if not request.leaf_index < request.tree_size <= len(self.leaves):
            raise Refusal("out-of-range", "leaf_index", f"the tree has {len(self.leaves)} leaves")
        path = _path(request.leaf_index, self.leaves[: request.tree_size])
        return EntryAndProof(entry=self.entries[request.leaf_index], audit_path=path)

    def _roots(self, _: GetRoots) -> Roots:
        return Roots(certificates=[self.root.public_bytes(serialization.Encoding.DER)])

    def _checkpoint(self, _: GetCheckpoint) -> Checkpoint:
        root = base64.b64encode(tree_hash(self.leaves)).decode()
        text = f"{ORIGIN}\n{len(self.leaves)}\n{root}\n"
        signature = base64.b64encode(self.log_id[:4] + self.sign(text.encode())).decode()
        return Checkpoint(note=f"{text}\n— {ORIGIN} {signature}\n".encode())

    def _tile(self, request: GetTile) -> Part:
        items = [entry.leaf_input + entry.extra_data for entry in self.entries] if request.level < 0 else self.leaves
        items = items if request.level < 1 else _level(self.leaves, request.level)
        first = request.index * 256
        if first + request.width > len(items):
            raise Refusal("not-found", "tile", "the tree is smaller than this tile")
        return self._part(b"".join(items[first : first + request.width]), request.offset)

    def _issuer(self, request: GetIssuer) -> Part:
        if request.fingerprint not in self.issuers:
            raise Refusal("not-found", "fingerprint", "no chain of this log has this certificate")
        return self._part(self.issuers[request.fingerprint], request.offset)

    def _part(self, content: bytes, offset: int) -> Part:
        return Part(content=content[offset : offset + self.part], size=len(content))


def _level(leaves: list[bytes], level: int) -> list[bytes]:
    width = 256**level
    return [tree_hash(leaves[at : at + width]) for at in range(0, len(leaves) // width * width, width)]


def _certificate(index: int, der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise Refusal("malformed", f"chain[{index}]", "not a certificate in DER") from None


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except ValueError:
        raise Refusal("malformed", "chain[0]", "its extensions cannot be read") from None


def _vector(octets: bytes) -> bytes:
    return len(octets).to_bytes(3, "big") + octets
