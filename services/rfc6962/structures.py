"""The structures of RFC 6962 and of C2SP static-ct-api, in TLS presentation language (RFC 5246, section 4). Pure.

Rules:
- Encoding refuses what does not fit its length field; parsing takes exactly what the structure is, and raises
  StructureError for a cut-off, over-long or unknown one. Whatever is parsed encodes to the same octets.
- Timestamps are milliseconds since the Unix epoch. Version 1 is the octet 0 (section 3.2).
- Every SCT of this log has one extension, the index of its leaf (static-ct-api, "SCT Extension"). It is part of what
  is signed and of the leaf, so that one entry at two places has two hashes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.ct.messages import MAX_TREE_SIZE

X509_ENTRY: Final = 0
PRECERT_ENTRY: Final = 1

LEAF_PREFIX: Final = b"\x00\x00"  # version 1, timestamped entry: what a MerkleTreeLeaf has before its TimestampedEntry

_V1: Final = b"\x00"
_CERTIFICATE_TIMESTAMP: Final = b"\x00"
_TREE_HASH: Final = b"\x01"
_PRECERT: Final = PRECERT_ENTRY.to_bytes(2, "big")
_SHA256_ECDSA: Final = b"\x04\x03"
_LEAF_INDEX: Final = b"\x00\x00\x05"
_DIGEST: Final = 32
_MAX_TIMESTAMP: Final = 2**63 - 1
_TREE_HEAD: Final = struct.Struct(">QQ32s")


class StructureError(ValueError):
    """The octets are not the structure, or the values do not fit into it."""


@dataclass(frozen=True, slots=True)
class X509Entry:
    """A logged certificate (DER)."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class PrecertEntry:
    """A logged precertificate: to-be-signed without poison, and the SHA-256 of its issuer's SubjectPublicKeyInfo."""

    issuer_key_hash: bytes
    tbs_certificate: bytes

    def __post_init__(self) -> None:
        if len(self.issuer_key_hash) != _DIGEST:
            raise StructureError(f"an issuer key hash of {len(self.issuer_key_hash)} octets")


SignedEntry = X509Entry | PrecertEntry


@dataclass(frozen=True, slots=True)
class TileLeaf:
    """One entry as data tiles hold it (static-ct-api, "Log entries").

    `pre_certificate` belongs to a PrecertEntry and to nothing else; `chain` are SHA-256 fingerprints. Raises
    StructureError for what is neither.
    """

    timestamp: int
    entry: SignedEntry
    leaf_index: int
    pre_certificate: bytes | None
    chain: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if isinstance(self.entry, PrecertEntry) != (self.pre_certificate is not None):
            raise StructureError("a precertificate belongs to a precertificate entry, and to nothing else")
        if any(len(fingerprint) != _DIGEST for fingerprint in self.chain):
            raise StructureError("a fingerprint is not 32 octets long")

    @property
    def merkle_tree_leaf(self) -> bytes:
        """The MerkleTreeLeaf, whose hash is the leaf hash (RFC 6962, section 3.4)."""
        return merkle_tree_leaf(self.timestamp, signed_entry(self.entry), leaf_index_extension(self.leaf_index))


@dataclass(frozen=True, slots=True)
class Sct:
    """A SignedCertificateTimestamp. `signature` is the DigitallySigned structure."""

    log_id: bytes
    timestamp: int
    extensions: bytes
    signature: bytes


def signed_entry(entry: SignedEntry) -> bytes:
    """Entry type and entry, as they stand in leaves and in what an SCT signs."""
    if isinstance(entry, X509Entry):
        return _u16(X509_ENTRY) + _vector(entry.certificate, 3)
    return _u16(PRECERT_ENTRY) + entry.issuer_key_hash + _vector(entry.tbs_certificate, 3)


def timestamped_entry(timestamp: int, entry: bytes, extensions: bytes) -> bytes:
    """A TimestampedEntry; `entry` comes from `signed_entry`."""
    return _time(timestamp) + entry + _vector(extensions, 2)


def merkle_tree_leaf(timestamp: int, entry: bytes, extensions: bytes) -> bytes:
    """A MerkleTreeLeaf of version 1 (RFC 6962, section 3.4)."""
    return LEAF_PREFIX + timestamped_entry(timestamp, entry, extensions)


def sct_signed_data(timestamp: int, entry: bytes, extensions: bytes) -> bytes:
    """What the signature of an SCT is over (RFC 6962, section 3.2)."""
    return _V1 + _CERTIFICATE_TIMESTAMP + timestamped_entry(timestamp, entry, extensions)


def tree_head_signed_data(timestamp: int, size: int, root: bytes) -> bytes:
    """What the signature of a tree head is over: TreeHeadSignature (RFC 6962, section 3.5)."""
    if not 0 <= timestamp <= _MAX_TIMESTAMP or not 0 <= size <= MAX_TREE_SIZE or len(root) != _DIGEST:
        raise StructureError("no tree head has such values")
    return _V1 + _TREE_HASH + _TREE_HEAD.pack(timestamp, size, root)


def leaf_index_extension(index: int) -> bytes:
    """The extensions of an SCT of this log."""
    if not 0 <= index < MAX_TREE_SIZE:
        raise StructureError(f"{index} is no index of a leaf")
    return _LEAF_INDEX + index.to_bytes(5, "big")


def parse_leaf_index(extensions: bytes) -> int:
    """The index in the extensions of an SCT of this log."""
    if len(extensions) != 8 or not extensions.startswith(_LEAF_INDEX):
        raise StructureError("the extensions are not one leaf index")
    index = int.from_bytes(extensions[3:], "big")
    if index >= MAX_TREE_SIZE:
        raise StructureError(f"{index} is no index of a leaf")
    return index


def digitally_signed(signature: bytes) -> bytes:
    """A DigitallySigned structure around an ECDSA signature over SHA-256 (RFC 5246, section 4.7)."""
    return _SHA256_ECDSA + _vector(signature, 2)


def parse_digitally_signed(data: bytes) -> bytes:
    """The ECDSA signature in a DigitallySigned structure."""
    reader = _Reader(data)
    if reader.take(2) != _SHA256_ECDSA:
        raise StructureError("it is not an ECDSA signature over SHA-256")
    signature = reader.vector(2, at_least=1)
    reader.end()
    return signature


def sct(timestamp: Sct) -> bytes:
    """A SignedCertificateTimestamp of version 1, as SCT lists hold it."""
    parse_digitally_signed(timestamp.signature)
    if len(timestamp.log_id) != _DIGEST:
        raise StructureError(f"a log ID of {len(timestamp.log_id)} octets")
    head = _V1 + timestamp.log_id + _time(timestamp.timestamp)
    return head + _vector(timestamp.extensions, 2) + timestamp.signature


def parse_sct(data: bytes) -> Sct:
    """Read a SignedCertificateTimestamp of version 1."""
    reader = _Reader(data)
    if reader.take(1) != _V1:
        raise StructureError("it is not of version 1")
    log_id, timestamp, extensions = reader.take(_DIGEST), reader.time(), reader.vector(2)
    signature = reader.rest()
    parse_digitally_signed(signature)
    return Sct(log_id, timestamp, extensions, signature)


def sct_list(timestamps: Sequence[bytes]) -> bytes:
    """A SignedCertificateTimestampList of at least one timestamp (RFC 6962, section 3.3)."""
    if not timestamps or not all(timestamps):
        raise StructureError("a list of timestamps that is empty, or has an empty one")
    return _vector(b"".join(_vector(each, 2) for each in timestamps), 2)


def parse_sct_list(data: bytes) -> tuple[bytes, ...]:
    """The timestamps of a SignedCertificateTimestampList, at least one, as they stand there."""
    outer = _Reader(data)
    inner = _Reader(outer.vector(2, at_least=1))
    outer.end()
    found = []
    while not inner.at_end:
        found.append(inner.vector(2, at_least=1))
    return tuple(found)


def chain_extra_data(chain: Sequence[bytes]) -> bytes:
    """`extra_data` of a certificate: the certificates above it (RFC 6962, section 4.6)."""
    return _vector(b"".join(_vector(certificate, 3) for certificate in chain), 3)


def precert_extra_data(pre_certificate: bytes, chain: Sequence[bytes]) -> bytes:
    """`extra_data` of a precertificate: itself, and the certificates above it (RFC 6962, section 4.6)."""
    return _vector(pre_certificate, 3) + chain_extra_data(chain)


def parse_precert_extra_data(data: bytes) -> bytes:
    """The precertificate in the `extra_data` of one."""
    reader = _Reader(data)
    pre_certificate = reader.vector(3, at_least=1)
    reader.vector(3)
    reader.end()
    return pre_certificate


def tile_leaf(leaf: TileLeaf) -> bytes:
    """A TileLeaf, as data tiles hold it."""
    entry = timestamped_entry(leaf.timestamp, signed_entry(leaf.entry), leaf_index_extension(leaf.leaf_index))
    return tile_leaf_of(entry, leaf.pre_certificate, leaf.chain)


def tile_leaf_of(timestamped: bytes, pre_certificate: bytes | None, fingerprints: Sequence[bytes]) -> bytes:
    """A TileLeaf around a TimestampedEntry that is encoded already."""
    precertificate = b"" if pre_certificate is None else _vector(pre_certificate, 3)
    return timestamped + precertificate + _vector(b"".join(fingerprints), 2)


def parse_tile_leaf(data: bytes, at: int = 0) -> tuple[TileLeaf, int]:
    """The TileLeaf of this log that begins at `at`, and where it ends."""
    reader = _Reader(data, at)
    timestamp = reader.time()
    entry, is_precert = _parse_entry(reader)
    index = parse_leaf_index(reader.vector(2))
    precertificate = reader.vector(3, at_least=1) if is_precert else None
    fingerprints = reader.vector(2)
    if len(fingerprints) % _DIGEST:
        raise StructureError("the fingerprints do not come out even")
    chain = tuple(fingerprints[at : at + _DIGEST] for at in range(0, len(fingerprints), _DIGEST))
    return TileLeaf(timestamp, entry, index, precertificate, chain), reader.at


def tile_leaf_ends(data: bytes, at: int = 0) -> tuple[int, int]:
    """Where the TimestampedEntry of the TileLeaf that begins at `at` ends, and where the TileLeaf does.

    Nothing is taken apart, so that a data tile can be cut into entries and hashed quickly. What no leaf hash is over,
    the end of a TileLeaf, is checked here; of its TimestampedEntry the lengths alone are read.
    """
    is_precert = data[at + 8 : at + 10] == _PRECERT
    entry = at + 10 + (_DIGEST if is_precert else 0)
    timestamped = _vector_end(data, _vector_end(data, entry, 3), 2)
    precertificate = _vector_end(data, timestamped, 3) if is_precert else timestamped
    end = _vector_end(data, precertificate, 2)
    # Where a length is cut off, the end that it leads to is beyond the octets too.
    if end > len(data):
        raise StructureError(f"it is cut off: {end - len(data)} octets are missing")
    if is_precert and precertificate == timestamped + 3:
        raise StructureError("a part is empty that must not be")
    if (end - precertificate - 2) % _DIGEST:
        raise StructureError("the fingerprints do not come out even")
    return timestamped, end


def parse_merkle_tree_leaf(data: bytes) -> tuple[int, SignedEntry, bytes]:
    """Timestamp, entry and extensions of a MerkleTreeLeaf."""
    reader = _Reader(data)
    if reader.take(2) != LEAF_PREFIX:
        raise StructureError("it is not a timestamped entry of version 1")
    timestamp = reader.time()
    entry, _ = _parse_entry(reader)
    extensions = reader.vector(2)
    reader.end()
    return timestamp, entry, extensions


def _parse_entry(reader: _Reader) -> tuple[SignedEntry, bool]:
    entry_type = reader.number(2)
    if entry_type == X509_ENTRY:
        return X509Entry(reader.vector(3, at_least=1)), False
    if entry_type == PRECERT_ENTRY:
        return PrecertEntry(reader.take(_DIGEST), reader.vector(3, at_least=1)), True
    raise StructureError(f"there is no entry type {entry_type}")


def _vector_end(data: bytes, at: int, length_octets: int) -> int:
    begin = at + length_octets
    return begin + int.from_bytes(data[at:begin], "big")


class _Reader:
    """Takes octets from the front."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def take(self, octets: int) -> bytes:
        end = self.at + octets
        if end > len(self._data):
            raise StructureError(f"it is cut off: {end - len(self._data)} octets are missing")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def time(self) -> int:
        timestamp = self.number(8)
        if timestamp > _MAX_TIMESTAMP:
            raise StructureError("a timestamp beyond any clock")
        return timestamp

    def vector(self, length_octets: int, *, at_least: int = 0) -> bytes:
        length = self.number(length_octets)
        if length < at_least:
            raise StructureError("a part is empty that must not be")
        return self.take(length)

    @property
    def at_end(self) -> bool:
        return self.at == len(self._data)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.at)

    def end(self) -> None:
        if not self.at_end:
            raise StructureError(f"{len(self._data) - self.at} octets follow it")


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _time(timestamp: int) -> bytes:
    if not 0 <= timestamp <= _MAX_TIMESTAMP:
        raise StructureError("a timestamp beyond any clock")
    return timestamp.to_bytes(8, "big")


def _vector(content: bytes, length_octets: int) -> bytes:
    if len(content) >= 1 << 8 * length_octets:
        raise StructureError(f"{len(content)} octets do not fit into a vector with {length_octets} octets of length")
    return len(content).to_bytes(length_octets, "big") + content
