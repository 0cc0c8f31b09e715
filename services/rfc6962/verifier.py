"""What a log signs, verified with its public key: tree heads and timestamps of entries (RFC 6962, section 2.1.4). Pure.

Rules: a log is known by the SHA-256 of its SubjectPublicKeyInfo (section 3.2), and its key is on P-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.rfc6962 import structures
from services.rfc6962.structures import Sct, SignedEntry, StructureError

_VERIFY: Final = ec.ECDSA(hashes.SHA256())


class SignatureRefused(ValueError):
    """The signature is not one by this key over these octets."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A tree as the log stands by it: `timestamp` in milliseconds since the Unix epoch."""

    size: int
    timestamp: int
    root: bytes

    @property
    def signed_data(self) -> bytes:
        """What its signature is over."""
        return structures.tree_head_signed_data(self.timestamp, self.size, self.root)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A tree head with its signature, a DigitallySigned structure."""

    head: TreeHead
    signature: bytes


class LogVerifier:
    """The public key of a log."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"the key of a log is on P-256, not on {key.curve.name}")
        self._key = key
        self.public_key = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.log_id = sha256(self.public_key).digest()

    @classmethod
    def of(cls, public_key: bytes) -> LogVerifier:
        """The key in a SubjectPublicKeyInfo, DER. Raises ValueError when it is not a key on P-256."""
        try:
            key = serialization.load_der_public_key(public_key)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("it is not a public key") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the key of a log is an elliptic curve key")
        return cls(key)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a DigitallySigned structure over `data`. Raises SignatureRefused."""
        try:
            self._key.verify(structures.parse_digitally_signed(signature), data, _VERIFY)
        except (StructureError, InvalidSignature) as error:
            raise SignatureRefused("the signature is not one by this log") from error

    def verify_head(self, signed: SignedHead) -> None:
        """Check the signature of a tree head. Raises SignatureRefused."""
        self.verify(signed.signature, signed.head.signed_data)

    def verify_sct(self, sct: Sct, entry: SignedEntry) -> None:
        """Check that the SCT is by this log and over this entry. Raises SignatureRefused."""
        if sct.log_id != self.log_id:
            raise SignatureRefused("it is by another log")
        self.verify(
            sct.signature, structures.sct_signed_data(sct.timestamp, structures.signed_entry(entry), sct.extensions)
        )
