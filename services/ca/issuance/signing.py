"""Signing a certificate in two steps: first all that is to be signed, then the signature over it. Pure.

Rules:
- What is to be signed is there as octets before anything is signed, so that it can be judged. The library's builder
  makes these octets only on their way to a key: it is given one that keeps them and signs nothing.
- The key that keeps them is of the type of the issuer's, because the algorithm is among what is signed.
- A signature is verified before it is given to anybody: a fault of the machine, or of a token that holds the key, must
  not leave it (with RSA, one wrong signature tells the private key).
"""

from __future__ import annotations

from abc import ABCMeta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from services import der
from services.ca.keys import signatures
from services.ca.keys.signing_keys import SigningKey, signing_hash

_KEY_TYPES: Final[tuple[ABCMeta, ...]] = (
    ec.EllipticCurvePrivateKey,
    rsa.RSAPrivateKey,
    ed25519.Ed25519PrivateKey,
    mldsa.MLDSA44PrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)


class _Keeper:
    """Takes the place of a private key, and keeps what it is given."""

    def __init__(self) -> None:
        self.kept = b""

    def sign(self, data: bytes, *_: object) -> bytes:
        self.kept = bytes(data)
        return b""


def _keeper_class(key_type: ABCMeta) -> type[_Keeper]:
    made = type(f"{key_type.__name__}Keeper", (_Keeper,), {})
    key_type.register(made)
    return made


_KEEPERS: Final[tuple[tuple[Any, type[_Keeper]], ...]] = tuple(
    (key_type, _keeper_class(key_type)) for key_type in _KEY_TYPES
)


def to_be_signed(builder: x509.CertificateBuilder, private_key: SigningKey) -> bytes:
    """The TBSCertificate (DER) that `builder` gives to `private_key`, which signs nothing. Raises TypeError."""
    for key_type, keeper_class in _KEEPERS:
        if isinstance(private_key, key_type):
            keeper: Any = keeper_class()  # a virtual subclass of key_type
            builder.sign(keeper, signing_hash(private_key))
            kept: bytes = keeper.kept
            return kept
    raise TypeError(f"a {type(private_key).__name__} cannot be an authority's key")


def certificate(tbs: bytes, private_key: SigningKey) -> bytes:
    """The certificate (DER) of a TBSCertificate. Raises InvalidSignature when the signature is none."""
    signature = signatures.sign_and_verify(private_key, tbs)
    # version, serialNumber, signature: the algorithm stands in both places (RFC 5280, section 4.1.1.2).
    algorithm = der.members(der.whole(tbs, der.SEQUENCE))[2].octets
    return der.encode(der.SEQUENCE, tbs + algorithm + der.encode(der.BIT_STRING, b"\0" + signature))
