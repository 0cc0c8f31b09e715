"""The decision to issue, and what is to be signed because of it: pure functions.

Rules:
- `decide` either refuses, naming the rule, or gives a `Decision` that holds everything the certificate will say. What
  is signed depends on the decision alone: of the request, only the public key and checked names get into it.
- A serial number is 128 random bits, positive, at most 20 octets (RFC 5280, section 4.1.2.2), and comes from outside:
  it is on record before anything is signed with it.
- The subject is the first name as common name, or empty when that is too long for one, or an address under name
  constraints, with the organization of the profile, if it has one; the alternative names are critical exactly when the
  subject is empty (RFC 5280, section 4.2.1.6).
- Where the status of a certificate is published follows from its serial number and issuer (`status/urls.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from config.profile_schema import HierarchyKind
from services.ca.hierarchy.hierarchy import Issuer
from services.ca.issuance import csr, precertificate, signing
from services.ca.issuance.rules import Rules
from services.ca.messages import OWN_API, IssueRequest
from services.ca.policy import names, profile, public_keys
from services.ca.policy.name_constraints import covered_by_constraints
from services.ca.policy.names import Name
from services.ca.policy.profile import Profile, Validity
from services.ca.policy.public_keys import CertifiedKey
from services.ca.status.urls import partition_of

MAX_COMMON_NAME: Final = 64  # ub-common-name of RFC 5280, appendix A.1


@dataclass(frozen=True, slots=True)
class Locations:
    """Where clients find the status of one certificate, and its issuer: URLs."""

    crl: str
    ocsp: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One certificate that may be issued."""

    serial: int
    profile: Profile
    names: tuple[Name, ...]
    public_key: CertifiedKey
    validity: Validity
    requester: str
    issuer: Issuer
    locations: Locations

    @property
    def subject(self) -> x509.Name:
        """The subject of the certificate; empty when the profile wants none, or its first name is no common name."""
        attributes = []
        if self.profile.organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.profile.organization))
        first = self.names[0].text
        # OpenSSL takes an IPv4 address in the common name for a DNS name, which the constraints do not permit.
        misread = bool(self.issuer.constraints) and self.names[0].kind == "ip"
        if self.profile.common_name and len(first) <= MAX_COMMON_NAME and not misread:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, first))
        return x509.Name(attributes)


def decide(
    request: IssueRequest, rules: Rules, issuers: Mapping[HierarchyKind, Issuer], now: int, serial: int
) -> Decision:
    """Whether this request gets a certificate, and which. `now` is in seconds since the Unix epoch.

    `issuers` has the issuer that is active in each hierarchy. Raises Refusal, whose detail names the rule, and
    IssuerNotValid when the issuer is not valid at `now`.
    """
    chosen = rules.profile(request.profile)
    issuer = issuers[chosen.hierarchy]
    validity = profile.decide_validity(request.validity_seconds, chosen.lifetimes, issuer.validity, now)
    wanted = csr.parse(request.csr)
    chosen.check_key(wanted.public_key)
    certified = names.validated(wanted.names, chosen.name_kinds, profile.rule(chosen.name, "names.kinds"))
    # The API cannot serve anybody without a certificate for the host that it runs on, whose names settings give anyway.
    if request.requester != OWN_API:
        for name in certified:
            rules.policy.check(name)
            chosen.names.check(name)
    covered_by_constraints(certified, issuer.constraints)
    locations = _locations(rules, issuer, serial)
    return Decision(serial, chosen, certified, wanted.public_key, validity, request.requester, issuer, locations)


def to_be_signed(decision: Decision) -> bytes:
    """The TBSCertificate (DER) of `decision`: of the precertificate, if its profile wants it in the log."""
    builder = _builder(decision)
    if decision.profile.transparency:
        builder = builder.add_extension(precertificate.POISON, critical=True)
    return signing.to_be_signed(builder, decision.issuer.private_key)


def _builder(decision: Decision) -> x509.CertificateBuilder:
    chosen, key, issuer = decision.profile, decision.public_key, decision.issuer
    subject = decision.subject
    builder = (
        x509.CertificateBuilder()
        .serial_number(decision.serial)
        .issuer_name(issuer.certificate.subject)
        .subject_name(subject)
        .not_valid_before(_moment(decision.validity.not_before))
        .not_valid_after(_moment(decision.validity.not_after))
        .public_key(key)
        .add_extension(chosen.key_usages[public_keys.type_of(key)], critical=True)
        .add_extension(chosen.purposes, critical=False)
        .add_extension(_NOT_A_CA, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
        .add_extension(_authority_information(decision.locations), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in decision.names]), critical=not list(subject)
        )
        .add_extension(_distribution_points(decision.locations), critical=False)
    )
    for extension in chosen.extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder


def _locations(rules: Rules, issuer: Issuer, serial: int) -> Locations:
    partition = partition_of(serial, rules.crl_partitions)
    return Locations(rules.status.crl(issuer.id, partition), rules.status.ocsp, rules.status.issuer(issuer.id))


def _authority_information(locations: Locations) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, _uri(locations.ocsp)),
            x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, _uri(locations.issuer)),
        ]
    )


def _distribution_points(locations: Locations) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([_uri(locations.crl)], None, None, None)])


_NOT_A_CA: Final = x509.BasicConstraints(ca=False, path_length=None)
_uri: Final = x509.UniformResourceIdentifier


def _moment(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _general_name(name: Name) -> x509.GeneralName:
    if name.kind == "dns":
        return x509.DNSName(name.text)
    if name.kind == "ip":
        return x509.IPAddress(ip_address(name.text))
    if name.kind == "email":
        return x509.RFC822Name(name.text)
    return x509.UniformResourceIdentifier(name.text)
