"""OCSP requests, answers and responders, as values."""

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.ca.policy.profile import Validity
from services.ca.status import ocsp
from services.ca.status.messages import MAX_OCSP_REQUEST_OCTETS
from services.ca.status.ocsp import CertId, Responder, Status, Unanswerable
from tests.unit.ca.applicants import p256_key
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of
from tests.unit.ca.test_revocation import SERIAL, revocable

DER = serialization.Encoding.DER
DIGESTS = (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
VALIDITY = Validity(NOW - 60, NOW + 259_200)


def responder(key_type: str = "p256") -> Responder:
    issuer = hierarchy_of(key_type).issuer  # type: ignore[arg-type] # one of KEY_TYPES
    key = ed25519.Ed25519PrivateKey.generate() if key_type == "ed25519" else p256_key()
    return Responder(ocsp.sign_responder(issuer, key, 99, VALIDITY), key)


def asked(digest: int = 0, serial: int = SERIAL) -> CertId:
    return ocsp.parse(ocsp.request_for(ocsp.hashes_of(hierarchy_of().issuer.certificate)[digest], serial))


@pytest.mark.parametrize("digest", range(4))
def test_an_issuer_is_known_by_what_a_client_computes_from_its_certificates(digest: int) -> None:
    issuer = hierarchy_of().issuer.certificate
    der = revocable().certificate
    assert der is not None
    leaf = x509.load_der_x509_certificate(der)
    request = library.OCSPRequestBuilder().add_certificate(leaf, issuer, DIGESTS[digest]).build()
    parsed = ocsp.parse(request.public_bytes(DER))
    named = ocsp.hashes_of(issuer)[digest]
    assert (parsed.digest, parsed.issuer_name_hash, parsed.issuer_key_hash) == (
        named.digest,
        named.name_hash,
        named.key_hash,
    )
    assert parsed.serial == SERIAL
    assert parsed == asked(digest)


def test_a_nonce_is_not_looked_at() -> None:
    named = ocsp.hashes_of(hierarchy_of().issuer.certificate)[0]
    request = (
        library.OCSPRequestBuilder()
        .add_certificate_by_hash(named.name_hash, named.key_hash, SERIAL, DIGESTS[0])
        .add_extension(x509.OCSPNonce(b"0123456789abcdef"), critical=False)
        .build()
    )
    assert ocsp.parse(request.public_bytes(DER)) == asked()


@pytest.mark.parametrize("serial", [0, 2**160])
def test_a_serial_number_that_no_certificate_has_is_malformed(serial: int) -> None:
    with pytest.raises(Unanswerable) as caught:
        asked(serial=serial)
    assert caught.value.failure == "malformed_request"


def test_a_negative_serial_number_is_malformed() -> None:
    request = ocsp.request_for(ocsp.hashes_of(hierarchy_of().issuer.certificate)[0], 0x11)
    assert request[-1] == 0x11
    with pytest.raises(Unanswerable) as caught:
        ocsp.parse(request[:-1] + b"\x91")
    assert caught.value.failure == "malformed_request"


def test_a_request_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(Unanswerable, match="more than a request has"):
        ocsp.parse(b"\x30" * (MAX_OCSP_REQUEST_OCTETS + 1))


@pytest.mark.parametrize("key_type", KEY_TYPES)
@pytest.mark.parametrize(
    "status",
    [Status("good"), Status("revoked", NOW - 5, "keyCompromise"), Status("revoked", NOW), Status("unknown")],
    ids=["good", "revoked", "revoked without reason", "unknown"],
)
def test_an_answer_says_what_it_was_made_of_and_verifies(key_type: str, status: Status) -> None:
    issuer = hierarchy_of(key_type).issuer.certificate  # type: ignore[arg-type] # one of KEY_TYPES
    question = ocsp.parse(ocsp.request_for(ocsp.hashes_of(issuer)[1], SERIAL))
    answer = ocsp.answer(question, status, responder(key_type), NOW, backdate=60, lifetime=3600)
    assert ocsp.verify(answer.der, question, issuer, NOW) == status.outcome
    assert (answer.this_update, answer.next_update) == (NOW - 60, NOW + 3600)
    found = library.load_der_ocsp_response(answer.der)
    assert found.serial_number == SERIAL
    assert found.certificate_status.name.lower() == status.outcome
    if status.revoked_at is not None:
        assert found.revocation_time_utc is not None
        assert found.revocation_time_utc.timestamp() == status.revoked_at


def test_an_answer_ends_with_its_responder() -> None:
    answer = ocsp.answer(asked(), Status("good"), responder(), NOW, backdate=60, lifetime=10**9)
    assert answer.next_update == VALIDITY.not_after


def test_a_responder_may_sign_answers_and_nothing_else() -> None:
    made = responder().certificate
    extensions = made.extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    extensions.get_extension_for_class(x509.OCSPNoCheck)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    made.verify_directly_issued_by(hierarchy_of().issuer.certificate)


def test_an_answer_is_believed_for_its_question_its_issuer_and_its_time_only() -> None:
    issuer = hierarchy_of().issuer.certificate
    answer = ocsp.answer(asked(), Status("good"), responder(), NOW, backdate=60, lifetime=3600)
    ocsp.verify(answer.der, asked(), issuer, NOW + 3600)
    for now in (NOW - 61, NOW + 3601):
        with pytest.raises(InvalidSignature, match="hold now"):
            ocsp.verify(answer.der, asked(), issuer, now)
    with pytest.raises(InvalidSignature, match="another certificate"):
        ocsp.verify(answer.der, asked(serial=SERIAL + 1), issuer, NOW)
    with pytest.raises(InvalidSignature):
        ocsp.verify(answer.der, asked(), hierarchy_of("rsa3072").issuer.certificate, NOW)
    with pytest.raises(InvalidSignature):
        ocsp.verify(answer.der[:-1] + bytes([answer.der[-1] ^ 1]), asked(), issuer, NOW)
    with pytest.raises(InvalidSignature, match="TRY_LATER"):
        ocsp.verify(ocsp.failure("try_later"), asked(), issuer, NOW)


def test_an_answer_by_a_certificate_that_is_no_responder_is_not_believed() -> None:
    """A leaf of the same issuer whose owner answers for others."""
    der = revocable(p256_key()).certificate
    assert der is not None
    leaf = Responder(x509.load_der_x509_certificate(der), p256_key())
    answer = ocsp.answer(asked(), Status("good"), leaf, NOW, backdate=60, lifetime=60)
    with pytest.raises(InvalidSignature, match="no responder"):
        ocsp.verify(answer.der, asked(), hierarchy_of().issuer.certificate, NOW)


@pytest.mark.parametrize(
    ("kind", "octets"),
    [("malformed_request", "30030a0101"), ("try_later", "30030a0103"), ("unauthorized", "30030a0106")],
)
def test_error_responses_are_those_of_the_rfc(kind: ocsp.Failure, octets: str) -> None:
    assert ocsp.failure(kind).hex() == octets


def test_a_status_with_half_of_a_revocation_does_not_construct() -> None:
    with pytest.raises(ValueError, match="revoked"):
        Status("revoked")
    with pytest.raises(ValueError, match="good"):
        Status("good", NOW)


def test_a_responder_key_of_another_curve_signs_too() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    made = Responder(ocsp.sign_responder(hierarchy_of().issuer, key, 99, VALIDITY), key)
    answer = ocsp.answer(asked(), Status("good"), made, NOW, backdate=60, lifetime=60)
    assert ocsp.verify(answer.der, asked(), hierarchy_of().issuer.certificate, NOW) == "good"
