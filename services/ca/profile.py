"""Certificate profiles: what a leaf may be used for, which names it may carry, and how long it is valid.

Rules:
- A profile is data. A request picks one by its name and brings nothing of its own into it.
- Servers are found by DNS name or IP address; only profiles for clients certify e-mail addresses and URIs.
- Key usage follows the key: every key signs, only RSA keys also take part in key transport (RFC 5480, section 3; RFC
  8410, section 5).
- Lifetimes are counted from `now`; backdating comes on top, for relying parties whose clock is behind. A leaf never
  outlives its issuer, nor begins before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.ca.messages import Refusal
from services.ca.names import NameKind
from services.ca.public_keys import CertifiedKey


@dataclass(frozen=True, slots=True)
class Profile:
    """What the leaves of one profile have in common."""

    name: str
    purposes: tuple[x509.ObjectIdentifier, ...]
    name_kinds: tuple[NameKind, ...]


@dataclass(frozen=True, slots=True)
class Validity:
    """First and last valid second, both inclusive (RFC 5280, section 4.1.2.5), in seconds since the Unix epoch."""

    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        if self.not_after < self.not_before:
            raise ValueError(f"a validity that ends at {self.not_after}, before it begins at {self.not_before}")

    def covers(self, now: int) -> bool:
        """Whether `now` is a valid second."""
        return self.not_before <= now <= self.not_after


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What settings say about the validity of leaves, in seconds."""

    default: int
    maximum: int
    backdate: int


class IssuerNotValid(Exception):
    """The issuing certificate is not valid now, so that nothing signed with it would be."""


SERVER: Final = Profile("tls-server", (ExtendedKeyUsageOID.SERVER_AUTH,), ("dns", "ip"))
CLIENT: Final = Profile("tls-client", (ExtendedKeyUsageOID.CLIENT_AUTH,), ("dns", "ip", "email", "uri"))
SERVER_AND_CLIENT: Final = Profile(
    "tls-server-client",
    (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ("dns", "ip", "email", "uri"),
)
PROFILES: Final = MappingProxyType({profile.name: profile for profile in (SERVER, CLIENT, SERVER_AND_CLIENT)})


def select(name: str) -> Profile:
    """The profile of this name. Raises Refusal("unknown-profile")."""
    profile = PROFILES.get(name)
    if profile is None:
        raise Refusal("unknown-profile", "profile", f"there is no profile {name[:64]!r}; known: {', '.join(PROFILES)}")
    return profile


def key_usage(key: CertifiedKey) -> x509.KeyUsage:
    """Key usage of a TLS leaf with this key."""
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=isinstance(key, rsa.RSAPublicKey),
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def decide_validity(requested: int | None, lifetimes: Lifetimes, issuer: Validity, now: int) -> Validity:
    """When a leaf that is asked for at `now` is valid. `requested` is its lifetime in seconds, None for the default.

    Raises Refusal("bad-validity") for a lifetime below one second or above the maximum, and IssuerNotValid.
    """
    if not issuer.covers(now):
        raise IssuerNotValid(
            f"the issuing certificate is valid from {issuer.not_before} to {issuer.not_after}, now is {now}"
        )
    lifetime = lifetimes.default if requested is None else requested
    if lifetime < 1:
        raise Refusal("bad-validity", "validity_seconds", f"a lifetime of {lifetime} s is not positive")
    if lifetime > lifetimes.maximum:
        raise Refusal(
            "bad-validity",
            "validity_seconds",
            f"a lifetime of {lifetime} s is above the maximum of {lifetimes.maximum} s (ca.max_validity)",
        )
    return Validity(max(now - lifetimes.backdate, issuer.not_before), min(now + lifetime, issuer.not_after))
