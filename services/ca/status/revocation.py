"""The decision to revoke: reasons, who may, and what is put on record. Pure.

Rules:
- A revocation is for ever. certificateHold and removeFromCRL, which would undo one, are refused.
- `unspecified` is said by saying nothing: no reason extension in lists and OCSP answers (RFC 5280, section 5.3.1).
- cACompromise is for certificates of authorities, keyCompromise says the same of all others; privilegeWithdrawn and the
  rest fit both. aACompromise is for attribute certificates, which are not issued here.
- Whoever has the private key of a certificate may revoke it, with a signature that holds for PROOF_SECONDS. The message
  names its purpose, so that no signature made for anything else is one, and the serial number and reason, so that it
  revokes nothing else. That it can be sent again within its time is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from services.ca.keys import signatures
from services.ca.messages import Refusal, RevocationReason
from services.ca.status.messages import RevocationProof

PROOF_SECONDS: Final = 300
CLOCK_SKEW_SECONDS: Final = 60
_PURPOSE: Final = "TrustChain: revoke a certificate, version 1"
_REFUSED_REASONS: Final = MappingProxyType(
    {
        "certificateHold": "a revocation is for ever here; a hold would be undone later",
        "removeFromCRL": "a revocation is for ever",
        "aACompromise": "no attribute certificates are issued here",
    }
)

# How each reason is encoded in a list or an OCSP answer; None: by its absence.
FLAGS: Final[Mapping[RevocationReason, x509.ReasonFlags | None]] = MappingProxyType(
    {
        "unspecified": None,
        "keyCompromise": x509.ReasonFlags.key_compromise,
        "cACompromise": x509.ReasonFlags.ca_compromise,
        "affiliationChanged": x509.ReasonFlags.affiliation_changed,
        "superseded": x509.ReasonFlags.superseded,
        "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
        "privilegeWithdrawn": x509.ReasonFlags.privilege_withdrawn,
    }
)
# The same as CRLReason codes.
CODES: Final[Mapping[RevocationReason, int | None]] = MappingProxyType(
    {
        "unspecified": None,
        "keyCompromise": 1,
        "cACompromise": 2,
        "affiliationChanged": 3,
        "superseded": 4,
        "cessationOfOperation": 5,
        "privilegeWithdrawn": 9,
    }
)
_OF_FLAG: Final = {flag: name for name, flag in FLAGS.items()}


@dataclass(frozen=True, slots=True)
class Revocable:
    """A certificate, or a serial number that one was promised to, as the record has it.

    `certificate` is DER, or None when none was stored; `not_after` is its last valid second.
    """

    serial: str
    issuer: str
    partition: int
    not_after: int
    certificate: bytes | None
    authority: bool = False


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is put on record. Times are seconds since the Unix epoch; `trace` tells one request from the next."""

    serial: str
    issuer: str
    partition: int
    revoked_at: int
    reason: RevocationReason
    not_after: int
    requester: str
    trace: str = ""

    def __post_init__(self) -> None:
        if self.reason not in FLAGS:
            raise ValueError(f"{self.reason!r} is not a reason for a revocation")


def reason_of(text: str, *, authority: bool) -> RevocationReason:
    """The reason of this name (RFC 5280, section 5.3.1). Raises Refusal("bad-reason") saying which are known."""
    known = [name for name in get_args(RevocationReason) if authority or name != "cACompromise"]
    for name in known:
        if text == name:
            reason: RevocationReason = name
            return reason
    if text == "cACompromise":
        why = "cACompromise is for certificates of authorities; say keyCompromise"
    else:
        why = _REFUSED_REASONS.get(text, f"{text[:64]!r} is not a reason")
    raise Refusal("bad-reason", "reason", f"{why}. Reasons: {', '.join(known)}")


def reason_of_entry(flag: x509.ReasonFlags | None) -> RevocationReason:
    """The reason in an entry of a published list. What is never given here is kept as `unspecified`."""
    return _OF_FLAG.get(flag, "unspecified")


def signed_request(serial: str, reason: str, signed_at: int) -> bytes:
    """What the owner of a certificate signs to have it revoked: four lines, the last one ended too.

    The purpose, the serial number (lower-case hexadecimal), the reason, the time in seconds since the Unix epoch. Keys
    of RSA sign with PKCS #1 v1.5 and SHA-256, those of ECDSA with SHA-256, Ed25519 as it is.
    """
    return f"{_PURPOSE}\n{serial}\n{reason}\n{signed_at}\n".encode("ascii")


def check_proof(proof: RevocationProof, found: Revocable, reason: RevocationReason, now: int) -> None:
    """Raises Refusal("unauthorized-revocation") unless the key of the certificate signed this request lately."""
    if not proof.signed_at - CLOCK_SKEW_SECONDS <= now <= proof.signed_at + PROOF_SECONDS:
        raise _unauthorized(
            "signed_at", f"the proof holds for {PROOF_SECONDS} s from its signed_at on, and now is {now}: sign it anew"
        )
    if found.certificate is None:
        raise _unauthorized(
            "proof", "no certificate is stored under this serial number: an administrator can revoke it"
        )
    message = signed_request(found.serial, reason, proof.signed_at)
    key = x509.load_der_x509_certificate(found.certificate).public_key()
    try:
        signatures.verify(key, proof.signature, message, hashes.SHA256())
    except InvalidSignature:
        raise _unauthorized(
            "signature", "this is not a signature by the certificate's key over the request, as documented"
        ) from None


def decide(
    found: Revocable, reason: str, proof: RevocationProof | None, requester: str, trace: str, now: int
) -> Revocation:
    """Whether the certificate may be revoked, and what goes on record. `now` is in seconds since the Unix epoch.

    Raises Refusal: bad-reason, unauthorized-revocation.
    """
    chosen = reason_of(reason, authority=found.authority)
    if proof is not None:
        check_proof(proof, found, chosen, now)
        requester = f"the certificate's key, {requester}"
    return Revocation(found.serial, found.issuer, found.partition, now, chosen, found.not_after, requester, trace)


def _unauthorized(field: str, detail: str) -> Refusal:
    return Refusal("unauthorized-revocation", field, detail)
