"""What a stored certificate says, read again from its octets: to compare it with its row and with the log. Pure.

Rules: everything that cannot be read is Unreadable; the library's own errors stay here, and so do its warnings of what
it will refuse one day: they would let anybody whose certificate is logged write to standard error.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from services import der as tlv
from services.ca.serials import serial_text
from services.der import DerError
from services.rfc6962 import structures

_VERSION: Final = 0xA0
_ALGORITHM_AT: Final = 1
_NO_SIGNATURE: Final = b"\x03\x01\x00"
_VALIDITY_AT: Final = 3  # among the fields of a to-be-signed certificate after the version
_MAX_SERIAL_OCTETS: Final = 20

# With these the library refuses octets that are no certificate, or that miss what is looked for.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Unreadable(ValueError):
    """The octets are not what they should be. The text says what was looked for."""


class Described(Protocol):
    """What a row says of its certificate."""

    @property
    def serial(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def not_before(self) -> int: ...
    @property
    def not_after(self) -> int: ...
    @property
    def state(self) -> str: ...


def der(certificate: x509.Certificate) -> bytes:
    """A certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def load(encoded: bytes) -> x509.Certificate:
    """Read a certificate, DER."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return x509.load_der_x509_certificate(encoded)
    except UNREADABLE as error:
        raise Unreadable(f"no certificate: {str(error)[:200]}") from error


def of_contents(tbs_certificate: bytes) -> x509.Certificate:
    """A certificate with this to-be-signed part and no signature, to be read only: nobody has to have signed it."""
    try:
        fields = tlv.members(tlv.whole(tbs_certificate, tlv.SEQUENCE))
        algorithm = fields[_ALGORITHM_AT + 1] if fields[0].tag == _VERSION else fields[_ALGORITHM_AT]
    except (DerError, IndexError) as error:
        raise Unreadable(f"no to-be-signed certificate: {error}") from error
    return load(tlv.encode(tlv.SEQUENCE, tbs_certificate + algorithm.octets + _NO_SIGNATURE))


def serial_of(certificate: x509.Certificate) -> str:
    """Its serial number as the record has it."""
    try:
        return serial_text(certificate.serial_number)
    except UNREADABLE as error:
        raise Unreadable(f"no serial number: {error}") from error


def without_timestamps(certificate: x509.Certificate) -> bytes:
    """The to-be-signed part without the list of timestamps: what the log has (RFC 6962, section 3.2)."""
    try:
        return certificate.tbs_precertificate_bytes
    except UNREADABLE as error:
        raise Unreadable(f"no certificate with a list of timestamps: {error}") from error


def timestamps(certificate: x509.Certificate) -> tuple[bytes, ...]:
    """The SignedCertificateTimestamp structures that a certificate embeds (RFC 6962, section 3.3)."""
    try:
        found = certificate.extensions
        extension = found.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        return structures.parse_sct_list(tlv.whole(extension.public_bytes(), tlv.OCTET_STRING).value)
    except UNREADABLE as error:
        raise Unreadable(f"no list of timestamps: {error}") from error


def serial_of_tbs(tbs_certificate: bytes) -> int:
    """The serial number in a to-be-signed part (RFC 5280, section 4.1)."""
    try:
        fields = tlv.members(tlv.whole(tbs_certificate, tlv.SEQUENCE))
    except DerError as error:
        raise Unreadable(f"no to-be-signed certificate: {error}") from error
    numbered = fields[1:] if fields and fields[0].tag == _VERSION else fields
    if not numbered or numbered[0].tag != tlv.INTEGER or not 1 <= len(numbered[0].value) <= _MAX_SERIAL_OCTETS + 1:
        raise Unreadable("no serial number in the to-be-signed certificate")
    serial = int.from_bytes(numbered[0].value, "big", signed=True)
    if serial < 0 or serial.bit_length() > 8 * _MAX_SERIAL_OCTETS:
        raise Unreadable("a serial number that none can be")
    return serial


def ends_before(tbs_certificate: bytes, second: int) -> bool:
    """Whether a to-be-signed part says that its certificate ends before this second since the Unix epoch.

    Not for what cannot be read: nobody is excused by that.
    """
    try:
        fields = tlv.members(tlv.whole(tbs_certificate, tlv.SEQUENCE))
        validity = fields[_VALIDITY_AT + 1] if fields[0].tag == _VERSION else fields[_VALIDITY_AT]
        _, last = tlv.members(validity)
        text = last.value.decode("ascii")
        if last.tag == tlv.UTC_TIME:
            text = f"{'19' if text[:2] >= '50' else '20'}{text}"
        return datetime.fromisoformat(f"{text[:8]}T{text[8:]}").timestamp() < second
    except (DerError, ValueError, IndexError):
        return False


def difference(certificate: x509.Certificate, row: Described) -> str:
    """In what a certificate is not what its row says; empty when they agree. Raises Unreadable."""
    try:
        with warnings.catch_warnings(action="ignore"):
            said = _said(certificate, row)
    except UNREADABLE as error:
        raise Unreadable(str(error)) from error
    differing = (what for what, (of, in_row) in said.items() if of != in_row)
    return "; ".join(f"its {what} is {said[what][0]!r}, the row says {said[what][1]!r}" for what in differing)


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` signed the certificate, which names it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _said(certificate: x509.Certificate, row: Described) -> dict[str, tuple[object, object]]:
    """What the certificate and the row say, by what it is about."""
    said: dict[str, tuple[object, object]] = {
        "serial number": (serial_text(certificate.serial_number), row.serial),
        "first second": (int(certificate.not_valid_before_utc.timestamp()), row.not_before),
        "last second": (int(certificate.not_valid_after_utc.timestamp()), row.not_after),
    }
    # The record keeps no names of a responder: nobody asks for one by its name.
    if row.state != "responder":
        said["subject"] = (certificate.subject.rfc4514_string(), row.subject)
        said["names"] = (sorted(names(certificate)), sorted(row.names))
    return said


def names(certificate: x509.Certificate) -> list[str]:
    """The subject alternative names as the record has them. Raises Unreadable for a kind that is not issued here."""
    found: list[str] = []
    for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
        if not isinstance(name, x509.DNSName | x509.IPAddress | x509.RFC822Name | x509.UniformResourceIdentifier):
            raise Unreadable(f"it has a name of the kind {type(name).__name__}")
        found.append(str(name.value))
    return found
