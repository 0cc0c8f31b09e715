"""Signed certificate timestamps, version 1 (RFC 6962, sections 3.2 and 3.3): octets, lists and signatures. Pure.

Rules:
- Structures are read strictly: a length that is wrong, an empty member and octets behind the end are errors.
- A timestamp counts only when the log whose key is known signed it over the precertificate that was sent, and when the
  structure that will be embedded says the same as the reply that brought it.
- The log's key is ECDSA on P-256 with SHA-256 (section 2.1.4). The log's id is the SHA-256 of its key (section 3.2).
- Clients refuse timestamps of the future: one that is ahead by more than MAX_AHEAD_MILLISECONDS is a clock's fault, at
  the log or here, and no forgery.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.ct.messages import SignedCertificateTimestamp

MAX_AHEAD_MILLISECONDS: Final = 60_000
MAX_LIST_OCTETS: Final = 65_535

_VERSION_1: Final = 0
_ECDSA_SHA256: Final = b"\x04\x03"  # RFC 5246, section 7.4.1.4.1
_CERTIFICATE_TIMESTAMP: Final = 0
_PRECERT_ENTRY: Final = 1
_FIXED: Final = struct.Struct(">B32sQH")
_LEAF_INDEX_EXTENSION: Final = b"\x00\x00\x05"  # C2SP static-ct-api: type 0, 5 octets


class SctError(ValueError):
    """Not a timestamp, not one of this log, or not for this precertificate. The text says what is wrong."""


class SctFromTheFuture(Exception):
    """The log's clock and the one here do not agree; no client would accept this timestamp now."""


@dataclass(frozen=True, slots=True)
class Sct:
    """One timestamp, taken apart. `timestamp` is in milliseconds since the Unix epoch."""

    log_id: bytes
    timestamp: int
    extensions: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Who signs: the log's key and its id."""

    log_id: bytes
    public_key: ec.EllipticCurvePublicKey

    @classmethod
    def of(cls, public_key: bytes) -> LogIdentity:
        """From a SubjectPublicKeyInfo, DER. Raises SctError for a key that no log of RFC 6962 has here."""
        try:
            key = serialization.load_der_public_key(public_key)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SctError("the log's key is no public key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise SctError("the log's key is not on P-256")
        return cls(sha256(public_key).digest(), key)


def parse_sct(octets: bytes) -> Sct:
    """Take one SignedCertificateTimestamp apart. Raises SctError."""
    if len(octets) < _FIXED.size:
        raise SctError("a timestamp that is cut off")
    version, log_id, timestamp, extension_octets = _FIXED.unpack_from(octets)
    if version != _VERSION_1:
        raise SctError(f"a timestamp of version {version + 1}; version 1 is understood")
    begin = _FIXED.size + extension_octets
    signature = octets[begin:]
    if len(signature) < 4 or signature[:2] != _ECDSA_SHA256:
        raise SctError("a timestamp without an ECDSA signature over SHA-256")
    if int.from_bytes(signature[2:4], "big") != len(signature) - 4 or len(signature) == 4:
        raise SctError("a timestamp whose signature has a wrong length")
    return Sct(log_id, timestamp, octets[_FIXED.size : begin], signature)


def encode_list(scts: Sequence[bytes]) -> bytes:
    """A SignedCertificateTimestampList of at least one timestamp (section 3.3). Raises SctError."""
    if not scts or not all(scts) or sum(2 + len(one) for one in scts) > MAX_LIST_OCTETS:
        raise SctError("a list of timestamps that is empty or too long")
    content = b"".join(len(one).to_bytes(2, "big") + one for one in scts)
    return len(content).to_bytes(2, "big") + content


def parse_list(octets: bytes) -> tuple[bytes, ...]:
    """The timestamps of a SignedCertificateTimestampList, at least one. Raises SctError."""
    if len(octets) < 2 or int.from_bytes(octets[:2], "big") != len(octets) - 2:
        raise SctError("a list of timestamps with a wrong length")
    found: list[bytes] = []
    position = 2
    while position < len(octets):
        begin = position + 2
        end = begin + int.from_bytes(octets[position:begin], "big")
        if end == begin or end > len(octets):
            raise SctError("a list with a timestamp that is empty or cut off")
        found.append(octets[begin:end])
        position = end
    if not found:
        raise SctError("a list without a timestamp")
    return tuple(found)


def leaf_index_of(extensions: bytes) -> int | None:
    """The leaf index that the extensions tell, if they tell one first (C2SP static-ct-api)."""
    if len(extensions) < 8 or extensions[:3] != _LEAF_INDEX_EXTENSION:
        return None
    return int.from_bytes(extensions[3:8], "big")


def signed_octets(timestamp: int, issuer_key_hash: bytes, to_be_signed: bytes, extensions: bytes) -> bytes:
    """What a log signs for a precertificate; `to_be_signed` is its TBSCertificate without the poison (section 3.2)."""
    return b"".join(
        (
            struct.pack(">BBQH", _VERSION_1, _CERTIFICATE_TIMESTAMP, timestamp, _PRECERT_ENTRY),
            issuer_key_hash,
            len(to_be_signed).to_bytes(3, "big"),
            to_be_signed,
            len(extensions).to_bytes(2, "big"),
            extensions,
        )
    )


def verify(reply: SignedCertificateTimestamp, log: LogIdentity, issuer_key_hash: bytes, to_be_signed: bytes) -> None:
    """Whether the log promised this precertificate, whose TBSCertificate comes without the poison. Raises SctError."""
    sct = parse_sct(reply.serialized)
    if sct != Sct(reply.log_id, reply.timestamp, reply.extensions, reply.signature):
        raise SctError("the structure to be embedded says something else than the reply around it")
    if sct.log_id != log.log_id:
        raise SctError(f"a timestamp of the log {sct.log_id.hex()}, not of {log.log_id.hex()}")
    index = leaf_index_of(sct.extensions)
    if index is not None and index != reply.leaf_index:
        raise SctError(f"a timestamp for the leaf {index}, in a reply about the leaf {reply.leaf_index}")
    signed = signed_octets(sct.timestamp, issuer_key_hash, to_be_signed, sct.extensions)
    try:
        log.public_key.verify(sct.signature[4:], signed, _ALGORITHM)
    except InvalidSignature:
        raise SctError("the log's signature does not verify over this precertificate") from None


def check_clock(timestamp: int, now: int) -> None:
    """Whether clients will accept it at `now`; both in milliseconds since the Unix epoch. Raises SctFromTheFuture."""
    if timestamp > now + MAX_AHEAD_MILLISECONDS:
        raise SctFromTheFuture(f"the log's timestamp is {(timestamp - now) / 1000:.0f} s ahead of the clock here")


_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())
