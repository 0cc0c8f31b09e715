"""The decision to revoke: reasons, proofs, what goes on record."""

from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

from services.ca.issuance import issuance, signing
from services.ca.messages import Refusal, RevocationReason
from services.ca.serials import serial_text
from services.ca.status import revocation
from services.ca.status.messages import RevocationProof
from services.ca.status.revocation import PROOF_SECONDS, Revocable, Revocation
from tests.unit.ca.applicants import ApplicantKey, dns, p256_key, pem, request, rsa_key
from tests.unit.ca.authorities import NOW, asked, hierarchy_of, issuers, rules

SERIAL = 0x8123456789ABCDEF0123456789ABCDEF
TEXT = serial_text(SERIAL)
P384 = ec.generate_private_key(ec.SECP384R1())


def revocable(key: ApplicantKey | None = None, *, authority: bool = False) -> Revocable:
    csr = pem(request(dns("host.example"), key=key))
    decision = issuance.decide(asked(csr), rules(), issuers(hierarchy_of()), NOW, SERIAL)
    der = signing.certificate(issuance.to_be_signed(decision), decision.issuer.private_key)
    return Revocable(TEXT, "01", 3, NOW + 86_400, der, authority=authority)


def signature(key: ApplicantKey, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    assert not isinstance(key, x509.Certificate)
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[call-arg,arg-type] # an RSA key


def refusal(
    found: Revocable, reason: str = "unspecified", proof: RevocationProof | None = None, now: int = NOW
) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as caught:
        revocation.decide(found, reason, proof, "a test", "", now)
    return caught.value.kind, caught.value.field


def test_what_goes_on_record_is_all_that_a_list_and_an_auditor_need() -> None:
    decided = revocation.decide(revocable(), "superseded", None, "administrator", "00-trace", NOW)
    assert decided == Revocation(TEXT, "01", 3, NOW, "superseded", NOW + 86_400, "administrator", "00-trace")


@pytest.mark.parametrize("reason", get_args(RevocationReason))
def test_every_reason_is_known_for_authorities_and_all_but_one_for_leaves(reason: RevocationReason) -> None:
    assert revocation.reason_of(reason, authority=True) == reason
    if reason == "cACompromise":
        assert refusal(revocable(), reason) == ("bad-reason", "reason")
    else:
        assert revocation.reason_of(reason, authority=False) == reason


@pytest.mark.parametrize("reason", ["certificateHold", "removeFromCRL", "aACompromise", "", "KeyCompromise", "x" * 99])
def test_what_would_not_be_for_ever_and_what_is_no_reason_is_refused_and_the_reasons_are_told(reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        revocation.reason_of(reason, authority=True)
    assert caught.value.kind == "bad-reason"
    assert "keyCompromise" in caught.value.detail
    assert len(caught.value.detail) < 400


def test_a_published_entry_with_a_reason_that_is_never_given_here_is_kept_as_unspecified() -> None:
    assert revocation.reason_of_entry(x509.ReasonFlags.certificate_hold) == "unspecified"
    assert revocation.reason_of_entry(None) == "unspecified"
    for name, flag in revocation.FLAGS.items():
        assert revocation.reason_of_entry(flag) == name


@pytest.mark.parametrize("make", [p256_key, rsa_key, ed25519.Ed25519PrivateKey.generate, lambda: P384])
def test_the_owner_of_a_key_of_any_kind_can_prove_it(make: object) -> None:
    key: ApplicantKey = make()  # type: ignore[operator] # each of them makes a key
    message = revocation.signed_request(TEXT, "keyCompromise", NOW)
    proof = RevocationProof(signed_at=NOW, signature=signature(key, message))
    decided = revocation.decide(revocable(key), "keyCompromise", proof, "anyone at 192.0.2.1", "", NOW)
    assert decided.requester == "the certificate's key, anyone at 192.0.2.1"


def test_the_message_names_its_purpose_the_certificate_the_reason_and_the_time() -> None:
    assert revocation.signed_request("0a1b", "superseded", 5) == (
        b"TrustChain: revoke a certificate, version 1\n0a1b\nsuperseded\n5\n"
    )


@pytest.mark.parametrize(
    "message",
    [
        revocation.signed_request(TEXT, "superseded", NOW),
        revocation.signed_request(serial_text(SERIAL + 1), "keyCompromise", NOW),
        revocation.signed_request(TEXT, "keyCompromise", NOW + 1),
        revocation.signed_request(TEXT, "keyCompromise", NOW).rstrip(b"\n"),
        TEXT.encode(),
    ],
    ids=["other reason", "other certificate", "other time", "other end", "no purpose"],
)
def test_a_signature_over_anything_else_is_no_proof(message: bytes) -> None:
    proof = RevocationProof(signed_at=NOW, signature=signature(p256_key(), message))
    assert refusal(revocable(p256_key()), "keyCompromise", proof) == ("unauthorized-revocation", "signature")


def test_a_signature_by_another_key_is_no_proof() -> None:
    message = revocation.signed_request(TEXT, "keyCompromise", NOW)
    for key in (P384, rsa_key(), ed25519.Ed25519PrivateKey.generate()):
        proof = RevocationProof(signed_at=NOW, signature=signature(key, message))
        assert refusal(revocable(p256_key()), "keyCompromise", proof) == ("unauthorized-revocation", "signature")


@pytest.mark.parametrize(
    ("late", "holds"), [(-61, False), (-60, True), (0, True), (PROOF_SECONDS, True), (PROOF_SECONDS + 1, False)]
)
def test_a_proof_holds_for_its_time_only(late: int, holds: bool) -> None:
    message = revocation.signed_request(TEXT, "keyCompromise", NOW)
    proof = RevocationProof(signed_at=NOW, signature=signature(p256_key(), message))
    found = revocable(p256_key())
    if holds:
        assert revocation.decide(found, "keyCompromise", proof, "a test", "", NOW + late).revoked_at == NOW + late
    else:
        assert refusal(found, "keyCompromise", proof, NOW + late) == ("unauthorized-revocation", "signed_at")


def test_a_serial_number_without_a_certificate_can_be_revoked_but_by_no_proof() -> None:
    found = Revocable(TEXT, "01", 3, NOW + 86_400, None)
    assert revocation.decide(found, "superseded", None, "administrator", "", NOW).serial == TEXT
    proof = RevocationProof(signed_at=NOW, signature=b"x")
    assert refusal(found, "superseded", proof) == ("unauthorized-revocation", "proof")


def test_a_revocation_without_a_known_reason_does_not_construct() -> None:
    with pytest.raises(ValueError, match="is not a reason"):
        Revocation(TEXT, "01", 3, NOW, "certificateHold", NOW, "a test")  # type: ignore[arg-type] # what is tested
