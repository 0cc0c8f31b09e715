"""Certificates as a log has them, made with another library than the one under test."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services import der
from services.consensus.logged_names import LoggedCertificate
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, Sct, X509Entry

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuer")])
NOT_BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOT_AFTER = datetime(2051, 6, 7, 8, 9, 10, tzinfo=UTC)  # behind 2050: the other kind of time
SERIAL = 0x0A1B2C
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SIGNATURE = structures.digitally_signed(b"signature")


def certificate_of(*names: x509.GeneralName, scts: int = 0, san: bytes | None = None) -> x509.Certificate:
    """A certificate for these names; `san`: the octets of its subject alternative names, whatever they are."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ISSUER)
        .public_key(KEY.public_key())
        .serial_number(SERIAL)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if scts:
        stamps = [structures.sct(Sct(bytes(32), number, b"", SIGNATURE)) for number in range(scts)]
        octets = der.encode(der.OCTET_STRING, structures.sct_list(stamps))
        builder = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, octets), critical=False)
    if san is not None:
        oid = x509.OID_SUBJECT_ALTERNATIVE_NAME
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, san), critical=False)
    elif names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(KEY, hashes.SHA256())


def octets_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def entry_of(certificate: x509.Certificate) -> X509Entry:
    return X509Entry(octets_of(certificate))


def precert_of(certificate: x509.Certificate) -> PrecertEntry:
    return PrecertEntry(bytes(32), certificate.tbs_precertificate_bytes)


def san_of(*names: tuple[int, bytes]) -> bytes:
    """Subject alternative names of these tags and contents."""
    return der.encode(der.SEQUENCE, b"".join(der.encode(tag, content) for tag, content in names))


def logged(
    index: int,
    at: int,
    *names: str,
    contents: int | None = None,
    not_after: int = 1 << 40,
) -> LoggedCertificate:
    """An entry at `at` milliseconds, another certificate than all others if `contents` says nothing else."""
    digest = (index if contents is None else contents).to_bytes(32, "big")
    return LoggedCertificate(index, at, digest, digest, bytes(32), "01", 0, not_after, tuple(sorted(names)))
