"""What a SubjectPublicKeyInfo is, and what a key of its kind may be used for: as it stands in a certificate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import Final

from services import der
from services.ca.lint.findings import Findings
from services.der import DerError, Element

DIGITAL_SIGNATURE: Final = 0
CONTENT_COMMITMENT: Final = 1
KEY_ENCIPHERMENT: Final = 2
DATA_ENCIPHERMENT: Final = 3
KEY_AGREEMENT: Final = 4
KEY_CERT_SIGN: Final = 5

_SIGNS: Final = frozenset({DIGITAL_SIGNATURE, CONTENT_COMMITMENT})
_MIN_RSA_OCTETS: Final = 256


@dataclass(frozen=True, slots=True)
class KeyKind:
    """Keys with one algorithm identifier. `octets` is the length of the key, 0 where that differs."""

    name: str
    usages: frozenset[int]
    octets: int


_RSA: Final = KeyKind("RSA", _SIGNS | {KEY_ENCIPHERMENT, DATA_ENCIPHERMENT}, 0)
_EC_USAGES: Final = _SIGNS | {KEY_AGREEMENT}

# By the whole AlgorithmIdentifier: its parameters are fixed (RFC 3279, section 2.3.1; RFC 5480, section 2.1.1; RFC
# 8410, section 3; RFC 9881, section 2).
KINDS: Final = {
    bytes.fromhex("300d06092a864886f70d0101010500"): _RSA,
    bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"): KeyKind("P-256", _EC_USAGES, 65),
    bytes.fromhex("301006072a8648ce3d020106052b81040022"): KeyKind("P-384", _EC_USAGES, 97),
    bytes.fromhex("301006072a8648ce3d020106052b81040023"): KeyKind("P-521", _EC_USAGES, 133),
    bytes.fromhex("300506032b6570"): KeyKind("Ed25519", _SIGNS, 32),
    bytes.fromhex("300b0609608648016503040311"): KeyKind("ML-DSA-44", _SIGNS, 1312),
    bytes.fromhex("300b0609608648016503040312"): KeyKind("ML-DSA-65", _SIGNS, 1952),
    bytes.fromhex("300b0609608648016503040313"): KeyKind("ML-DSA-87", _SIGNS, 2592),
}

_ECDSA: Final = frozenset(bytes.fromhex(f"300a06082a8648ce3d04030{digest}") for digest in (2, 3, 4))
_RSA_SIGNATURES: Final = frozenset(bytes.fromhex(f"300d06092a864886f70d01010{digest}0500") for digest in "bcd")


def signature_algorithms(key_algorithm: bytes) -> frozenset[bytes]:
    """The algorithm identifiers that a key with this one may sign with. Raises KeyError for an unknown one."""
    kind = KINDS[key_algorithm]
    if kind is _RSA:
        return _RSA_SIGNATURES
    return _ECDSA if kind.name.startswith("P-") else frozenset({key_algorithm})


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key of a certificate. `identifier` is the SHA-1 of its octets (RFC 5280, section 4.2.1.2, method 1)."""

    kind: KeyKind
    identifier: bytes


def lint_key(spki: Element, findings: Findings) -> SubjectKey | None:
    """Look at a SubjectPublicKeyInfo; None when it is of no kind that is certified."""
    if [child.tag for child in spki.children] != [der.SEQUENCE, der.BIT_STRING]:
        findings.say("public-key", "the subject's public key is no SubjectPublicKeyInfo")
        return None
    algorithm, bits = spki.children
    kind = KINDS.get(algorithm.octets)
    if kind is None:
        findings.say("public-key", f"the key's algorithm is {algorithm.octets.hex()}")
        return None
    octets = bits.value
    key = octets[1:]
    if octets[0]:
        findings.say("public-key", "the key is not a whole number of octets")
    elif kind is _RSA:
        _lint_rsa(key, findings)
    elif len(key) != kind.octets or (kind.name.startswith("P-") and key[0] != 4):
        findings.say("public-key", f"{len(key)} octets are no {kind.name} key")
    return SubjectKey(kind, sha1(key).digest())  # noqa: S324 - an identifier; the section says SHA-1


def _lint_rsa(key: bytes, findings: Findings) -> None:
    try:
        numbers = der.parse(key)
    except DerError as error:
        findings.say("public-key", f"the RSA key is not DER: {error}")
        return
    if numbers.tag != der.SEQUENCE or [child.tag for child in numbers.children] != [der.INTEGER, der.INTEGER]:
        findings.say("public-key", "the RSA key is no RSAPublicKey")
        return
    modulus, exponent = (child.value for child in numbers.children)
    positive = modulus[0] < 0x80 and exponent[0] < 0x80
    if not positive or len(modulus.lstrip(b"\0")) < _MIN_RSA_OCTETS or not modulus[-1] & exponent[-1] & 1:
        findings.say("public-key", "the RSA key's modulus or exponent is none")
