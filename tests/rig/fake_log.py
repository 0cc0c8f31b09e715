"""A Certificate Transparency log for tests of the authority: real timestamps by a real key, over the log's messages.

It takes precertificates that are signed by the next certificate of a chain to a root that it was told of, removes the
poison and hashes its tree (RFC 6962, section 2.1) by means of nothing of TrustChain's, and keeps what it promised.
`-m tests.rig.fake_log FD` answers on a listening socket until it is killed; DIRECTORY as a second argument keeps the
key and the promises there.
"""

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.ct.messages import (
    AcceptRoots,
    AddChain,
    Consistency,
    Entries,
    Entry,
    GetConsistency,
    GetEntries,
    GetLog,
    GetTreeHead,
    LogDescription,
    Refusal,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)
from services.errors import Refused, RemoteError
from services.rpc_server import Call, Server

T = TypeVar("T")
Promise = tuple[bytes, SignedCertificateTimestamp, Entry]  # for a precertificate
POISON = bytes.fromhex("3013060a2b06010401d6790204030101ff04020500")


class FakeLog:
    """One log with its own key. Times are milliseconds since the Unix epoch.

    Whole seconds by default: OpenSSL compares with a clock of seconds, and refuses what is ahead by a millisecond.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey | None = None,
        now: Callable[[], int] = lambda: int(time.time()) * 1000,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.now = now
        self.roots: list[x509.Certificate] = []
        self.promised: dict[bytes, SignedCertificateTimestamp] = {}
        self.entries: list[Entry] = []
        self.stored: Callable[[Promise], None] = void

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def log_id(self) -> bytes:
        return sha256(self.spki).digest()

    async def add(self, request: AddChain, _: Call | None = None) -> SignedCertificateTimestamp:
        if request.entry_type != "precert":
            raise Refusal("wrong-entry-type", "chain", "this log is fake: it takes precertificates")
        first = request.chain[0]
        if first not in self.promised:
            chain = [x509.load_der_x509_certificate(one) for one in request.chain]
            checked = self._checked(chain)
            promised = self._promise(checked)
            rest = b"".join(map(_prefixed, request.chain[1:]))
            logged = Entry(leaf_input=_leaf(checked, promised), extra_data=_prefixed(first) + _prefixed(rest))
            promise = first, promised, logged
            self.keep(promise)
            self.stored(promise)
        return self.promised[first]

    def keep(self, promise: "Promise") -> None:
        """It is the next entry of the log."""
        self.promised[promise[0]] = promise[1]
        self.entries.append(promise[2])

    def _checked(self, chain: list[x509.Certificate]) -> tuple[bytes, bytes]:
        """The key hash of the issuer and the TBSCertificate without the poison."""
        anchors = [root for root in self.roots if root.subject == chain[-1].issuer]
        if not anchors:
            raise Refusal("unknown-root", "chain", "this root was not accepted")
        for one, next_one in zip(chain, [*chain[1:], anchors[0]], strict=True):
            try:
                one.verify_directly_issued_by(next_one)
            except (InvalidSignature, ValueError) as error:
                raise Refusal("bad-chain", "chain", str(error)) from error
        issuer = chain[1] if len(chain) > 1 else anchors[0]
        key = issuer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return sha256(key).digest(), without_poison(chain[0].tbs_certificate_bytes)

    def _promise(self, entry: tuple[bytes, bytes]) -> SignedCertificateTimestamp:
        index, timestamp = len(self.promised), self.now()
        extensions = b"\x00\x00\x05" + index.to_bytes(5, "big")
        signature = self._signature(b"\x00\x00" + _timestamped(timestamp, entry, extensions))
        return SignedCertificateTimestamp(
            log_id=self.log_id,
            timestamp=timestamp,
            extensions=extensions,
            signature=signature,
            leaf_index=index,
            serialized=b"\x00" + self.log_id + struct.pack(">QH", timestamp, len(extensions)) + extensions + signature,
        )

    def _signature(self, signed: bytes) -> bytes:
        raw = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return b"\x04\x03" + struct.pack(">H", len(raw)) + raw

    async def tree_head(self, _request: GetTreeHead, _: Call | None = None) -> SignedTreeHead:
        size, timestamp, root = len(self.entries), self.now(), _tree_hash(self.leaves())
        signature = self._signature(struct.pack(">BBQQ", 0, 1, timestamp, size) + root)
        return SignedTreeHead(tree_size=size, timestamp=timestamp, root_hash=root, signature=signature)

    async def consistency(self, request: GetConsistency, _: Call | None = None) -> Consistency:
        if not 0 < request.first < request.second:
            return Consistency(path=[])
        return Consistency(path=_consistency(request.first, self.leaves()[: request.second], whole=True))

    async def given(self, request: GetEntries, _: Call | None = None) -> Entries:
        return Entries(start=request.start, entries=self.entries[request.start : request.end + 1])

    def leaves(self) -> list[bytes]:
        return [sha256(b"\x00" + entry.leaf_input).digest() for entry in self.entries]

    async def accept_roots(self, request: AcceptRoots, _: Call | None = None) -> Roots:
        for octets in request.certificates:
            root = x509.load_der_x509_certificate(octets)
            if root not in self.roots:
                self.roots.append(root)
        return Roots(certificates=[root.public_bytes(serialization.Encoding.DER) for root in self.roots])

    async def describe(self, _request: GetLog, _: Call | None = None) -> LogDescription:
        return LogDescription(
            origin="fake.example/log",
            public_key=self.spki,
            log_id=self.log_id,
            verifier_key="fake",
            maximum_merge_delay=0,
        )

    @property
    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "add": (AddChain, self.add),
            "accept_roots": (AcceptRoots, self.accept_roots),
            "log": (GetLog, self.describe),
            "tree_head": (GetTreeHead, self.tree_head),
            "consistency": (GetConsistency, self.consistency),
            "entries": (GetEntries, self.given),
        }


class LogPeer:
    """Calls a fake log as the connection to a real one would; `failure`, when set, is what every call ends with."""

    def __init__(self, log: FakeLog) -> None:
        self.log = log
        self.failure: RemoteError | None = None
        self.calls: list[str] = []

    async def call(
        self,
        method: str,
        request: object,
        reply_type: type[T],
        *,
        timeout: float,  # noqa: ARG002, ASYNC109 - as the real one
        trace: str = "",  # noqa: ARG002
        idempotent: bool = False,  # noqa: ARG002
    ) -> T:
        self.calls.append(method)
        if self.failure is not None:
            raise self.failure
        request_type, answer = self.log.methods[method]
        try:
            reply = await answer(msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=request_type))
        except Refusal as refusal:
            raise Refused(refusal.kind, refusal.field, refusal.detail) from refusal
        return msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=reply_type)


def without_poison(to_be_signed: bytes) -> bytes:
    """A TBSCertificate without its poison, which has to be there once."""
    (whole,) = _elements(to_be_signed)
    *fields, (_, outer) = _elements(whole[1])
    ((_, inner),) = _elements(outer)
    members = [_der(tag, content) for tag, content in _elements(inner)]
    members.remove(POISON)
    assert POISON not in members
    extensions = _der(0xA3, _der(0x30, b"".join(members)))
    return _der(0x30, b"".join(_der(tag, content) for tag, content in fields) + extensions)


def _leaf(entry: tuple[bytes, bytes], promised: SignedCertificateTimestamp) -> bytes:
    """The MerkleTreeLeaf (section 3.4)."""
    return b"\x00\x00" + _timestamped(promised.timestamp, entry, promised.extensions)


def _timestamped(timestamp: int, entry: tuple[bytes, bytes], extensions: bytes) -> bytes:
    key_hash, to_be_signed = entry
    length = struct.pack(">H", len(extensions))
    return struct.pack(">QH", timestamp, 1) + key_hash + _prefixed(to_be_signed) + length + extensions


def _prefixed(octets: bytes) -> bytes:
    return len(octets).to_bytes(3, "big") + octets


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256().digest()
    middle = _middle(len(leaves))
    return sha256(b"\x01" + _tree_hash(leaves[:middle]) + _tree_hash(leaves[middle:])).digest()


def _consistency(first: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if first == len(leaves):
        return [] if whole else [_tree_hash(leaves)]
    middle = _middle(len(leaves))
    if first <= middle:
        return [*_consistency(first, leaves[:middle], whole=whole), _tree_hash(leaves[middle:])]
    return [*_consistency(first - middle, leaves[middle:], whole=False), _tree_hash(leaves[:middle])]


def _middle(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _elements(octets: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the elements that follow each other in DER that is known to be good."""
    found = []
    while octets:
        begin, length = 2, octets[1]
        if length & 0x80:
            begin = 2 + (length & 0x7F)
            length = int.from_bytes(octets[2:begin], "big")
        found.append((octets[0], octets[begin : begin + length]))
        octets = octets[begin + length :]
    return found


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(-(-len(content).bit_length() // 8), "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


async def _serve(descriptor: int, directory: Path | None) -> None:
    log = FakeLog(_kept_key(directory))
    if directory is not None:
        _keep_promises(log, directory / "promises")
    server = Server([socket.socket(fileno=descriptor)], log.methods)
    server.start()
    await asyncio.Event().wait()


def _kept_key(directory: Path | None) -> ec.EllipticCurvePrivateKey | None:
    if directory is None:
        return None
    path = directory / "log.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return loaded


def _keep_promises(log: FakeLog, path: Path) -> None:
    """One line for each: precertificate and timestamp. Only whole lines are read back."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            log.keep(msgspec.json.decode(line, type=Promise))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    log.stored = lambda promise: void(os.write(descriptor, msgspec.json.encode(promise) + b"\n"))


def void(_: object) -> None:
    """The value of what is done for its effect."""


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
