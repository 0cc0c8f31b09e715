"""What a certificate profile may say: types, bounds and defaults, as `schema` has them for the settings.

Rules:
- Extensions are given by name only: nothing of a profile gets into a certificate as octets.
- What is left out of `validity` is what the section [ca] of the settings says; `ca.max_validity` stays the limit.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from config.schema import ProfileName, Zones, between, of_kind

LeafKeyType = Literal["rsa", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"]
NameKind = Literal["dns", "ip", "email", "uri"]
HierarchyKind = Literal["classical", "post-quantum"]
KeyUsageName = Literal["digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement"]

Purpose = Annotated[str, of_kind("purpose", min_length=1, max_length=128)]
ObjectIdentifier = Annotated[str, of_kind("object identifier", min_length=3, max_length=128)]
Organization = Annotated[str, of_kind("organization", max_length=64)]
Usages = Annotated[tuple[KeyUsageName, ...], Meta(min_length=1, max_length=5)]
Seconds = Annotated[int, between(60, 34_560_000, "seconds")]


class Names(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which names: their kinds, and lists that hold beside those of the section [ca] of the settings."""

    kinds: Annotated[tuple[NameKind, ...], Meta(min_length=1, max_length=4)] = ("dns", "ip")
    allowed: Zones = ()
    denied: Zones = ()


class KeyUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key usage by the type of the key (RFC 5280, section 4.2.1.3)."""

    rsa: Usages = ("digitalSignature", "keyEncipherment")
    ecdsa: Usages = ("digitalSignature",)
    ed25519: Usages = ("digitalSignature",)
    ml_dsa: Usages = ("digitalSignature",)


class Extensions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Further extensions: TLS feature `status_request` (RFC 7633), certificate policies (RFC 5280, section 4.2.1.4)."""

    must_staple: bool = False
    certificate_policies: Annotated[tuple[ObjectIdentifier, ...], Meta(max_length=16)] = ()


class Subject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The subject: the first name as common name or not, and a fixed organization."""

    common_name: bool = True
    organization: Organization = ""


class Lifetimes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Validity and backdating, in seconds; None is what the section [ca] of the settings says."""

    default: Seconds | None = None
    max: Seconds | None = None
    backdate: Annotated[int, between(0, 86_400, "seconds")] | None = None


class ProfileDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One profile as its file says it."""

    description: Annotated[str, of_kind("name", min_length=1, max_length=200)]
    key_types: Annotated[tuple[LeafKeyType, ...], Meta(min_length=1, max_length=8)] = (
        "rsa",
        "ecdsa-p256",
        "ecdsa-p384",
        "ecdsa-p521",
        "ed25519",
    )
    extended_key_usages: Annotated[tuple[Purpose, ...], Meta(min_length=1, max_length=16)]
    hierarchy: HierarchyKind = "classical"
    transparency: bool = True
    names: Names = Names()
    key_usage: KeyUsage = KeyUsage()
    extensions: Extensions = Extensions()
    subject: Subject = Subject()
    validity: Lifetimes = Lifetimes()


class NamedProfile(Struct, frozen=True, kw_only=True):
    """A profile with the name of its file, and the file."""

    name: ProfileName
    place: str
    document: ProfileDocument
