"""Reading a certificate request (PKCS #10, RFC 2986): a pure function from bytes to what was asked for.

Rules:
- Whatever the bytes are, the answer is a `CertificateRequest` or a `Refusal`, never another error.
- Proof of possession comes first among the checks of content: the request must be signed by the key that it carries.
- Only the public key and the wanted names leave this file. Every other attribute, extension and part of the subject is
  the applicant's wish about things that the authority alone decides, and is dropped here.
- The common name counts only in a request without subject alternative names, where it is the one name.
- Reading is bounded before it begins: no more names are looked at than may be certified, and a request whose subject
  counts is short, because each part of a subject is dear to read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from config.profile_schema import NameKind
from services.ca.messages import MAX_CSR_BYTES, Refusal
from services.ca.policy import public_keys
from services.ca.policy.names import MAX_NAMES, RequestedName, too_many_names

# Signed content of a request that has no alternative names: an RSA key of 8192 bits takes 1 KiB of it.
MAX_OCTETS_WITH_COMMON_NAME: Final = 4096

_BROKEN_HASHES: Final = (hashes.MD5, hashes.SHA1)
_KINDS: Final[tuple[tuple[type[x509.GeneralName], NameKind], ...]] = (
    (x509.DNSName, "dns"),
    (x509.IPAddress, "ip"),
    (x509.RFC822Name, "email"),
    (x509.UniformResourceIdentifier, "uri"),
)
# What the parser raises for bytes that are not what they should be. OverflowError: integers beyond any sane size.
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose applicant holds the private key. The names are as asked for: not yet checked."""

    public_key: public_keys.CertifiedKey
    names: tuple[RequestedName, ...]


def parse(data: bytes) -> CertificateRequest:
    """Read PEM or DER of at most MAX_CSR_BYTES. Raises Refusal: malformed, bad-key, bad-signature or forbidden-name."""
    if len(data) > MAX_CSR_BYTES:
        raise _malformed(f"the request has {len(data)} bytes; at most {MAX_CSR_BYTES} are read")
    # The parser warns of attributes of an odd length, in the subject and in extensions: that would let anybody write to
    # standard error.
    with warnings.catch_warnings(action="ignore"):
        request = _load(data)
        public_key = public_keys.check(_public_key(request))
        _check_possession(request)
        return CertificateRequest(public_key, _wanted_names(request))


def _load(data: bytes) -> x509.CertificateSigningRequest:
    if b"PRIVATE KEY-----" in data:
        raise _malformed("it holds a private key, which must never leave its owner: send the request alone")
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except _PARSE_ERRORS as error:
        raise _malformed(f"it is not a PKCS #10 certificate request in PEM or DER ({_reason(error)})") from error


def _public_key(request: x509.CertificateSigningRequest) -> object:
    try:
        return request.public_key()
    except _PARSE_ERRORS as error:
        raise Refusal("bad-key", "csr", f"its public key cannot be used ({_reason(error)})") from error


def _check_possession(request: x509.CertificateSigningRequest) -> None:
    try:
        algorithm = request.signature_hash_algorithm
        valid = request.is_signature_valid
    except _PARSE_ERRORS as error:
        raise Refusal("bad-signature", "csr", f"its signature cannot be checked ({_reason(error)})") from error
    if isinstance(algorithm, _BROKEN_HASHES):
        raise Refusal("bad-signature", "csr", f"it is signed with {algorithm.name}; sign it with SHA-256 or better")
    if not valid:
        raise Refusal("bad-signature", "csr", "it is not signed by the private key of the public key that it carries")


def _wanted_names(request: x509.CertificateSigningRequest) -> tuple[RequestedName, ...]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return _common_name(request)
    except x509.UnsupportedGeneralNameType as error:
        raise Refusal("forbidden-name", "csr", _UNSUPPORTED_NAME) from error
    except _PARSE_ERRORS as error:
        raise _malformed(f"its extensions cannot be read ({_reason(error)})") from error
    if len(extension.value) > MAX_NAMES:
        raise too_many_names()
    return tuple(_requested_names(extension.value))


_UNSUPPORTED_NAME: Final = "only DNS names, IP addresses, e-mail addresses and URIs are certified"


def _requested_names(names: Iterable[x509.GeneralName]) -> Iterable[RequestedName]:
    for name in names:
        kind = next((kind for kind_of_name, kind in _KINDS if isinstance(name, kind_of_name)), None)
        if kind is None:
            raise Refusal("forbidden-name", "csr", f"it asks for a {type(name).__name__}; {_UNSUPPORTED_NAME}")
        yield kind, str(name.value)


def _common_name(request: x509.CertificateSigningRequest) -> tuple[RequestedName, ...]:
    if len(request.tbs_certrequest_bytes) > MAX_OCTETS_WITH_COMMON_NAME:
        raise _malformed(
            f"it has more than {MAX_OCTETS_WITH_COMMON_NAME} octets without subject alternative names: add those"
        )
    try:
        attributes = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except _PARSE_ERRORS as error:
        raise _malformed(f"its subject cannot be read ({_reason(error)})") from error
    if len(attributes) > MAX_NAMES:
        raise too_many_names()
    texts = [attribute.value for attribute in attributes if isinstance(attribute.value, str)]
    return tuple((_kind_of_text(text), text) for text in texts)


def _kind_of_text(text: str) -> NameKind:
    if "@" in text:
        return "email"
    try:
        ip_address(text)
    except ValueError:
        return "dns"
    return "ip"


def _reason(error: BaseException) -> str:
    """One bounded line of the parser's own words; they describe structure and hold nothing of the request's content."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def _malformed(detail: str) -> Refusal:
    return Refusal("malformed", "csr", detail)
