"""The authority's private keys: which types sign here, and with which digest. Pure.

Rules:
- A key in a token (PKCS #11) satisfies the same interface as one in memory; only its place differs (`TokenKey`).
- RSA and ECDSA sign with SHA-256; Ed25519 and ML-DSA bring their own digest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

MlDsaKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | MlDsaKey

_MLDSA_PUBLIC: Final = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)
_PUBLIC: Final = (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey, *_MLDSA_PUBLIC)
_WITHOUT_DIGEST: Final = (ed25519.Ed25519PrivateKey, MlDsaKey)


class TokenKey(ABC):
    """Marks a private key that stays in a token."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where it is: a URI of RFC 7512."""


def token_uri(key: object) -> str | None:
    """Where the key is if it is in a token."""
    return key.uri if isinstance(key, TokenKey) else None


def is_signing_key(key: object) -> bool:
    """Whether `key` is a private key of a type that an authority may have."""
    return isinstance(key, SigningKey)


def is_post_quantum(public_key: object) -> bool:
    """Whether signatures by this key are ML-DSA."""
    return isinstance(public_key, _MLDSA_PUBLIC)


def signing_hash(key: SigningKey) -> hashes.SHA256 | None:
    """The digest that `key` signs with; None for Ed25519 and ML-DSA, which bring their own."""
    return None if isinstance(key, _WITHOUT_DIGEST) else hashes.SHA256()


def spki(key: object) -> bytes:
    """SubjectPublicKeyInfo, DER: equal for equal public keys. Raises TypeError for what is no authority's key."""
    if not isinstance(key, _PUBLIC):
        raise TypeError(f"a {type(key).__name__} cannot be an authority's key")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
