"""Whether an OCSP answer proves that a certificate is good (RFC 6960, section 3.2). Pure.

Rules:
- The signer is the issuer itself, or somebody whose certificate the issuer signed for exactly this (section 4.2.2.2).
- An answer counts for the certificate that it names by number, issuer's name and issuer's key, all three.
- Only `good` is good: `unknown` says that the responder never heard of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.audit.path import PathRefused
from services.ca.keys import signatures
from services.ca.reconciliation.certified import UNREADABLE
from services.ca.status.ocsp import IssuerHashes, hashes_of


class StatusRefused(PathRefused):
    """The answer does not prove that the certificate is good. The text says why."""


def check(answer: bytes, certificate: x509.Certificate, issuer: x509.Certificate, at: int) -> str:
    """Judge an OCSPResponse (DER) at `at`, in seconds since the Unix epoch. Raises StatusRefused."""
    try:
        found = ocsp.load_der_ocsp_response(answer)
        if found.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise StatusRefused(f"the answer is {found.response_status.name}")
        _check_signer(found, issuer, at)
        _check_subject(found, certificate, issuer)
        return _checked_status(found, at)
    except (InvalidSignature, *UNREADABLE) as error:
        raise StatusRefused(f"the answer does not verify: {error}".rstrip(": ")) from error


def _check_signer(found: ocsp.OCSPResponse, issuer: x509.Certificate, at: int) -> None:
    signer = issuer
    if found.certificates:
        (signer,) = found.certificates
        _check_delegation(signer, issuer, at)
    signatures.verify(signer.public_key(), found.signature, found.tbs_response_bytes, found.signature_hash_algorithm)
    key_hash = x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    if found.responder_key_hash not in {None, key_hash} or found.responder_name not in {None, signer.subject}:
        raise StatusRefused("it names another responder than the one that signed it")


def _check_delegation(signer: x509.Certificate, issuer: x509.Certificate, at: int) -> None:
    signer.verify_directly_issued_by(issuer)
    purposes = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        raise StatusRefused("its signer is no responder of the issuer")
    if not signer.not_valid_before_utc.timestamp() <= at <= signer.not_valid_after_utc.timestamp():
        last = signer.not_valid_after_utc.isoformat()
        raise StatusRefused(f"the responder's certificate is valid until {last}: verify with --at a time before that")


def _check_subject(found: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    named = IssuerHashes(found.hash_algorithm.name, found.issuer_name_hash, found.issuer_key_hash)
    if found.serial_number != certificate.serial_number or named not in hashes_of(issuer):
        raise StatusRefused("it is about another certificate")


def _checked_status(found: ocsp.OCSPResponse, at: int) -> str:
    first, last = found.this_update_utc, found.next_update_utc
    if last is None or not first.timestamp() <= at <= last.timestamp():
        until = "no end" if last is None else last.isoformat()
        raise StatusRefused(f"it holds from {first.isoformat()} to {until}, and not at {_date(at)}: see --at")
    if found.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        since = found.revocation_time_utc
        reason = "unspecified" if found.revocation_reason is None else found.revocation_reason.value
        raise StatusRefused(f"revoked at {since.isoformat() if since else 'a time not told'}, {reason}")
    if found.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise StatusRefused("the issuer's responder does not know the certificate")
    return f"good, holds until {last.isoformat()}"


def _date(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat()
