"""Certificate profiles as TOML documents: their types, and one document's bytes made into a checked profile. Pure.

Rules:
- A profile is judged like the configuration: every key has a type and bounds, and everything that is wrong is told at
  once, with its line, what was found, what is expected and the nearest valid key.
- Extensions are given by name only: nothing that is parsed here gets into a certificate as octets.
- What is left out of `validity` is what the section [ca] of the settings says, which stay the upper limits.
- What a key can be used for is judged for its type (RFC 4055, section 1.2; RFC 5480, section 3; RFC 8410, section 5;
  RFC 9881, section 5): a profile that could only lead to certificates that break these is refused as a whole.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from config.keys import Section, keys_of, section_of
from config.layers import Entry, document_layer
from config.problems import ConfigError, Problem, shortened
from config.schema import ProfileName, Zones, between, of_kind

LeafKeyType = Literal[
    "rsa", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"
]
NameKind = Literal["dns", "ip", "email", "uri"]
HierarchyKind = Literal["classical", "post-quantum"]
KeyUsageName = Literal["digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement"]

Purpose = Annotated[str, of_kind("purpose", min_length=1, max_length=128)]
ObjectIdentifier = Annotated[str, of_kind("object identifier", min_length=3, max_length=128)]
Organization = Annotated[str, of_kind("organization", max_length=64)]
Usages = Annotated[tuple[KeyUsageName, ...], Meta(min_length=1, max_length=5)]
Seconds = Annotated[int, between(60, 34_560_000, "seconds")]

# A key that only signs: EdDSA and ML-DSA. Usages beyond these contradict what the key can do.
_SIGNING: Final = frozenset({"digitalSignature", "contentCommitment"})
_USAGES: Final = {
    "rsa": _SIGNING | {"keyEncipherment", "dataEncipherment"},
    "ecdsa": _SIGNING | {"keyAgreement"},
    "ed25519": _SIGNING,
    "ml_dsa": _SIGNING,
}


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


PROFILE: Final[Section] = section_of(ProfileDocument)
"""What a profile's file may say."""

_KEYS: Final = {key.path: key for key in keys_of(PROFILE)}
_REQUIRED: Final = ("description", "extended_key_usages")


def parse_profile(content: bytes, name: str, place: str) -> NamedProfile:
    """Read the TOML document of the profile `name`; `place` is its file. Raises ConfigError with all that is wrong."""
    layer = document_layer(content, place, root=PROFILE)
    problems = list(layer.problems)
    values: dict[str, object] = {}
    for path, entry in layer.entries.items():
        try:
            values[path] = _KEYS[path].judged(entry.value)
        except ValueError:
            problems.append(Problem(entry.origin, path, shortened(entry.value), _KEYS[path].expected))
    if not layer.problems:  # a document that could not be read says nothing about what it leaves out
        problems += [
            Problem(place, path, "nothing", _KEYS[path].expected) for path in _REQUIRED if path not in layer.entries
        ]
    if not problems:
        document = _document(values)
        problems += _contradictions(document, layer.entries, place)
        if not problems:
            return NamedProfile(name=name, place=place, document=document)
    raise ConfigError(problems)


def _document(values: Mapping[str, object]) -> ProfileDocument:
    nested: dict[str, object] = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        node = nested.setdefault(section, {}) if section else nested
        if isinstance(node, dict):
            node[name] = value
    return msgspec.convert(nested, ProfileDocument)


def _contradictions(document: ProfileDocument, entries: Mapping[str, Entry], place: str) -> Iterator[Problem]:
    """What does not fit together in one document."""

    def at(path: str) -> str:
        return entries[path].origin if path in entries else place

    for field, possible in _USAGES.items():
        impossible = [usage for usage in getattr(document.key_usage, field) if usage not in possible]
        if impossible:
            path = f"key_usage.{field}"
            yield Problem(at(path), path, ", ".join(impossible), f"what such a key can do: {', '.join(sorted(possible))}")
    validity = document.validity
    if validity.default is not None and validity.max is not None and validity.default > validity.max:
        expected = f"at most validity.max, which is {validity.max}"
        yield Problem(at("validity.default"), "validity.default", str(validity.default), expected)
    post_quantum = {key_type for key_type in document.key_types if key_type.startswith("ml-dsa")}
    if post_quantum and document.hierarchy == "classical":
        yield Problem(
            at("key_types"),
            "key_types",
            ", ".join(sorted(post_quantum)),
            'types of a classical hierarchy, or hierarchy = "post-quantum"',
        )
