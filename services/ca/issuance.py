"""The decision to issue, and the certificate that follows from it: pure functions.

Rules:
- `decide` either refuses or gives a `Decision` that holds everything the certificate will say. What is signed depends
  on the decision and the issuer alone: of the request, only the public key and checked names get into it.
- A serial number is 128 random bits, positive, at most 20 octets (RFC 5280, section 4.1.2.2), and comes from outside:
  it is on record before anything is signed with it.
- The subject is the first name as common name, or empty when that is too long for one, or an address under name
  constraints; the alternative names are critical exactly when it is empty (RFC 5280, section 4.2.1.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from services.ca import csr, names, profile
from services.ca.hierarchy import Issuer
from services.ca.messages import OWN_API, IssueRequest
from services.ca.name_constraints import NameConstraints, covered_by_constraints
from services.ca.names import Name, NamePolicy
from services.ca.profile import Lifetimes, Profile, Validity
from services.ca.public_keys import CertifiedKey
from services.ca.signing_keys import signing_hash

MAX_COMMON_NAME: Final = 64  # ub-common-name of RFC 5280, appendix A.1


@dataclass(frozen=True, slots=True)
class Rules:
    """What settings let this authority issue."""

    default_profile: str
    lifetimes: Lifetimes
    policy: NamePolicy


@dataclass(frozen=True, slots=True)
class Decision:
    """One certificate that may be issued."""

    serial: int
    profile: Profile
    names: tuple[Name, ...]
    public_key: CertifiedKey
    validity: Validity
    requester: str
    constrained: bool = False  # by name constraints of the issuing certificate

    @property
    def subject(self) -> x509.Name:
        """The subject of the certificate; empty when its first name is no common name."""
        first = self.names[0].text
        # OpenSSL takes an IPv4 address in the common name for a DNS name, which the constraints do not permit.
        if len(first) > MAX_COMMON_NAME or (self.constrained and self.names[0].kind == "ip"):
            return x509.Name([])
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, first)])


def decide(
    request: IssueRequest,
    rules: Rules,
    issuer: Validity,
    now: int,
    serial: int,
    constraints: Sequence[NameConstraints] = (),
) -> Decision:
    """Whether this request gets a certificate, and which. `now` is in seconds since the Unix epoch.

    `issuer` and `constraints` are those of the issuing certificate. Raises Refusal, and IssuerNotValid when `issuer` is
    not valid at `now`.
    """
    chosen = profile.select(request.profile if request.profile is not None else rules.default_profile)
    validity = profile.decide_validity(request.validity_seconds, rules.lifetimes, issuer, now)
    wanted = csr.parse(request.csr)
    certified = names.validated(wanted.names, chosen.name_kinds)
    # The API cannot serve anybody without a certificate for the host that it runs on, whose names settings give anyway.
    if request.requester != OWN_API:
        for name in certified:
            rules.policy.check(name)
    covered_by_constraints(certified, constraints)
    return Decision(serial, chosen, certified, wanted.public_key, validity, request.requester, bool(constraints))


def to_be_signed(decision: Decision, issuer: Issuer) -> x509.CertificateBuilder:
    """The certificate of `decision`, complete but for the signature."""
    subject = decision.subject
    return (
        x509.CertificateBuilder()
        .serial_number(decision.serial)
        .issuer_name(issuer.certificate.subject)
        .subject_name(subject)
        .not_valid_before(_moment(decision.validity.not_before))
        .not_valid_after(_moment(decision.validity.not_after))
        .public_key(decision.public_key)
        .add_extension(profile.key_usage(decision.public_key), critical=True)
        .add_extension(x509.ExtendedKeyUsage(decision.profile.purposes), critical=False)
        .add_extension(_NOT_A_CA, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(decision.public_key), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in decision.names]), critical=not list(subject)
        )
    )


def sign(decision: Decision, issuer: Issuer) -> x509.Certificate:
    """Sign the certificate of `decision`. Its serial number must be on record, durably, before this is called."""
    return to_be_signed(decision, issuer).sign(issuer.private_key, signing_hash(issuer.private_key))


_NOT_A_CA: Final = x509.BasicConstraints(ca=False, path_length=None)


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
