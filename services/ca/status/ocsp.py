"""The online certificate status protocol (RFC 6960, profile of RFC 5019): requests, answers, responders. Pure.

Rules:
- Answers are signed ahead and given to everybody who asks, so a nonce is ignored (RFC 5019, section 4; RFC 8954 leaves
  it to the responder), and so is a signature on a request.
- A request asks about up to MAX_QUESTIONS certificates; most ask about one (RFC 5019, section 2.1.1).
- `good` only for a serial number on record, whatever became of it: a precertificate counts as issued (RFC 6962, section
  3.1), and who holds one can tell a relying party so. What is not on record is `unknown`.
- Who asks about the certificates of another authority gets `unauthorized` (RFC 5019, section 2.2.3).
- Answers are signed by a responder whose certificate says so (id-kp-OCSPSigning) and need not be checked itself
  (id-pkix-ocsp-nocheck), because it is short-lived. The issuer's own key signs nothing on request of a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.ca.hierarchy.hierarchy import Issuer
from services.ca.keys import signatures
from services.ca.keys.signing_keys import SigningKey, signing_hash
from services.ca.messages import RevocationReason
from services.ca.policy.profile import Validity
from services.ca.status import ocsp_structures, revocation
from services.ca.status.messages import MAX_OCSP_REQUEST_OCTETS
from services.ca.status.ocsp_structures import Single, UnknownHash
from services.der import DerError

MAX_SERIAL_OCTETS: Final = 20
MAX_QUESTIONS: Final = 16
CertId = ocsp_structures.CertId
Failure = Literal["malformed_request", "unauthorized", "try_later"]
Outcome = Literal["good", "revoked", "unknown", "malformed_request", "unauthorized", "try_later"]

_DIGESTS: Final = (
    hashes.SHA1(),  # noqa: S303 - RFC 5019, section 2.1.1
    hashes.SHA256(),
    hashes.SHA384(),
    hashes.SHA512(),
)
_FAILURES: Final[Mapping[Failure, ocsp.OCSPResponseStatus]] = {
    "malformed_request": ocsp.OCSPResponseStatus.MALFORMED_REQUEST,
    "unauthorized": ocsp.OCSPResponseStatus.UNAUTHORIZED,
    "try_later": ocsp.OCSPResponseStatus.TRY_LATER,
}


class Unanswerable(Exception):
    """A request that gets an error response (RFC 6960, section 4.2.1)."""

    def __init__(self, failure: Failure, why: str) -> None:
        super().__init__(why)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class IssuerHashes:
    """An issuer as CertIDs name it."""

    digest: str
    name_hash: bytes
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What the record says of a serial number. `revoked_at` is None unless it is revoked."""

    outcome: Literal["good", "revoked", "unknown"]
    revoked_at: int | None = None
    reason: RevocationReason = "unspecified"

    def __post_init__(self) -> None:
        if (self.outcome == "revoked") != (self.revoked_at is not None):
            raise ValueError(f"{self.outcome} with the revocation time {self.revoked_at}")


@dataclass(frozen=True, slots=True)
class Responder:
    """A delegated responder (RFC 6960, section 4.2.2.2)."""

    certificate: x509.Certificate
    private_key: SigningKey
    der: bytes = field(init=False, repr=False)
    key_hash: bytes = field(init=False, repr=False)
    not_after: int = field(init=False)

    def __post_init__(self) -> None:
        # Once, not for each answer. `key_hash` is the SHA-1 by which answers name their signer.
        object.__setattr__(self, "der", self.certificate.public_bytes(serialization.Encoding.DER))
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.certificate.public_key())
        object.__setattr__(self, "key_hash", identifier.digest)
        object.__setattr__(self, "not_after", int(self.certificate.not_valid_after_utc.timestamp()))


@dataclass(frozen=True, slots=True)
class Answer:
    """A signed OCSPResponse, DER. Times are in seconds since the Unix epoch."""

    der: bytes
    this_update: int
    next_update: int
    produced_at: int


def parse(request: bytes) -> CertId:
    """The one certificate that a request (DER) asks about. Raises Unanswerable, also if there are several."""
    asked, *more = questions(request)
    if more:
        raise Unanswerable("malformed_request", "it asks about several certificates")
    return asked


def questions(request: bytes) -> list[CertId]:
    """The certificates that a request (DER) asks about, one at least. Raises Unanswerable, whatever the octets."""
    if len(request) > MAX_OCSP_REQUEST_OCTETS:
        raise Unanswerable("malformed_request", f"{len(request)} octets are more than a request has")
    try:
        found = ocsp_structures.read_request(request)
    except UnknownHash as error:
        raise Unanswerable("unauthorized", str(error)) from error
    except DerError as error:
        raise Unanswerable("malformed_request", f"it is not an OCSPRequest: {error}") from error
    if len(found) > MAX_QUESTIONS:
        raise Unanswerable("malformed_request", f"it asks about more than {MAX_QUESTIONS} certificates")
    if not all(0 < one.serial < 1 << (8 * MAX_SERIAL_OCTETS) for one in found):
        raise Unanswerable("malformed_request", "it has a serial number that no certificate can have")
    return found


def hashes_of(issuer: x509.Certificate) -> list[IssuerHashes]:
    """An issuer as requests may name it (RFC 6960, section 4.1.1)."""
    name = issuer.subject.public_bytes()
    named = []
    for digest in _DIGESTS:
        # The library cuts the public key out of its structure when it makes a request.
        one = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, digest).build()
        of_name = hashes.Hash(digest)
        of_name.update(name)
        named.append(IssuerHashes(digest.name, of_name.finalize(), one.issuer_key_hash))
    return named


def request_for(named: IssuerHashes, serial: int) -> bytes:
    """A request for one certificate, DER."""
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        named.name_hash, named.key_hash, serial, _digest(named.digest)
    )
    return builder.build().public_bytes(serialization.Encoding.DER)


def failure(kind: Failure) -> bytes:
    """An error response, DER: no signature, no times."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(_FAILURES[kind]).public_bytes(serialization.Encoding.DER)


def answer(asked: CertId, status: Status, responder: Responder, now: int, *, backdate: int, lifetime: int) -> Answer:
    """Sign an answer that holds for `lifetime` seconds, but not longer than the responder's certificate.

    thisUpdate lies `backdate` seconds in the past, for clients whose clock is behind.
    """
    return answer_all([(asked, status)], responder, now, backdate=backdate, lifetime=lifetime)


def answer_all(
    answered: Sequence[tuple[CertId, Status]], responder: Responder, now: int, *, backdate: int, lifetime: int
) -> Answer:
    """Sign one answer about several certificates of one issuer. As `answer`."""
    this_update, next_update = now - backdate, min(now + lifetime, responder.not_after)
    singles = [_single(asked, status, this_update, next_update) for asked, status in answered]
    data = ocsp_structures.response_data(responder.key_hash, now, singles)
    algorithm = signatures.algorithm_identifier(responder.private_key)
    der = ocsp_structures.response(data, algorithm, signatures.sign(responder.private_key, data), responder.der)
    return Answer(der, this_update, next_update, now)


def _single(asked: CertId, status: Status, this_update: int, next_update: int) -> Single:
    reason = revocation.CODES[status.reason] if status.outcome == "revoked" else None
    return Single(asked, status.outcome != "unknown", status.revoked_at, reason, this_update, next_update)


def sign_responder(issuer: Issuer, key: SigningKey, serial: int, validity: Validity) -> x509.Certificate:
    """Sign the certificate of a responder. Its serial number must be on record, durably, before this is called."""
    organization = issuer.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    name = x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, f"TrustChain OCSP {serial:x}"[:64])])
    public_key = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .issuer_name(issuer.certificate.subject)
        .subject_name(name)
        .not_valid_before(_moment(validity.not_before))
        .not_valid_after(_moment(validity.not_after))
        .public_key(public_key)
        .add_extension(_SIGNS_ONLY, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer.key_identifier, critical=False)
    )
    return builder.sign(issuer.private_key, signing_hash(issuer.private_key))


def verify(der: bytes, asked: CertId, issuer: x509.Certificate, now: int) -> str:
    """Check an answer as a relying party does; returns what it says. Raises InvalidSignature, saying what is wrong."""
    try:
        found = ocsp.load_der_ocsp_response(der)
        if found.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise InvalidSignature(f"the answer is {found.response_status.name}")
        (signer,) = found.certificates
        signer.verify_directly_issued_by(issuer)
        purposes = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        signature, content, digest = found.signature, found.tbs_response_bytes, found.signature_hash_algorithm
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise InvalidSignature(f"the answer cannot be read: {error}") from error
    if ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        raise InvalidSignature("its signer is no responder")
    signatures.verify(signer.public_key(), signature, content, digest)
    if (found.serial_number, found.issuer_key_hash) != (asked.serial, asked.issuer_key_hash):
        raise InvalidSignature("the answer is about another certificate")
    ends = found.next_update_utc
    if ends is None or not found.this_update_utc <= _moment(now) <= ends:
        raise InvalidSignature("the answer does not hold now")
    return found.certificate_status.name.lower()


_SIGNS_ONLY: Final = x509.KeyUsage(
    digital_signature=True,
    key_encipherment=False,
    content_commitment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _digest(name: str) -> hashes.HashAlgorithm:
    return next(digest for digest in _DIGESTS if digest.name == name)


def _moment(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)
