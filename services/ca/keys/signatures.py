"""Signing, and verifying a signature, by a key of any type that is used here. Pure.

Rules:
- RSA means PKCS #1 v1.5, as in certificates, lists and OCSP answers; the digest counts for RSA and ECDSA only.
- Certificates, lists and requests that the library builds are signed by it, with the same digest (`signing_hash`).
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa

from services.ca.keys.signing_keys import SigningKey

_PROOF: Final = b"TrustChain: this is a probe of the issuing key"
_WITHOUT_DIGEST: Final = (
    ed25519.Ed25519PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)


def sign(key: SigningKey, message: bytes) -> bytes:
    """A signature over `message`, with SHA-256 where the key does not bring its own digest."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    return key.sign(message)


def verify(key: object, signature: bytes, message: bytes, digest: hashes.HashAlgorithm | None) -> None:
    """Returns when `signature` over `message` is by `key`. Raises InvalidSignature."""
    if isinstance(key, _WITHOUT_DIGEST):
        key.verify(signature, message)
    elif digest is None:
        raise InvalidSignature("a signature without a digest by a key that needs one")
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), digest)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(digest))
    else:
        raise InvalidSignature(f"signatures by a {type(key).__name__} are not verified here")


def sign_and_verify(key: SigningKey, message: bytes) -> bytes:
    """A signature over `message` that its own public key has verified. Raises InvalidSignature."""
    signature = sign(key, message)
    verify(key.public_key(), signature, message, hashes.SHA256())
    return signature


def prove(private: SigningKey, public: object) -> None:
    """Sign something that is no certificate, and verify it with the public key. Raises InvalidSignature."""
    verify(public, sign(private, _PROOF), _PROOF, hashes.SHA256())


def algorithm_identifier(key: object) -> bytes:
    """The AlgorithmIdentifier (DER) of what `sign` makes with this key. Raises TypeError for a key of another type."""
    for kind, algorithm in _ALGORITHMS:
        if isinstance(key, kind):
            return algorithm
    raise TypeError(f"a {type(key).__name__} signs nothing here")


# AlgorithmIdentifiers of RFC 5758 (section 3.2), RFC 4055 (section 5), RFC 8410 (section 3) and RFC 9881 (section 2).
_ALGORITHMS: Final = (
    (ec.EllipticCurvePrivateKey, bytes.fromhex("300a06082a8648ce3d040302")),
    (rsa.RSAPrivateKey, bytes.fromhex("300d06092a864886f70d01010b0500")),
    (ed25519.Ed25519PrivateKey, bytes.fromhex("300506032b6570")),
    (mldsa.MLDSA44PrivateKey, bytes.fromhex("300b0609608648016503040311")),
    (mldsa.MLDSA65PrivateKey, bytes.fromhex("300b0609608648016503040312")),
    (mldsa.MLDSA87PrivateKey, bytes.fromhex("300b0609608648016503040313")),
)
