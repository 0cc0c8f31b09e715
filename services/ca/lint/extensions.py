"""The lint of each extension of a leaf certificate, as it stands there. Pure.

Rules:
- Extensions that are not known here are findings: an authority does not sign what it cannot judge.
- Each extension is looked at alone, then against the fields that it must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services import der
from services.ca.lint import keys as lint_keys
from services.ca.lint.findings import Findings
from services.ca.lint.keys import SubjectKey
from services.ca.lint.names import is_location, lint_names
from services.der import DerError, Element
from services.rfc6962 import structures
from services.rfc6962.structures import StructureError

_KEY_IDENTIFIER: Final = 0x80
_SERVER_AUTH: Final = bytes.fromhex("06082b06010505070301")
_CLIENT_AUTH: Final = bytes.fromhex("06082b06010505070302")
_CODE_SIGNING: Final = bytes.fromhex("06082b06010505070303")
_EMAIL_PROTECTION: Final = bytes.fromhex("06082b06010505070304")
_ANY_PURPOSE: Final = bytes.fromhex("0604551d2500")
_ANY_POLICY: Final = bytes.fromhex("0604551d2000")
_ACCESS_METHODS: Final = frozenset({bytes.fromhex("06082b06010505073001"), bytes.fromhex("06082b06010505073002")})

_EXCHANGES: Final = frozenset({lint_keys.DIGITAL_SIGNATURE, lint_keys.KEY_ENCIPHERMENT, lint_keys.KEY_AGREEMENT})
# Key usages of which a purpose needs one (RFC 5280, section 4.2.1.12).
_NEEDED: Final = {
    _SERVER_AUTH: _EXCHANGES,
    _CLIENT_AUTH: frozenset({lint_keys.DIGITAL_SIGNATURE, lint_keys.KEY_AGREEMENT}),
    _CODE_SIGNING: frozenset({lint_keys.DIGITAL_SIGNATURE}),
    _EMAIL_PROTECTION: _EXCHANGES | {lint_keys.CONTENT_COMMITMENT},
}


@dataclass(slots=True)
class Leaf:
    """What an extension has to agree with, and what was read so far."""

    findings: Findings
    issuer_key_identifier: bytes
    key: SubjectKey | None
    empty_subject: bool
    names: tuple[str, ...] = ()
    usages: frozenset[int] = frozenset()
    purposes: tuple[bytes, ...] = ()
    seen: set[str] = field(default_factory=set)


Look = Callable[[Element, Leaf], None]


def lint_extensions(extensions: Element, leaf: Leaf) -> None:
    """Look at Extensions. `leaf` is told what was seen."""
    identifiers = [extension.children[0].octets for extension in extensions.children if extension.children]
    if len(set(identifiers)) != len(identifiers):
        leaf.findings.say("extension.unique", "an extension is there twice")
    for extension in extensions.children:
        _lint_extension(extension, leaf)
    _lint_purposes_against_usages(leaf)


def _lint_extension(extension: Element, leaf: Leaf) -> None:
    tags = [child.tag for child in extension.children]
    critical = tags == [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING]
    if extension.tag != der.SEQUENCE or not (critical or tags == [der.OBJECT_IDENTIFIER, der.OCTET_STRING]):
        leaf.findings.say("structure", "an extension is not identifier, criticality and value")
        return
    if critical and extension.children[1].value != b"\xff":
        leaf.findings.say("der", "the criticality FALSE is written, which is the default")
    identifier = extension.children[0].octets
    known = _KNOWN.get(identifier)
    if known is None:
        leaf.findings.say("extension.unknown", f"the extension {identifier.hex()} is not for a leaf")
        return
    leaf.seen.add(known.name)
    must_be_critical = leaf.empty_subject if known.name == "names" else known.critical
    if critical != must_be_critical:
        leaf.findings.say("extension.critical", f"{known.name} is {'' if critical else 'not '}critical")
    try:
        value = der.parse(extension.children[-1].value)
    except DerError as error:
        leaf.findings.say("der", f"the value of {known.name}: {error}")
        return
    if value.tag != known.tag:
        leaf.findings.say("extension.value", f"the value of {known.name} has the tag {value.tag:02x}")
        return
    known.look(value, leaf)


def _lint_authority_key(value: Element, leaf: Leaf) -> None:
    identifiers = [child.value for child in value.children if child.tag == _KEY_IDENTIFIER]
    others = {child.tag for child in value.children} - {_KEY_IDENTIFIER}
    if identifiers != [leaf.issuer_key_identifier]:
        leaf.findings.say("key-identifier.authority", "the authority's key identifier is not that of the issuer")
    if others not in (set(), {0xA1, 0x82}):
        leaf.findings.say("key-identifier.authority", "issuer and serial number come together or not at all")


def _lint_subject_key(value: Element, leaf: Leaf) -> None:
    if leaf.key is not None and value.value != leaf.key.identifier:
        leaf.findings.say("key-identifier.subject", "the subject's key identifier is not that of its key")


def _lint_key_usage(value: Element, leaf: Leaf) -> None:
    unused, *octets = value.value
    if not octets or not octets[-1] >> unused & 1:
        leaf.findings.say("key-usage", "no usage, or usages with trailing zero bits")
        return
    bits = int.from_bytes(bytes(octets), "big")
    width = 8 * len(octets)
    leaf.usages = frozenset(bit for bit in range(width) if bits >> (width - 1 - bit) & 1)
    if leaf.key is None:
        return
    wrong = leaf.usages - leaf.key.kind.usages
    if any(bit >= lint_keys.KEY_CERT_SIGN for bit in wrong):
        leaf.findings.say("key-usage", "a leaf may sign certificates or lists, or has a usage that it cannot have")
    elif wrong:
        leaf.findings.say("key-usage.key", f"an {leaf.key.kind.name} key has the usages {sorted(wrong)}")


def _lint_names(value: Element, leaf: Leaf) -> None:
    leaf.names = lint_names(value, leaf.findings)


def _lint_basic_constraints(value: Element, leaf: Leaf) -> None:
    if value.children:
        leaf.findings.say("basic-constraints", "a leaf is an authority, has a path length, or writes the default")


def _lint_purposes(value: Element, leaf: Leaf) -> None:
    leaf.purposes = tuple(child.octets for child in value.children)
    proper = all(child.tag == der.OBJECT_IDENTIFIER for child in value.children)
    if not leaf.purposes or not proper or len(set(leaf.purposes)) != len(leaf.purposes):
        leaf.findings.say("purposes", "no purpose, one twice, or something else than purposes")
    if _ANY_PURPOSE in leaf.purposes:
        leaf.findings.say("purposes", "a leaf for any purpose")


def _lint_purposes_against_usages(leaf: Leaf) -> None:
    if "key usage" in leaf.seen:
        for purpose in leaf.purposes:
            if purpose in _NEEDED and not leaf.usages & _NEEDED[purpose]:
                leaf.findings.say("purposes", f"no key usage is consistent with the purpose {purpose.hex()}")


def _lint_policies(value: Element, leaf: Leaf) -> None:
    identifiers = [policy.children[0].octets for policy in value.children if policy.children]
    proper = len(identifiers) == len(value.children) and all(len(policy.children) == 1 for policy in value.children)
    if not identifiers or not proper or len(set(identifiers)) != len(identifiers) or _ANY_POLICY in identifiers:
        leaf.findings.say("policies", "no policy, one twice, any policy, or a policy with qualifiers")


def _lint_distribution_points(value: Element, leaf: Leaf) -> None:
    if not value.children or not all(is_location(name) for point in value.children for name in _full_names(point)):
        leaf.findings.say("distribution-points", "a distribution point without an absolute http URI")


def _full_names(point: Element) -> Iterator[Element]:
    """The names of a DistributionPoint that consists of a full name; the point itself, which is none, for others."""
    names = point
    for tag in (0xA0, 0xA0):  # distributionPoint [0] EXPLICIT, fullName [0]
        if len(names.children) != 1 or names.children[0].tag != tag:
            return iter((point,))
        names = names.children[0]
    return iter(names.children or (point,))


def _lint_authority_information(value: Element, leaf: Leaf) -> None:
    proper = all(
        len(access.children) == 2 and access.children[0].octets in _ACCESS_METHODS and is_location(access.children[1])
        for access in value.children
    )
    if not value.children or not proper:
        leaf.findings.say("authority-information", "something else than OCSP and issuers at absolute http URIs")


def _lint_tls_feature(value: Element, leaf: Leaf) -> None:
    if [child.octets for child in value.children] != [b"\x02\x01\x05"]:
        leaf.findings.say("tls-feature", "something else than status_request")


def _lint_poison(_: Element, __: Leaf) -> None:
    """Its tag and emptiness have been looked at."""


def _lint_timestamps(value: Element, leaf: Leaf) -> None:
    try:
        for octets in structures.parse_sct_list(value.value):
            structures.parse_sct(octets)
    except StructureError as error:
        leaf.findings.say("timestamps", str(error))


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    critical: bool
    tag: int
    look: Look


_KNOWN: Final = {
    bytes.fromhex("0603551d0e"): _Known("subject key identifier", False, der.OCTET_STRING, _lint_subject_key),
    bytes.fromhex("0603551d0f"): _Known("key usage", True, der.BIT_STRING, _lint_key_usage),
    bytes.fromhex("0603551d11"): _Known("names", False, der.SEQUENCE, _lint_names),
    bytes.fromhex("0603551d13"): _Known("basic constraints", True, der.SEQUENCE, _lint_basic_constraints),
    bytes.fromhex("0603551d1f"): _Known("distribution points", False, der.SEQUENCE, _lint_distribution_points),
    bytes.fromhex("0603551d20"): _Known("policies", False, der.SEQUENCE, _lint_policies),
    bytes.fromhex("0603551d23"): _Known("authority key identifier", False, der.SEQUENCE, _lint_authority_key),
    bytes.fromhex("0603551d25"): _Known("purposes", False, der.SEQUENCE, _lint_purposes),
    bytes.fromhex("06082b06010505070101"): _Known(
        "authority information", False, der.SEQUENCE, _lint_authority_information
    ),
    bytes.fromhex("06082b06010505070118"): _Known("tls feature", False, der.SEQUENCE, _lint_tls_feature),
    bytes.fromhex("060a2b06010401d679020403"): _Known("poison", True, der.NULL, _lint_poison),
    bytes.fromhex("060a2b06010401d679020402"): _Known("timestamps", False, der.OCTET_STRING, _lint_timestamps),
}
REQUIRED: Final = (
    "subject key identifier",
    "key usage",
    "names",
    "basic constraints",
    "authority key identifier",
    "purposes",
)
"""What every leaf has, by the names that `Leaf.seen` holds."""
