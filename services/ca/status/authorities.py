"""Whose certificates have a status here: the issuers, and the roots above them. Pure.

Rules:
- An authority is named by the serial number of its certificate, as `certificates.issuer` has it.
- Every issuer that ever issued is here, active or not, until its certificate has expired.
- The key of a root may be elsewhere. Its list then is signed there and brought here as a file.
- Which list a certificate is on is what the certificate itself says; settings count only for one that says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from services.ca.hierarchy.hierarchy import Hierarchy, Issuer, id_of, validity_of
from services.ca.status.crl import UnreadableCrl, issuer_of, parsed
from services.ca.status.revocation import Revocable
from services.ca.status.urls import partition_in, partition_of

ROOT_PARTITION: Final = 0
ListKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The authorities by name. `root_signers` are the roots whose key is here."""

    issuers: Mapping[str, Issuer]
    roots: Mapping[str, x509.Certificate]
    root_signers: Mapping[str, Issuer]
    partitions: int

    def certificate(self, name: str) -> x509.Certificate | None:
        """The certificate of an authority."""
        issuer = self.issuers.get(name)
        return self.roots.get(name) if issuer is None else issuer.certificate

    def certificates(self) -> dict[str, x509.Certificate]:
        """The certificates of all authorities, by name: also those in between, and the roots' cross certificates."""
        chains = (certificate for issuer in self.issuers.values() for certificate in issuer.chain)
        return {**{id_of(certificate): certificate for certificate in chains}, **self.roots}

    def signer(self, name: str) -> Issuer | None:
        """Who signs the lists of an authority; None if its key is not here."""
        return self.issuers.get(name) or self.root_signers.get(name)

    def issuers_at(self, now: int) -> list[str]:
        """The issuers whose certificates are valid at `now`, in seconds since the Unix epoch."""
        return [name for name, issuer in self.issuers.items() if issuer.validity.covers(now)]

    def lists_at(self, now: int) -> list[ListKey]:
        """The lists that have to exist at `now`."""
        of_issuers = [(name, place) for name in self.issuers_at(now) for place in range(self.partitions)]
        of_roots = [(name, ROOT_PARTITION) for name, signer in self.root_signers.items() if signer.validity.covers(now)]
        return of_issuers + of_roots

    def partition(self, serial: int, certificate: bytes | None) -> int:
        """Which list a certificate (DER) of an issuer is on."""
        said = None if certificate is None else _partition_said(certificate)
        return partition_of(serial, self.partitions) if said is None else said

    def revocable_authority(self, serial: str) -> Revocable | None:
        """The issuer with this serial number, as something that its root can revoke."""
        issuer = self.issuers.get(serial)
        if issuer is None:
            return None
        for name, root in self.roots.items():
            if issuer.certificate.issuer == root.subject:
                return Revocable(serial, name, ROOT_PARTITION, issuer.validity.not_after, None, authority=True)
        return None

    def signer_of_list(self, der: bytes) -> str | None:
        """The authority whose name a list bears. Its signature is not looked at. Raises UnreadableCrl."""
        found = parsed(der)
        identifiers, issuer = _key_identifiers(found), issuer_of(found)
        for name in (*self.issuers, *self.roots):
            certificate = self.certificate(name)
            if certificate is not None and certificate.subject == issuer and _key_of(certificate) in identifiers:
                return name
        return None

    def not_after(self, name: str) -> int:
        """Last valid second of an authority, which none of its certificates outlives. Raises KeyError."""
        certificate = self.certificate(name)
        if certificate is None:
            raise KeyError(name)
        return validity_of(certificate).not_after


def authorities_of(hierarchy: Hierarchy, partitions: int) -> Authorities:
    """The authorities of a hierarchy."""
    signers = {name: root.signer() for name, root in hierarchy.roots.items()}
    return Authorities(
        issuers=hierarchy.issuers,
        roots={name: root.certificate for name, root in hierarchy.roots.items()},
        root_signers={name: signer for name, signer in signers.items() if signer is not None},
        partitions=partitions,
    )


def _partition_said(certificate: bytes) -> int | None:
    try:
        points = (
            x509.load_der_x509_certificate(certificate)
            .extensions.get_extension_for_class(x509.CRLDistributionPoints)
            .value
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    names = (name for point in points for name in point.full_name or ())
    places = (partition_in(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier))
    return next((place for place in places if place is not None), None)


def _key_identifiers(found: x509.CertificateRevocationList) -> set[bytes | None]:
    try:
        return {found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier}
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise UnreadableCrl(f"it does not say which key signed it: {error}") from error


def _key_of(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
