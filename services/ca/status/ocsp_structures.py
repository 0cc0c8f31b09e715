"""The octets of OCSP requests and responses (RFC 6960, sections 4.1 and 4.2). Pure.

Rules:
- Written here because the library reads and writes one certificate for each message only, and takes the time at which
  an answer was produced from the host. What is written is read by the library in the tests, and the other way round.
- Hash algorithms are read with parameters NULL and without, and written with NULL, as all clients do.
- Extensions of a request are not looked at: there is none that must be obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from services import der
from services.der import DerError, Element

_OIDS: Final = MappingProxyType(
    {
        "sha1": bytes.fromhex("2b0e03021a"),
        "sha256": bytes.fromhex("608648016503040201"),
        "sha384": bytes.fromhex("608648016503040202"),
        "sha512": bytes.fromhex("608648016503040203"),
    }
)
_DIGEST_OF: Final = {oid: name for name, oid in _OIDS.items()}
_DIGEST_OCTETS: Final = MappingProxyType({"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64})
_BASIC_RESPONSE: Final = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
_SUCCESSFUL: Final = b"\x0a\x01\x00"
_GOOD: Final = b"\x80\x00"
_UNKNOWN: Final = b"\x82\x00"
_ENUMERATED: Final = 0x0A


class UnknownHash(ValueError):
    """A hash algorithm by which no issuer is named here."""


@dataclass(frozen=True, slots=True)
class CertId:
    """Which certificate is asked about (RFC 6960, section 4.1.1). `digest` is the hash's name in lower case."""

    digest: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class Single:
    """One SingleResponse. `reason` is a CRLReason; it and `revoked_at` are None for what is not revoked."""

    asked: CertId
    known: bool
    revoked_at: int | None
    reason: int | None
    this_update: int
    next_update: int


def read_request(request: bytes) -> list[CertId]:
    """The certificates that an OCSPRequest asks about. Raises DerError, and UnknownHash."""
    root = der.parse(request)
    to_be_signed = _sequence(root, 1, 2)[0]
    parts = _sequence(to_be_signed, 1, 4)
    if len(root.children) == 2:
        _tagged(root.children[1], {0xA0})
    before = [part.tag for part in parts if part.tag in {0xA0, 0xA1}]
    lists = parts[len(before) :]
    if [part.tag for part in parts[: len(before)]] != sorted(set(before)) or not lists:
        raise DerError("a TBSRequest without a list of requests")
    if before[:1] == [0xA0] and parts[0].value != b"\x02\x01\x00":
        raise DerError("a version that is not 1")
    for other in lists[1:]:
        _tagged(other, {0xA2})
    if len(lists) > 2:
        raise DerError("a TBSRequest with more than its extensions at its end")
    return [_cert_id(_sequence(one, 1, 2)[0]) for one in _sequence(lists[0], 1, der.MAX_OCTETS)]


def response_data(key_hash: bytes, produced_at: int, singles: Sequence[Single]) -> bytes:
    """A ResponseData of a responder that is named by the SHA-1 of its key. Times: seconds since the Unix epoch."""
    by_key = der.encode(0xA2, der.encode(der.OCTET_STRING, key_hash))
    answers = der.encode(der.SEQUENCE, b"".join(map(_single, singles)))
    return der.encode(der.SEQUENCE, by_key + _time(produced_at) + answers)


def response(data: bytes, algorithm: bytes, signature: bytes, certificate: bytes) -> bytes:
    """A successful OCSPResponse of signed ResponseData. `algorithm` is an AlgorithmIdentifier, DER."""
    certificates = der.encode(0xA0, der.encode(der.SEQUENCE, certificate))
    basic = data + algorithm + der.encode(der.BIT_STRING, b"\0" + signature) + certificates
    octets = der.encode(der.OCTET_STRING, der.encode(der.SEQUENCE, basic))
    return der.encode(der.SEQUENCE, _SUCCESSFUL + der.encode(0xA0, der.encode(der.SEQUENCE, _BASIC_RESPONSE + octets)))


def _single(one: Single) -> bytes:
    return der.encode(
        der.SEQUENCE,
        _encoded_cert_id(one.asked) + _status(one) + _time(one.this_update) + der.encode(0xA0, _time(one.next_update)),
    )


def _encoded_cert_id(asked: CertId) -> bytes:
    algorithm = der.encode(der.OBJECT_IDENTIFIER, _OIDS[asked.digest]) + der.encode(der.NULL, b"")
    octets = max(1, asked.serial.bit_length() // 8 + 1)  # with room for the sign
    return der.encode(
        der.SEQUENCE,
        der.encode(der.SEQUENCE, algorithm)
        + der.encode(der.OCTET_STRING, asked.issuer_name_hash)
        + der.encode(der.OCTET_STRING, asked.issuer_key_hash)
        + der.encode(der.INTEGER, asked.serial.to_bytes(octets, "big")),
    )


def _status(one: Single) -> bytes:
    if one.revoked_at is None:
        return _GOOD if one.known else _UNKNOWN
    reason = b""
    if one.reason is not None:
        reason = der.encode(0xA0, der.encode(_ENUMERATED, bytes((one.reason,))))
    return der.encode(0xA1, _time(one.revoked_at) + reason)


def _time(unix_seconds: int) -> bytes:
    text = datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y%m%d%H%M%SZ")
    return der.encode(der.GENERALIZED_TIME, text.encode("ascii"))


def _cert_id(element: Element) -> CertId:
    algorithm, name, key, serial = _sequence(element, 4, 4)
    for part, tag in ((name, der.OCTET_STRING), (key, der.OCTET_STRING), (serial, der.INTEGER)):
        _tagged(part, {tag})
    digest = _digest(algorithm)
    if not len(name.value) == len(key.value) == _DIGEST_OCTETS[digest]:
        raise DerError(f"a CertID whose hashes are no {digest}")
    return CertId(digest, name.value, key.value, int.from_bytes(serial.value, "big", signed=True))


def _digest(algorithm: Element) -> str:
    identifier, *parameters = _sequence(algorithm, 1, 2)
    _tagged(identifier, {der.OBJECT_IDENTIFIER})
    digest = _DIGEST_OF.get(identifier.value)
    if digest is None:
        raise UnknownHash(f"no issuer is named by the hash algorithm {identifier.value.hex()}")
    for one in parameters:
        _tagged(one, {der.NULL})
    return digest


def _sequence(element: Element, least: int, most: int) -> list[Element]:
    _tagged(element, {der.SEQUENCE})
    if not least <= len(element.children) <= most:
        raise DerError(f"a sequence at {element.begin} with {len(element.children)} members")
    return element.children


def _tagged(element: Element, tags: set[int]) -> None:
    if element.tag not in tags:
        raise DerError(f"the tag {element.tag:02x} at {element.begin}")
