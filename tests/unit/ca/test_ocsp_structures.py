"""The octets of OCSP requests and responses, against the library and against RFC 6960's grammar."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp as library

from services import der
from services.ca.status import ocsp, ocsp_structures
from services.ca.status.ocsp import MAX_QUESTIONS, CertId, Status, Unanswerable
from services.der import DerError
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of
from tests.unit.ca.test_ocsp import DIGESTS, responder

NAME, KEY = bytes(range(20)), bytes(range(20, 40))
SHA1 = bytes.fromhex("300906052b0e03021a0500")


def tlv(tag: int, *parts: bytes) -> bytes:
    return der.encode(tag, b"".join(parts))


def cert_id(serial: int = 5, algorithm: bytes = SHA1, name: bytes = NAME, key: bytes = KEY) -> bytes:
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return tlv(0x30, algorithm, tlv(0x04, name), tlv(0x04, key), tlv(0x02, octets))


def one(serial: int = 5) -> bytes:
    return tlv(0x30, cert_id(serial))


def request(*requests: bytes, before: bytes = b"", after: bytes = b"", signature: bytes = b"") -> bytes:
    return tlv(0x30, tlv(0x30, before, tlv(0x30, *requests), after), signature)


VERSION_1 = tlv(0xA0, b"\x02\x01\x00")
REQUESTOR = tlv(0xA1, tlv(0xA4, tlv(0x30)))
NONCE = tlv(0x30, bytes.fromhex("06092b0601050507300102"), tlv(0x04, tlv(0x04, b"n" * 16)))
EXTENSIONS = tlv(0xA2, tlv(0x30, NONCE))
SIGNATURE = tlv(0xA0, tlv(0x30, SHA1, tlv(0x03, b"\0signature")))


@pytest.mark.parametrize(
    "octets",
    [
        request(one()),
        request(one(), before=VERSION_1),
        request(one(), before=REQUESTOR),
        request(one(), before=VERSION_1 + REQUESTOR, after=EXTENSIONS, signature=SIGNATURE),
        request(tlv(0x30, cert_id(), tlv(0xA0, tlv(0x30, NONCE)))),
        request(tlv(0x30, cert_id(algorithm=tlv(0x30, bytes.fromhex("06052b0e03021a"))))),
    ],
    ids=["bare", "version", "requestor", "everything", "single extensions", "no parameters"],
)
def test_every_form_of_a_request_is_read(octets: bytes) -> None:
    assert ocsp_structures.read_request(octets) == [CertId("sha1", NAME, KEY, 5)]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        tlv(0x30),
        tlv(0x30, tlv(0x30)),
        request(),
        request(one()) + b"\0",
        request(one())[:-1],
        request(one(), before=tlv(0xA0, b"\x02\x01\x01")),
        request(one(), before=VERSION_1 + VERSION_1),
        request(one(), before=REQUESTOR + VERSION_1),
        request(one(), before=EXTENSIONS),
        request(one(), after=EXTENSIONS + EXTENSIONS),
        request(one(), after=VERSION_1),
        request(one(), signature=EXTENSIONS),
        request(tlv(0x30)),
        request(cert_id()),
        request(tlv(0x30, cert_id(name=NAME[1:]))),
        request(tlv(0x30, cert_id(key=KEY + b"x"))),
        request(tlv(0x30, cert_id(algorithm=bytes.fromhex("300a06052b0e03021a020105")))),
        request(tlv(0x30, cert_id(algorithm=tlv(0x30)))),
        request(tlv(0x31, cert_id())),
    ],
)
def test_what_the_grammar_does_not_allow_is_refused(octets: bytes) -> None:
    with pytest.raises(DerError):
        ocsp_structures.read_request(octets)


def test_a_hash_that_names_no_issuer_here_is_told_apart() -> None:
    md5 = bytes.fromhex("300c06082a864886f70d02050500")
    with pytest.raises(ocsp_structures.UnknownHash):
        ocsp_structures.read_request(request(tlv(0x30, cert_id(algorithm=md5, name=NAME[:16], key=KEY[:16]))))


def test_several_questions_are_read_in_their_order_up_to_a_bound() -> None:
    serials = list(range(1, MAX_QUESTIONS + 1))
    asked = ocsp.questions(request(*map(one, serials)))
    assert [question.serial for question in asked] == serials
    with pytest.raises(Unanswerable) as caught:
        ocsp.questions(request(*map(one, [*serials, 99])))
    assert caught.value.failure == "malformed_request"
    with pytest.raises(Unanswerable):
        ocsp.parse(request(one(1), one(2)))


@pytest.mark.parametrize("digest", range(4))
@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 2**127, 2**160 - 1])
def test_requests_of_the_library_are_read_as_it_reads_them(digest: int, serial: int) -> None:
    named = ocsp.hashes_of(hierarchy_of().issuer.certificate)[digest]
    built = library.OCSPRequestBuilder().add_certificate_by_hash(
        named.name_hash, named.key_hash, serial, DIGESTS[digest]
    )
    found = ocsp_structures.read_request(built.build().public_bytes(serialization.Encoding.DER))
    assert found == [CertId(named.digest, named.name_hash, named.key_hash, serial)]


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_library_reads_every_part_of_an_answer_about_several(key_type: str) -> None:
    issuer = hierarchy_of(key_type).issuer.certificate  # type: ignore[arg-type] # one of KEY_TYPES
    signer = responder(key_type)
    statuses = [
        Status("good"),
        Status("revoked", NOW - 5, "keyCompromise"),
        Status("revoked", NOW - 9),
        Status("unknown"),
    ]
    questions = [
        ocsp.parse(ocsp.request_for(ocsp.hashes_of(issuer)[number], 2 ** (40 * number)))
        for number in range(len(statuses))
    ]
    answer = ocsp.answer_all(list(zip(questions, statuses, strict=True)), signer, NOW, backdate=60, lifetime=3600)
    found = library.load_der_ocsp_response(answer.der)
    assert found.produced_at_utc.timestamp() == answer.produced_at == NOW
    assert found.responder_key_hash == signer.key_hash
    assert found.certificates == [signer.certificate]
    for question, status, single in zip(questions, statuses, found.responses, strict=True):
        assert single.certificate_status.name.lower() == status.outcome
        assert (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
            question.serial,
            question.issuer_name_hash,
            question.issuer_key_hash,
        )
        assert single.hash_algorithm.name == question.digest
        assert single.this_update_utc.timestamp() == NOW - 60
        assert single.next_update_utc is not None
        assert single.next_update_utc.timestamp() == NOW + 3600
        revoked_at = single.revocation_time_utc
        assert (None if revoked_at is None else int(revoked_at.timestamp())) == status.revoked_at
        assert (single.revocation_reason is not None) == (status.reason != "unspecified")
