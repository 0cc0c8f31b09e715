"""One file that proves one certificate: its octets, and the issuer's seal over them. Pure: the key is an argument.

Rules:
- There is one way to write it: the JSON of `Evidence`, without space, members in the order of the type. A file that is
  written in any other way was changed by somebody, and is not read. One newline may end it.
- What cannot be proven by what others signed (the profile, the time of issuance) is told by the issuer alone: the seal
  is its signature over everything else in the file. So no octet can be changed without the key.
- What is sealed begins with a line that says its purpose, so that it is no certificate, list or answer, and no seal can
  be made of the signature of one.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from services.ca.evidence.messages import Evidence
from services.ca.keys import signatures
from services.ca.keys.signing_keys import SigningKey

MAX_EVIDENCE_OCTETS: Final = 524_288
_PURPOSE: Final = b"TrustChain: evidence of a certificate, version 1\n"
_END: Final = b"\n"

_decode: Final = msgspec.json.Decoder(Evidence).decode
_encode: Final = msgspec.json.Encoder().encode


class EvidenceError(ValueError):
    """The octets are not evidence as it is written. The text says what is wrong."""


def encode(evidence: Evidence) -> bytes:
    """The one way to write it, without a newline."""
    return _encode(evidence)


def parse(octets: bytes) -> Evidence:
    """Read evidence. Raises EvidenceError for everything that is not written the one way."""
    if len(octets) > MAX_EVIDENCE_OCTETS:
        raise EvidenceError(f"it has {len(octets)} octets; evidence has at most {MAX_EVIDENCE_OCTETS}")
    try:
        evidence = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceError(f"it is not evidence: {str(error)[:200]}") from error
    if octets.removesuffix(_END) != encode(evidence):
        raise EvidenceError("it is not written as evidence is: it was edited or formatted; ask for it again")
    return evidence


def sealed(evidence: Evidence, key: SigningKey) -> Evidence:
    """The same with the issuer's seal."""
    return msgspec.structs.replace(evidence, seal=signatures.sign(key, _sealed_octets(evidence)))


def verify_seal(evidence: Evidence, issuer: x509.Certificate) -> None:
    """Check that the issuer sealed exactly this. Raises InvalidSignature."""
    if not evidence.seal:
        raise InvalidSignature("there is no seal")
    signatures.verify(issuer.public_key(), evidence.seal, _sealed_octets(evidence), hashes.SHA256())


def _sealed_octets(evidence: Evidence) -> bytes:
    return _PURPOSE + encode(msgspec.structs.replace(evidence, seal=b""))
