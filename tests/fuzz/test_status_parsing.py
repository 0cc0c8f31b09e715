"""Whatever octets come as an OCSP request, a revocation list or an OCSP answer: a value, or the parser's own error."""

from contextlib import suppress

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import ocsp as library
from hypothesis import example, given
from hypothesis import strategies as st

from services.ca.policy.profile import Validity
from services.ca.status import crl, ocsp
from services.ca.status.authorities import authorities_of
from services.ca.status.crl import Entry, Scope, UnreadableCrl
from services.ca.status.ocsp import CertId, Responder, Status, Unanswerable
from tests.unit.ca.applicants import p256_key
from tests.unit.ca.authorities import NOW, hierarchy_of

ISSUER = hierarchy_of().issuer
AUTHORITIES = authorities_of(hierarchy_of(), 8)
NAMED = ocsp.hashes_of(ISSUER.certificate)
REQUEST = ocsp.request_for(NAMED[1], 2**127 + 5)
ASKED = ocsp.parse(REQUEST)
LIST = crl.sign(ISSUER, Scope(("http://a/crl/0a/1.crl",)), [Entry(2**127 + 5, NOW, "keyCompromise")], 7, NOW, NOW + 60)
RESPONDER = Responder(
    ocsp.sign_responder(ISSUER, p256_key(), 9, Validity(NOW - 60, NOW + 600)),
    p256_key(),
)
ANSWER = ocsp.answer(ASKED, Status("good"), RESPONDER, NOW, backdate=0, lifetime=60).der


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some octets of `whole` replaced, removed, repeated or added."""
    octets = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(octets)))
        removed = draw(st.integers(0, 6))
        octets[at : at + removed] = draw(st.binary(max_size=6))
    return bytes(octets)


@given(st.binary(max_size=300) | damaged(REQUEST))
@example(b"")
@example(REQUEST + b"\0")
@example(REQUEST[:-1])
@example(bytes.fromhex("3000"))
@example(bytes.fromhex("30023000"))
@example(bytes.fromhex("300430023000"))
def test_an_ocsp_request_is_a_question_or_unanswerable(octets: bytes) -> None:
    try:
        asked = ocsp.parse(octets)
    except Unanswerable as error:
        ocsp.failure(error.failure)
    else:
        assert isinstance(asked, CertId)
        assert 0 < asked.serial < 2**160
        found = library.load_der_ocsp_request(octets)
        assert (found.serial_number, found.issuer_key_hash) == (asked.serial, asked.issuer_key_hash)
        assert (found.hash_algorithm.name, found.issuer_name_hash) == (asked.digest, asked.issuer_name_hash)
        ocsp.answer(asked, Status("unknown"), RESPONDER, NOW, backdate=0, lifetime=60)


@given(st.binary(max_size=300) | damaged(LIST))
@example(b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n")
def test_a_list_is_read_or_unreadable_and_a_damaged_one_never_counts(octets: bytes) -> None:
    with suppress(UnreadableCrl):
        published, _ = crl.read(octets, ISSUER.certificate)
        assert published.der == LIST, "no other octets have this signature"
    with suppress(UnreadableCrl):
        crl.entries(octets)
    with suppress(UnreadableCrl):
        AUTHORITIES.signer_of_list(octets)


@given(st.binary(max_size=300) | damaged(ANSWER))
def test_an_answer_is_believed_or_not(octets: bytes) -> None:
    with suppress(InvalidSignature):
        ocsp.verify(octets, ASKED, ISSUER.certificate, NOW)
