"""What applicants send: certificate requests of any kind, for tests of the certificate authority."""

from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

ApplicantKey = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)

RequestDigest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA3_256


@cache
def p256_key() -> ec.EllipticCurvePrivateKey:
    """One key for all tests that do not care which."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """Made once for each size, because it takes a while."""
    return rsa.generate_private_key(exponent, bits)


def dns(*names: str) -> list[x509.GeneralName]:
    """DNS names as they stand in an extension."""
    return [x509.DNSName(name) for name in names]


def ip(*addresses: str) -> list[x509.GeneralName]:
    """IP addresses as they stand in an extension."""
    return [x509.IPAddress(ip_address(address)) for address in addresses]


def request(
    names: Iterable[x509.GeneralName] = (),
    *,
    common_name: str | None = None,
    key: ApplicantKey | None = None,
    extensions: Iterable[x509.ExtensionType] = (),
    digest: RequestDigest | None = None,
) -> x509.CertificateSigningRequest:
    """A request signed by its own key."""
    key = key if key is not None else p256_key()
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = x509.CertificateSigningRequestBuilder(x509.Name(subject))
    alternatives = list(names)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    without_digest = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(key, None if without_digest else digest or hashes.SHA256())


def pem(csr: x509.CertificateSigningRequest) -> bytes:
    """A request as PEM."""
    return csr.public_bytes(serialization.Encoding.PEM)


def der(csr: x509.CertificateSigningRequest) -> bytes:
    """A request as DER."""
    return csr.public_bytes(serialization.Encoding.DER)


ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def resigned(
    csr: x509.CertificateSigningRequest,
    old: bytes = b"",
    new: bytes = b"",
    *,
    algorithm: bytes = ECDSA_WITH_SHA256,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A P-256 request (DER) with `old` replaced by `new`, of the same length, and then signed: wrong, but proven."""
    assert len(old) == len(new)
    content = csr.tbs_certrequest_bytes.replace(old, new) if old else csr.tbs_certrequest_bytes
    signature = p256_key().sign(content, ec.ECDSA(digest or hashes.SHA256()))
    return _der(0x30, content + algorithm + _der(0x03, b"\0" + signature))


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(-(-len(content).bit_length() // 8), "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
