"""Whatever octets a witness or its log is sent, they are read the one way, or refused by the reader's own error."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from services.consensus import witness
from services.consensus.witness import Cosigned, Request, RequestError, Witnessed
from services.ct.signing import LogSigner
from services.rfc6962 import cosignature, note
from services.rfc6962.cosignature import CosignatureVerifier
from services.rfc6962.merkle import leaf_hash, node_hash
from services.rfc6962.note import Checkpoint, Note, NoteError, NoteSignature
from services.rfc6962.verifier import SignatureRefused, TreeHead

ORIGIN = "ct.example/log"
LOG = LogSigner(ec.derive_private_key(7, ec.SECP256R1()))
NOW = 1_679_315_147_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = CosignatureVerifier("validator", KEY.public_key().public_bytes_raw())

ONE, TWO = leaf_hash(b"one"), leaf_hash(b"two")
CHECKPOINT = Checkpoint(ORIGIN, 2, node_hash(ONE, TWO))
TEXT = note.checkpoint_text(CHECKPOINT)
HEAD = LOG.sign_head(TreeHead(2, NOW, CHECKPOINT.root))
LOG_LINE = note.rfc6962_signature(ORIGIN, LOG.log_id, NOW, HEAD.signature)
LINE = cosignature.cosign("validator", KEY, TEXT, NOW // 1000)
REQUEST = Request(1, (TWO,), Note(TEXT, (LOG_LINE, LINE)))
WRITTEN = witness.encode_request(REQUEST)
WITNESSED = Witnessed(ORIGIN, 1, ONE)
COSIGNED = Cosigned(Witnessed(ORIGIN, 2, CHECKPOINT.root), TEXT)

OCTETS = st.binary(max_size=300)
HASHES = st.binary(min_size=32, max_size=32)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Octets with one change: something replaced, cut out, or put in."""
    at = draw(st.integers(0, len(whole)))
    until = draw(st.integers(at, min(len(whole), at + 8)))
    return whole[:at] + draw(st.binary(max_size=8) | st.sampled_from([b"\n", b"\n\n", b"=", b"+"])) + whole[until:]


@given(OCTETS | damaged(WRITTEN) | OCTETS.map(lambda octets: b"old 1\n\n" + octets))
@example(b"")
@example(WRITTEN)
def test_requests_and_what_becomes_of_them(octets: bytes) -> None:
    try:
        request = witness.parse_request(octets)
    except RequestError:
        assert octets != WRITTEN
        return
    assert witness.encode_request(request) == octets
    last = WITNESSED if request.checkpoint.origin == ORIGIN else None
    outcome = witness.decide(request, {ORIGIN: LOG.verifier}, last, NOW, 0)
    # Only what another signed, the cosignature that came along, may change without the head being refused.
    honest = (request.old, request.proof, request.note.text) == (REQUEST.old, REQUEST.proof, REQUEST.note.text)
    assert (outcome == COSIGNED) == (honest and request.note.signatures.count(LOG_LINE) == 1)
    assert isinstance(outcome, Cosigned) == (outcome == COSIGNED)


@given(st.integers(0, 2**40 - 1), st.lists(HASHES, max_size=63), st.integers(0, 2**40 - 1), HASHES)
def test_a_request_is_read_as_it_was_written(old: int, proof: list[bytes], size: int, root: bytes) -> None:
    text = note.checkpoint_text(Checkpoint(ORIGIN, size, root))
    request = Request(old, tuple(proof), Note(text, (LOG_LINE,)))
    assert witness.parse_request(witness.encode_request(request)) == request


@given(OCTETS | damaged(witness.encode_answer(TEXT, (LINE, LOG_LINE))))
@example(b"\n")
def test_answers(octets: bytes) -> None:
    try:
        answered = witness.parse_answer(TEXT, octets)
    except RequestError:
        return
    assert answered.text == TEXT
    assert witness.encode_answer(TEXT, answered.signatures) == octets


@given(st.binary(min_size=1, max_size=80) | damaged(LINE.signature).filter(bool))
def test_cosignatures(octets: bytes) -> None:
    signed = Note(TEXT, (NoteSignature(VERIFIER.name, VERIFIER.key_id, octets),))
    try:
        found = cosignature.find_cosignature(signed, VERIFIER)
    except (NoteError, SignatureRefused):
        assert octets != LINE.signature
        return
    assert octets == LINE.signature == found.time.to_bytes(8, "big") + found.signature


@given(HASHES, st.binary(min_size=64, max_size=64))
@example(b"\xff" * 32, bytes(64))
def test_keys_that_may_be_no_points(key: bytes, signature: bytes) -> None:
    try:
        CosignatureVerifier("validator", key).verify(cosignature.Cosignature(1, signature), TEXT)
    except SignatureRefused:
        return
    # Points of small order verify what nobody signed; the validator's own key is none.
    assert key != VERIFIER.public_key


@given(st.text(max_size=80) | damaged(VERIFIER.vkey.encode()).map(lambda octets: octets.decode("utf-8", "replace")))
@example("a+" + "0" * 8 + "+")
def test_verifier_keys(vkey: str) -> None:
    try:
        verifier = CosignatureVerifier.of(vkey)
    except NoteError:
        assert vkey != VERIFIER.vkey
        return
    assert verifier.vkey == vkey
