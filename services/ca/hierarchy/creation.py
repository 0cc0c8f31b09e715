"""New certificates of the authority's own: roots, intermediates, cross certificates, requests. Pure.

Rules:
- A root has no path length, so that a later root can be certified by it; what an intermediate may have below itself,
  and for which names it may issue, is what the plan says (RFC 5280, sections 4.2.1.9 and 4.2.1.10).
- All are critical about being an authority and about what their key is for: signing certificates and revocation lists,
  nothing else (section 4.2.1.3).
- Nothing outlives what signed it. No two authorities share a name: each has a random mark in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from services.ca.hierarchy.hierarchy import validity_of
from services.ca.keys.signing_keys import SigningKey, signing_hash
from services.ca.policy.name_constraints import NO_CONSTRAINTS, NameConstraints
from services.ca.policy.profile import Validity


@dataclass(frozen=True, slots=True)
class Plan:
    """What new authorities are to be. Lifetimes and backdating are in seconds; `mark` tells authorities apart."""

    organization: str
    mark: str
    root_lifetime: int
    intermediate_lifetime: int
    backdate: int
    path_length: int = 0
    constraints: NameConstraints = NO_CONSTRAINTS


def create_root(plan: Plan, key: SigningKey, serial: int, now: int) -> x509.Certificate:
    """A self-signed root, valid from `now` (seconds since the Unix epoch) less the backdating."""
    name = _distinguished_name(plan, "Root CA")
    validity = Validity(now - plan.backdate, now + plan.root_lifetime)
    builder = _authority(name, key.public_key(), serial, validity, path_length=None)
    return builder.issuer_name(name).sign(key, signing_hash(key))


def create_intermediate(
    plan: Plan, root: x509.Certificate, root_key: SigningKey, key: SigningKey, serial: int, now: int
) -> x509.Certificate:
    """An intermediate signed by `root`, valid from `now` less the backdating, at most as long as the root."""
    name = _distinguished_name(plan, "Issuing CA")
    validity = _within(root, now - plan.backdate, now + plan.intermediate_lifetime)
    builder = _authority(name, key.public_key(), serial, validity, path_length=plan.path_length)
    constraints = plan.constraints.extension()
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return _signed_below(builder, root, root_key)


def cross_certify(
    root: x509.Certificate, root_key: SigningKey, later: x509.Certificate, serial: int, now: int, backdate: int
) -> x509.Certificate:
    """The certificate of `root` for the name and key of a `later` root, valid while both are."""
    validity = _within(root, now - backdate, validity_of(later).not_after)
    builder = _authority(later.subject, later.public_key(), serial, validity, path_length=None)
    return _signed_below(builder, root, root_key)


def create_request(plan: Plan, key: SigningKey) -> x509.CertificateSigningRequest:
    """A request (PKCS #10) for an intermediate to be signed elsewhere."""
    return (
        x509.CertificateSigningRequestBuilder(_distinguished_name(plan, "Issuing CA"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=plan.path_length), critical=True)
        .add_extension(_AUTHORITY_KEY_USAGE, critical=True)
        .sign(key, signing_hash(key))
    )


def levels_below(certificate: x509.Certificate) -> int | None:
    """How many authorities may follow below this one (RFC 5280, section 4.2.1.9); None: any number."""
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _signed_below(builder: x509.CertificateBuilder, root: x509.Certificate, root_key: SigningKey) -> x509.Certificate:
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return builder.issuer_name(root.subject).add_extension(aki, critical=False).sign(root_key, signing_hash(root_key))


def _within(root: x509.Certificate, not_before: int, not_after: int) -> Validity:
    limits = validity_of(root)
    return Validity(max(not_before, limits.not_before), min(not_after, limits.not_after))


def _distinguished_name(plan: Plan, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, plan.organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"TrustChain {role} {plan.mark}"),
        ]
    )


def _authority(
    name: x509.Name, public_key: CertificatePublicKeyTypes, serial: int, validity: Validity, *, path_length: int | None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(serial)
        .subject_name(name)
        .public_key(public_key)
        .not_valid_before(datetime.fromtimestamp(validity.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(validity.not_after, UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_AUTHORITY_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


_AUTHORITY_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    key_encipherment=False,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
