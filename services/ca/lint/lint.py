"""The authority's own look at each certificate: at what is to be signed, and at what was signed. Pure.

Rules:
- The octets are judged, by code that shares nothing with what made them: its own strict DER, its own syntax of names.
- The rules are the MUSTs of RFC 5280 and of what it refers to, for leaf certificates, as other lints check them too,
  and what is promised here beyond them. `findings.RULES` lists them all.
- It has an opinion on everything: what it does not know is a finding.
- Twice for each certificate, so it must be fast: one pass over the octets, and no more than 0.3 ms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services import der
from services.ca.lint.extensions import REQUIRED, Leaf, lint_extensions
from services.ca.lint.findings import Finding, Findings
from services.ca.lint.keys import lint_key, signature_algorithms
from services.ca.policy.profile import Validity
from services.der import DerError, Element

Form = Literal["precertificate", "certificate"]

MAX_SERIAL_OCTETS: Final = 20
MAX_ATTRIBUTE: Final = 64  # ub-common-name, ub-organization-name (RFC 5280, appendix A.1)

_COMMON_NAME: Final = bytes.fromhex("0603550403")
_ORGANIZATION: Final = bytes.fromhex("060355040a")
_PRINTABLE: Final = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]*")
_FIELDS: Final = (0xA0, der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, 0xA3)
_UTC_TIME: Final = re.compile(rb"\d{12}Z", re.ASCII)
_GENERALIZED_TIME: Final = re.compile(rb"\d{14}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signer:
    """What a leaf must agree with in the certificate of its issuer: names and keys as octets."""

    subject: bytes
    key_identifier: bytes
    algorithms: frozenset[bytes]
    validity: Validity

    @classmethod
    def of(cls, issuer: x509.Certificate) -> Signer:
        """From an issuer's certificate. Raises KeyError for a key of a type that does not sign here."""
        spki = issuer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        algorithm = der.parse(spki).children[0].octets
        validity = Validity(int(issuer.not_valid_before_utc.timestamp()), int(issuer.not_valid_after_utc.timestamp()))
        return cls(issuer.subject.public_bytes(), identifier, signature_algorithms(algorithm), validity)


def lint_to_be_signed(octets: bytes, signer: Signer, form: Form) -> tuple[Finding, ...]:
    """What is wrong with a TBSCertificate."""
    findings = Findings()
    tbs = _parsed(octets, findings)
    if tbs is not None:
        _lint_fields(tbs, signer, form, findings)
    return tuple(findings)


def lint_certificate(octets: bytes, signer: Signer) -> tuple[Finding, ...]:
    """What is wrong with a certificate. Its signature is looked at, not verified."""
    findings = Findings()
    certificate = _parsed(octets, findings)
    if certificate is None:
        return tuple(findings)
    if [child.tag for child in certificate.children] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        findings.say("structure", "a certificate is not what is signed, an algorithm and a signature")
        return tuple(findings)
    tbs, algorithm, signature = certificate.children
    fields = _lint_fields(tbs, signer, "certificate", findings)
    if fields and algorithm.octets != fields[2].octets:
        findings.say("algorithm", "the algorithms inside and outside of what is signed differ")
    if signature.value[:1] != b"\0" or len(signature.value) == 1:
        findings.say("signature", "the signature is empty, or not a whole number of octets")
    return tuple(findings)


def _parsed(octets: bytes, findings: Findings) -> Element | None:
    try:
        element = der.parse(octets)
    except DerError as error:
        findings.say("der", str(error))
        return None
    if element.tag != der.SEQUENCE:
        findings.say("structure", f"the tag {element.tag:02x} in the place of a sequence")
        return None
    return element


def _lint_fields(tbs: Element, signer: Signer, form: Form, findings: Findings) -> list[Element]:
    """Look at a TBSCertificate; its fields, or none when it is not made of what it must be made of."""
    fields = [child for child in tbs.children if child.tag not in {0x81, 0x82}]
    if len(fields) != len(tbs.children):
        findings.say("unique-identifier", "a unique identifier is there")
    if tuple(child.tag for child in fields) != _FIELDS:
        findings.say("structure", "a certificate of version 3 has other fields")
        return []
    version, serial, algorithm, issuer, validity, subject, spki, extensions = fields
    if version.value != b"\x02\x01\x02":
        findings.say("version", "the version is not 3")
    _lint_serial(serial.value, findings)
    if algorithm.octets not in signer.algorithms:
        findings.say("algorithm", f"the issuer's key does not sign with {algorithm.octets.hex()}")
    if issuer.octets != signer.subject or not issuer.children:
        findings.say("issuer", "the issuer's name is not, octet for octet, the subject of its certificate")
    _lint_validity(validity, signer.validity, findings)
    common_names = _lint_subject(subject, findings)
    leaf = Leaf(findings, signer.key_identifier, lint_key(spki, findings), not subject.children)
    if len(extensions.children) == 1 and extensions.children[0].tag == der.SEQUENCE:
        lint_extensions(extensions.children[0], leaf)
    _lint_what_is_there(leaf.seen, form, findings)
    if not common_names <= {name.lower() for name in leaf.names}:
        findings.say("subject.common-name", "the common name is none of the alternative names")
    return fields


def _lint_serial(octets: bytes, findings: Findings) -> None:
    if octets[0] >= 0x80 or octets == b"\0" or len(octets) > MAX_SERIAL_OCTETS:
        findings.say("serial", f"the serial number is not positive or has more than {MAX_SERIAL_OCTETS} octets")


def _lint_what_is_there(seen: set[str], form: Form, findings: Findings) -> None:
    missing = [name for name in REQUIRED if name not in seen]
    if missing:
        findings.say("extension.missing", f"there is no {', no '.join(missing)}")
    if form == "certificate" and "poison" in seen:
        findings.say("poison", "a certificate has the poison of a precertificate")
    if form == "precertificate" and ("poison" not in seen or "timestamps" in seen):
        findings.say("poison", "a precertificate has no poison, or timestamps beside it")


def _lint_validity(validity: Element, issuer: Validity, findings: Findings) -> None:
    moments = [_moment(time) for time in validity.children]
    if len(moments) != 2 or moments[0] is None or moments[1] is None:
        findings.say("validity.encoding", "a time is not YYMMDDHHMMSSZ until 2049 and YYYYMMDDHHMMSSZ from 2050 on")
        return
    begin, end = moments[0], moments[1]
    if end < begin:
        findings.say("validity.order", "the validity ends before it begins")
    if begin < issuer.not_before or end > issuer.not_after:
        findings.say("validity.issuer", "the leaf is valid while its issuer is not")


def _moment(time: Element) -> int | None:
    """Seconds since the Unix epoch; None for a time that is not written as it must be."""
    octets = time.value
    if time.tag == der.UTC_TIME and _UTC_TIME.fullmatch(octets):
        text = (b"20" if octets < b"5" else b"19") + octets
    elif time.tag == der.GENERALIZED_TIME and _GENERALIZED_TIME.fullmatch(octets) and octets >= b"2050":
        text = octets
    else:
        return None
    parts = (text[:4], text[4:6], text[6:8], text[8:10], text[10:12], text[12:14])
    try:
        return int(datetime(*map(int, parts), tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc] # six integers
    except ValueError:
        return None


def _lint_subject(subject: Element, findings: Findings) -> set[str]:
    """Look at the subject; the common names in it, in lower case."""
    common_names: set[str] = set()
    seen: set[bytes] = set()
    for relative in subject.children:
        for attribute in relative.children:
            tags = [child.tag for child in attribute.children]
            if relative.tag != der.SET or len(tags) != 2 or tags[0] != der.OBJECT_IDENTIFIER:
                findings.say("structure", "the subject is not made of attributes")
                continue
            kind, value = attribute.children
            if kind.octets not in {_COMMON_NAME, _ORGANIZATION} or kind.octets in seen:
                findings.say("subject", f"the attribute {kind.octets.hex()} is unknown, or there twice")
            seen.add(kind.octets)
            text = _directory_string(value)
            if text is None or not 0 < len(text) <= MAX_ATTRIBUTE:
                findings.say("subject", f"an attribute is no text of 1 to {MAX_ATTRIBUTE} characters")
            elif kind.octets == _COMMON_NAME:
                common_names.add(text.lower())
        if not relative.children:
            findings.say("subject", "an empty part of the subject")
    return common_names


def _directory_string(value: Element) -> str | None:
    """RFC 5280, section 4.1.2.4: a PrintableString or a UTF8String."""
    if value.tag == der.UTF8_STRING:
        return value.value.decode("utf-8")
    if value.tag == der.PRINTABLE_STRING and _PRINTABLE.fullmatch(value.value):
        return value.value.decode("ascii")
    return None
