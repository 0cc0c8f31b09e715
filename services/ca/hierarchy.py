"""The authority's own certificates: a root and an intermediate that issues. Pure: keys and time are arguments.

Rules:
- The root may have one level of authorities below it (path length 1), the intermediate none (path length 0).
- Both certificates are critical about being an authority and about what their key is for: signing certificates and
  revocation lists, nothing else (RFC 5280, sections 4.2.1.3 and 4.2.1.9).
- The intermediate never outlives the root. Two installations never share a name: each has a random mark in it.
- `verified` accepts only a root and an intermediate that belong together and to their private keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from services.ca.profile import Validity

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

SECONDS_PER_DAY: Final = 86_400


class HierarchyMismatch(ValueError):
    """Keys and certificates that do not belong together. The text says which, and how."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that issues, with its private key, and the certificates that lead from it up to below the root."""

    certificate: x509.Certificate
    private_key: SigningKey
    key_identifier: x509.AuthorityKeyIdentifier
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def of(cls, certificate: x509.Certificate, private_key: SigningKey) -> Issuer:
        """An issuer directly below the root."""
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        return cls(certificate, private_key, aki, (certificate,))

    @property
    def validity(self) -> Validity:
        """When what this issuer signs can be valid."""
        return validity_of(self.certificate)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The root, its key, and the intermediate that issues."""

    root: x509.Certificate
    root_key: SigningKey
    issuer: Issuer


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new hierarchy is to be. Lifetimes and backdating are in seconds; `mark` tells installations apart."""

    organization: str
    mark: str
    root_lifetime: int
    intermediate_lifetime: int
    backdate: int


def signing_hash(key: SigningKey) -> hashes.SHA256 | None:
    """The digest that `key` signs with; None for Ed25519, which brings its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def validity_of(certificate: x509.Certificate) -> Validity:
    """First and last valid second of a certificate."""
    return Validity(int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp()))


def create_root(plan: Plan, key: SigningKey, serial: int, now: int) -> x509.Certificate:
    """A self-signed root, valid from `now` (seconds since the Unix epoch) less the backdating."""
    name = _distinguished_name(plan, "Root CA")
    validity = Validity(now - plan.backdate, now + plan.root_lifetime)
    builder = _authority(name, key, serial, validity, path_length=1)
    return builder.issuer_name(name).sign(key, signing_hash(key))


def create_intermediate(
    plan: Plan, root: x509.Certificate, root_key: SigningKey, key: SigningKey, serial: int, now: int
) -> x509.Certificate:
    """An intermediate signed by `root`, valid from `now` less the backdating, at most as long as the root."""
    name = _distinguished_name(plan, "Issuing CA")
    limits = validity_of(root)
    validity = Validity(
        max(now - plan.backdate, limits.not_before), min(now + plan.intermediate_lifetime, limits.not_after)
    )
    builder = _authority(name, key, serial, validity, path_length=0)
    identifier = Issuer.of(root, root_key).key_identifier
    return (
        builder.issuer_name(root.subject)
        .add_extension(identifier, critical=False)
        .sign(root_key, signing_hash(root_key))
    )


def verified(
    root: x509.Certificate, root_key: SigningKey, intermediate: x509.Certificate, intermediate_key: SigningKey
) -> Hierarchy:
    """Put a hierarchy together from its parts. Raises HierarchyMismatch."""
    for title, certificate, key in (("root", root, root_key), ("intermediate", intermediate, intermediate_key)):
        _check_authority(title, certificate)
        if spki(certificate.public_key()) != spki(key.public_key()):
            raise HierarchyMismatch(f"the {title} certificate and the {title} key do not belong together")
    for title, certificate in (("root", root), ("intermediate", intermediate)):
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise HierarchyMismatch(
                f"the {title} certificate is not signed by the root: {error}".rstrip(": ")
            ) from error
    return Hierarchy(root, root_key, Issuer.of(intermediate, intermediate_key))


def prove(issuer: Issuer) -> None:
    """Sign something that is no certificate, and verify it with the issuer's certificate. Raises InvalidSignature."""
    private, public = issuer.private_key, issuer.certificate.public_key()
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey):
        algorithm = ec.ECDSA(hashes.SHA256())
        public.verify(private.sign(_PROOF, algorithm), _PROOF, algorithm)
    elif isinstance(private, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
        public.verify(private.sign(_PROOF, *_PKCS1_SHA256), _PROOF, *_PKCS1_SHA256)
    elif isinstance(private, ed25519.Ed25519PrivateKey) and isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(private.sign(_PROOF), _PROOF)
    else:
        raise InvalidSignature("the issuer's key and certificate are of different types")


_PROOF: Final = b"TrustChain: this is a probe of the issuing key"
_PKCS1_SHA256: Final = (padding.PKCS1v15(), hashes.SHA256())


def spki(key: object) -> bytes:
    """SubjectPublicKeyInfo, DER: equal for equal public keys. Raises TypeError for what is no authority's key."""
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise TypeError(f"a {type(key).__name__} cannot be an authority's key")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_authority(title: str, certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        spki(certificate.public_key())
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise HierarchyMismatch(f"the {title} certificate is not that of an authority: {error}") from error
    if not constraints.ca or not usage.key_cert_sign:
        raise HierarchyMismatch(f"the {title} certificate is not allowed to sign certificates")


def _distinguished_name(plan: Plan, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, plan.organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"TrustChain {role} {plan.mark}"),
        ]
    )


def _authority(
    name: x509.Name, key: SigningKey, serial: int, validity: Validity, *, path_length: int
) -> x509.CertificateBuilder:
    public_key = key.public_key()
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
