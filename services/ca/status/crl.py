"""Certificate revocation lists (RFC 5280, section 5): building and reading them. Pure: keys and time are arguments.

Rules:
- A list covers one partition of one issuer and says so: its issuingDistributionPoint, critical, holds the URL that the
  certificates of the partition carry (section 5.2.5). The list of a root covers all its authorities and has no URL.
- Numbers only go forward, whatever was restored from a backup: the next one is above every number that is known from
  the record and from published files, and not below the time in milliseconds.
- An entry leaves a list only after it was in one whose thisUpdate is later than the certificate's last valid second
  (section 3.3).
- thisUpdate lies `backdate` seconds in the past, for relying parties whose clock is behind: to them a fresh list would
  be one that is not valid yet, and no certificate would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from services.ca.keys.signing_keys import SigningKey, signing_hash
from services.ca.messages import RevocationReason
from services.ca.status import revocation
from services.ca.status.urls import partition_in

MILLISECONDS: Final = 1000
MAX_URLS: Final = 4


class CrlAuthority(Protocol):
    """Who signs lists: a certificate, its key, and the key identifier that the lists carry."""

    @property
    def certificate(self) -> x509.Certificate: ...
    @property
    def private_key(self) -> SigningKey: ...
    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier: ...


class UnreadableCrl(ValueError):
    """Not a revocation list, not one by this authority, or one whose contents make no sense. The text says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revoked serial number. `revoked_at` is in seconds since the Unix epoch."""

    serial: int
    revoked_at: int
    reason: RevocationReason


@dataclass(frozen=True, slots=True)
class Scope:
    """What a list is about. `urls` are those of its partition, the present one first; none for a root's list."""

    urls: tuple[str, ...]

    @property
    def distribution_point(self) -> x509.IssuingDistributionPoint:
        """RFC 5280, section 5.2.5."""
        names = [x509.UniformResourceIdentifier(url) for url in self.urls[:MAX_URLS]]
        return x509.IssuingDistributionPoint(
            full_name=names or None,
            relative_name=None,
            only_contains_user_certs=bool(names),
            only_contains_ca_certs=not names,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )


@dataclass(frozen=True, slots=True)
class Published:
    """A signed list, DER. `covered`: it tells all revocations of its partition on record up to this id."""

    der: bytes
    number: int
    this_update: int
    next_update: int
    covered: int
    urls: tuple[str, ...]


def next_number(known: Iterable[int], now: int) -> int:
    """The number of the list that is signed next. `known` are all numbers ever seen for it."""
    return max([*(number + 1 for number in known), now * MILLISECONDS])


def merged_urls(present: str, earlier: Sequence[str]) -> tuple[str, ...]:
    """URLs of a partition: certificates issued under earlier settings still carry the earlier ones."""
    return (present, *(url for url in earlier if url != present))[:MAX_URLS]


def sign(
    authority: CrlAuthority, scope: Scope, entries: Iterable[Entry], number: int, this_update: int, next_update: int
) -> bytes:
    """Sign a list, DER. Times are in seconds since the Unix epoch."""
    extensions = [
        x509.Extension(x509.AuthorityKeyIdentifier.oid, False, authority.key_identifier),
        x509.Extension(x509.CRLNumber.oid, False, x509.CRLNumber(number)),
        x509.Extension(x509.IssuingDistributionPoint.oid, True, scope.distribution_point),
    ]
    # All at once: the builder's own way of adding entries copies the list for each one.
    builder = x509.CertificateRevocationListBuilder(
        authority.certificate.subject,
        _moment(this_update),
        _moment(next_update),
        extensions,
        [_revoked(entry) for entry in entries],
    )
    signed = builder.sign(authority.private_key, signing_hash(authority.private_key))
    return signed.public_bytes(serialization.Encoding.DER)


def read(content: bytes, authority: x509.Certificate) -> tuple[Published, int | None]:
    """A list (DER or PEM) that `authority` signed, and the partition that its URL names. Raises UnreadableCrl."""
    found = parsed(content)
    if issuer_of(found) != authority.subject:
        raise UnreadableCrl("it is a list of another authority")
    try:
        key = authority.public_key()
        valid = found.is_signature_valid(_crl_key(key))
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        urls = _urls(found)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise UnreadableCrl(f"it lacks what a list of this authority has: {error}") from error
    if not valid:
        raise UnreadableCrl("its signature is not that of the authority it names")
    partition = next((place for place in map(partition_in, urls) if place is not None), None)
    next_update = 0 if found.next_update_utc is None else _seconds(found.next_update_utc)
    der = found.public_bytes(serialization.Encoding.DER)
    return Published(der, number, _seconds(found.last_update_utc), next_update, 0, urls), partition


def parsed(der: bytes) -> x509.CertificateRevocationList:
    """Read a list, DER or PEM. Raises UnreadableCrl."""
    try:
        if der.startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(der)
        return x509.load_der_x509_crl(der)
    except (ValueError, TypeError) as error:
        raise UnreadableCrl(f"it is not a certificate revocation list: {error}") from error


def issuer_of(found: x509.CertificateRevocationList) -> x509.Name:
    """The name of the authority that a list bears. Raises UnreadableCrl."""
    try:
        return found.issuer
    except ValueError as error:
        raise UnreadableCrl(f"the name of its issuer cannot be read: {error}") from error


def entries(der: bytes) -> list[Entry]:
    """What a list says is revoked. Raises UnreadableCrl."""
    found = parsed(der)
    try:
        return [Entry(one.serial_number, _seconds(one.revocation_date_utc), _reason(one)) for one in found]
    except (ValueError, TypeError, x509.DuplicateExtension) as error:
        raise UnreadableCrl(f"an entry of it cannot be read: {error}") from error


def _revoked(entry: Entry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder(entry.serial, _moment(entry.revoked_at))
    flag = revocation.FLAGS[entry.reason]
    if flag is not None:
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()


def _reason(entry: x509.RevokedCertificate) -> RevocationReason:
    try:
        return revocation.reason_of_entry(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason)
    except x509.ExtensionNotFound:
        return "unspecified"


def _urls(found: x509.CertificateRevocationList) -> tuple[str, ...]:
    try:
        point = found.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return ()
    names = point.full_name or []
    return tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier))


def _crl_key(key: object) -> CertificateIssuerPublicKeyTypes:
    return key  # type: ignore[return-value] # the library refuses other keys with TypeError


def _moment(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
