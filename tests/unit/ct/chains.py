"""Chains of certificates of every kind, for tests of the log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PRECERTIFICATE_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")
POISON = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.3")

Extension = tuple[x509.ExtensionType, bool]


_keys: dict[str, ec.EllipticCurvePrivateKey] = {}


def key(owner: str) -> ec.EllipticCurvePrivateKey:
    """One key for each owner."""
    if owner not in _keys:
        _keys[owner] = ec.generate_private_key(ec.SECP256R1())
    return _keys[owner]


def certificate(
    subject: str,
    issuer: str,
    *,
    signer: str | None = None,
    extensions: Sequence[Extension] = (),
    serial: int | None = None,
) -> bytes:
    """A certificate of `subject`, in the name of `issuer` and signed by `signer`, DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key(subject).public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + timedelta(days=90))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key(signer or issuer), hashes.SHA256()).public_bytes(Encoding.DER)


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def authority(*, ca: bool = True, cert_sign: bool = True) -> list[Extension]:
    usage = x509.KeyUsage(
        digital_signature=not cert_sign,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return [(x509.BasicConstraints(ca=ca, path_length=None), True), (usage, True)]


def key_identifier(owner: str) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key(owner).public_key())


def names_of(host: str) -> Extension:
    return x509.SubjectAlternativeName([x509.DNSName(host)]), False


ROOT = certificate("root", "root", extensions=authority())
OTHER_ROOT = certificate("other", "other", extensions=authority())
INTERMEDIATE = certificate("intermediate", "root", extensions=authority())
POISONED: Extension = (x509.PrecertPoison(), True)


@cache
def leaf(host: str = "host.example") -> bytes:
    """A certificate by the intermediate."""
    return certificate(host, "intermediate", extensions=[names_of(host), (key_identifier("intermediate"), False)])


@cache
def precertificate(host: str = "host.example") -> bytes:
    """A precertificate by the intermediate."""
    extensions = [names_of(host), POISONED, (key_identifier("intermediate"), False)]
    return certificate("host.example", "intermediate", extensions=extensions)


def unrecognized(oid: x509.ObjectIdentifier, value: bytes, *, critical: bool = True) -> Extension:
    return x509.UnrecognizedExtension(oid, value), critical
