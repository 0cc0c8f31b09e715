"""Certificate profiles: what a leaf may be used for, which names and keys it may have, and how long it is valid. Pure.

Rules:
- A profile is data, made of its document. A request picks one by its name and brings nothing of its own into it.
- Each refusal names the rule that refused: `profile NAME: KEY` in the profile's file, or the key of a setting.
- Lists of names and lifetimes only narrow what the section [ca] of the settings allows.
- Lifetimes are counted from `now`; backdating comes on top, for relying parties whose clock is behind. A leaf never
  outlives its issuer, nor begins before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from config.keys import PURPOSES
from config.profile_schema import (
    Extensions,
    HierarchyKind,
    KeyUsageName,
    LeafKeyType,
    NamedProfile,
    NameKind,
    ProfileDocument,
)
from services.ca.messages import Refusal
from services.ca.policy import public_keys
from services.ca.policy.names import NamePolicy
from services.ca.policy.public_keys import CertifiedKey


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
    """The validity of leaves, in seconds. `limited_by` names the rule that sets the maximum."""

    default: int
    maximum: int
    backdate: int
    limited_by: str = "ca.max_validity"


class IssuerNotValid(Exception):
    """The issuing certificate is not valid now, so that nothing signed with it would be."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the leaves of one profile have in common."""

    name: str
    hierarchy: HierarchyKind
    transparency: bool
    key_types: frozenset[LeafKeyType]
    key_usages: Mapping[LeafKeyType, x509.KeyUsage]
    purposes: x509.ExtendedKeyUsage
    name_kinds: tuple[NameKind, ...]
    names: NamePolicy
    extensions: tuple[x509.ExtensionType, ...]
    common_name: bool
    organization: str
    lifetimes: Lifetimes

    @classmethod
    def of(cls, named: NamedProfile, limits: Lifetimes) -> Profile:
        """From its document; `limits` are those of the settings. Raises ValueError for a name that is none."""
        document = named.document
        return cls(
            name=named.name,
            hierarchy=document.hierarchy,
            transparency=document.transparency,
            key_types=frozenset(document.key_types),
            key_usages={key_type: _key_usage(usages) for key_type, usages in _usages_by_type(document)},
            purposes=x509.ExtendedKeyUsage([_purpose(text) for text in document.extended_key_usages]),
            name_kinds=document.names.kinds,
            names=NamePolicy.of(
                document.names.allowed,
                document.names.denied,
                allowed_by=rule(named.name, "names.allowed"),
                denied_by=rule(named.name, "names.denied"),
            ),
            extensions=tuple(_extensions(document.extensions)),
            common_name=document.subject.common_name,
            organization=document.subject.organization,
            lifetimes=_lifetimes(named, limits),
        )

    def check_key(self, key: CertifiedKey) -> None:
        """Raises Refusal("bad-key") for a key of a type that this profile does not certify."""
        key_type = public_keys.type_of(key)
        if key_type not in self.key_types:
            known = ", ".join(sorted(self.key_types))
            by = rule(self.name, "key_types")
            raise Refusal("bad-key", "csr", f"keys of the type {key_type} are refused by {by}; certified are: {known}")


def rule(profile: str, key: str) -> str:
    """How refusals name a rule of a profile."""
    return f"profile {profile}: {key}"


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
            f"a lifetime of {lifetime} s is above the maximum of {lifetimes.maximum} s ({lifetimes.limited_by})",
        )
    return Validity(max(now - lifetimes.backdate, issuer.not_before), min(now + lifetime, issuer.not_after))


def _usages_by_type(document: ProfileDocument) -> Iterable[tuple[LeafKeyType, tuple[KeyUsageName, ...]]]:
    usage = document.key_usage
    for key_type in document.key_types:
        if key_type == "rsa":
            yield key_type, usage.rsa
        elif key_type == "ed25519":
            yield key_type, usage.ed25519
        else:
            yield key_type, usage.ml_dsa if key_type.startswith("ml-dsa") else usage.ecdsa


def _key_usage(usages: tuple[KeyUsageName, ...]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digitalSignature" in usages,
        content_commitment="contentCommitment" in usages,
        key_encipherment="keyEncipherment" in usages,
        data_encipherment="dataEncipherment" in usages,
        key_agreement="keyAgreement" in usages,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purpose(text: str) -> x509.ObjectIdentifier:
    return x509.ObjectIdentifier(PURPOSES.get(text, text))


def _extensions(wanted: Extensions) -> Iterable[x509.ExtensionType]:
    if wanted.must_staple:
        yield x509.TLSFeature([x509.TLSFeatureType.status_request])
    if wanted.certificate_policies:
        policies = (x509.PolicyInformation(x509.ObjectIdentifier(text), None) for text in wanted.certificate_policies)
        yield x509.CertificatePolicies(policies)


def _lifetimes(named: NamedProfile, limits: Lifetimes) -> Lifetimes:
    said = named.document.validity
    narrower = said.max is not None and said.max < limits.maximum
    maximum = said.max if said.max is not None and narrower else limits.maximum
    return Lifetimes(
        default=min(limits.default if said.default is None else said.default, maximum),
        maximum=maximum,
        backdate=limits.backdate if said.backdate is None else said.backdate,
        limited_by=rule(named.name, "validity.max") if narrower else limits.limited_by,
    )
