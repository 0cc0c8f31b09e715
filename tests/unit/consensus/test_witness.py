"""What a witness cosigns and refuses, each outcome of tlog-witness, and what a log may sign after it."""

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.consensus import witness
from services.consensus.witness import Cosigned, MayNotSign, RefusalKind, Refused, Request, RequestError, Witnessed
from services.ct.signing import LogSigner
from services.rfc6962 import cosignature, merkle, note
from services.rfc6962.cosignature import CosignatureVerifier
from services.rfc6962.merkle import EMPTY_ROOT
from services.rfc6962.note import Checkpoint, Note, NoteSignature
from services.rfc6962.verifier import TreeHead
from tests.vectors.merkle_cases import tree_hash

ORIGIN = "ct.example/log"
LOG = LogSigner(ec.derive_private_key(7, ec.SECP256R1()))
STRANGER = LogSigner(ec.derive_private_key(8, ec.SECP256R1()))
LOGS = {ORIGIN: LOG.verifier}
LEAVES = [number.to_bytes(2, "big") for number in range(20)]
NOW = 1_679_315_147_000
TOLERANCE = 5_000
WITNESSED = Witnessed(ORIGIN, 5, tree_hash(LEAVES[:5]))


def nodes(level: int, index: int) -> bytes:
    return tree_hash(LEAVES[index << level : (index + 1) << level])


def signed(size: int, root: bytes, *, by: LogSigner = LOG, at: int = NOW, origin: str = ORIGIN) -> Note:
    head = by.sign_head(TreeHead(size, at, root))
    line = note.rfc6962_signature(origin, by.log_id, at, head.signature)
    return Note(note.checkpoint_text(Checkpoint(origin, size, root)), (line,))


def asked(old: int, size: int, *, at: int = NOW) -> Request:
    proof = merkle.consistency_proof(nodes, old, size) if old <= size else []
    return Request(old, tuple(proof), signed(size, tree_hash(LEAVES[:size]), at=at))


def decided(request: Request, witnessed: Witnessed | None = WITNESSED) -> Cosigned | Refused:
    return witness.decide(request, LOGS, witnessed, NOW, TOLERANCE)


GROWN = asked(5, 8)


def test_a_tree_that_grew_is_cosigned_and_is_what_was_witnessed_from_then_on() -> None:
    outcome = decided(GROWN)
    assert outcome == Cosigned(Witnessed(ORIGIN, 8, tree_hash(LEAVES[:8])), GROWN.note.text)


def test_a_log_that_does_not_grow_is_cosigned_again() -> None:
    assert decided(asked(5, 5)) == Cosigned(WITNESSED, asked(5, 5).note.text)


@pytest.mark.parametrize("size", [0, 1, 5])
def test_at_first_sight_any_tree_is_cosigned_without_a_proof(size: int) -> None:
    outcome = decided(asked(0, size), None)
    assert isinstance(outcome, Cosigned)
    assert outcome.witnessed == Witnessed(ORIGIN, size, tree_hash(LEAVES[:size]))


def test_any_tree_follows_an_empty_one_that_was_cosigned() -> None:
    assert isinstance(decided(asked(0, 5), Witnessed(ORIGIN, 0, EMPTY_ROOT)), Cosigned)


def test_an_old_size_at_first_sight_is_a_conflict_with_none() -> None:
    assert decided(GROWN, None) == Refused("conflict", 0)


@pytest.mark.parametrize("old", [0, 4, 6, 8])
def test_an_old_size_that_is_not_the_one_cosigned_last_is_told_which_it_is(old: int) -> None:
    assert decided(asked(old, 8)) == Refused("conflict", 5)


def test_a_request_that_lost_a_race_is_a_conflict_and_does_not_roll_back() -> None:
    slow, fast = asked(5, 6), asked(5, 8)
    outcome = decided(fast)
    assert isinstance(outcome, Cosigned)
    assert decided(slow, outcome.witnessed) == Refused("conflict", 8)


def test_an_unknown_origin_is_refused_whoever_signed() -> None:
    strange = Request(0, (), signed(5, WITNESSED.root, origin="ct.example/other"))
    assert decided(strange, None) == Refused("unknown_origin")


@pytest.mark.parametrize(
    "change",
    [
        lambda honest: Note(honest.text, signed(8, tree_hash(LEAVES[:8]), by=STRANGER).signatures),
        lambda honest: Note(honest.text, (NoteSignature(ORIGIN, b"key!", b"signature"),)),
        lambda honest: Note(honest.text, honest.signatures * 2),
        lambda honest: Note(honest.text, signed(7, tree_hash(LEAVES[:7])).signatures),
        lambda honest: Note(honest.text, signed(8, tree_hash(LEAVES[1:9])).signatures),
        lambda honest: Note(
            honest.text, (note.rfc6962_signature(ORIGIN, LOG.log_id, NOW + 1, honest.signatures[0].signature[8:]),)
        ),
        lambda honest: Note(honest.text, (note.rfc6962_signature(ORIGIN, LOG.log_id, 2**63, b"\x04\x03\x00\x01x"),)),
        lambda honest: Note(honest.text, (note.rfc6962_signature(ORIGIN, LOG.log_id, NOW, b"x"),)),
        lambda honest: Note(honest.text, (replace(honest.signatures[0], name="ct.example/other"),)),
    ],
    ids=[
        "by another log",
        "with another key ID",
        "twice",
        "of another size",
        "of another root",
        "of another time",
        "of a time beyond any clock",
        "no signature",
        "under another name",
    ],
)
def test_what_the_log_did_not_sign_is_refused(change: Callable[[Note], Note]) -> None:
    assert decided(replace(GROWN, note=change(GROWN.note))) == Refused("not_signed")


def test_signatures_of_others_do_not_matter() -> None:
    others = (NoteSignature("other", b"key!", b"x"), NoteSignature(ORIGIN, b"key!", b"y"))
    accompanied = replace(GROWN, note=replace(GROWN.note, signatures=(*others, *GROWN.note.signatures)))
    assert decided(accompanied) == decided(GROWN)


@pytest.mark.parametrize(("ahead", "refused"), [(TOLERANCE, False), (TOLERANCE + 1, True), (-(10**9), False)])
def test_a_head_is_refused_beyond_the_tolerated_future_and_however_old_it_is_not(ahead: int, refused: bool) -> None:
    outcome = decided(asked(5, 8, at=NOW + ahead))
    assert outcome == (Refused("future") if refused else decided(GROWN))


def test_an_old_size_above_the_checkpoint_is_refused_before_it_is_a_conflict() -> None:
    assert decided(asked(6, 5)) == Refused("old_above_size")
    assert decided(asked(5, 4)) == Refused("old_above_size")


@pytest.mark.parametrize(
    "proof",
    [(), GROWN.proof[:-1], (*GROWN.proof, bytes(32)), GROWN.proof[::-1], (bytes(32),) * len(GROWN.proof)],
    ids=["none", "short", "long", "reversed", "other"],
)
def test_a_proof_that_does_not_verify_is_refused(proof: tuple[bytes, ...]) -> None:
    assert decided(replace(GROWN, proof=proof)) == Refused("inconsistent")


def test_another_tree_is_refused_with_the_proof_that_would_be_right_for_it() -> None:
    fork = [b"fork", *LEAVES[1:]]
    proof = merkle.consistency_proof(lambda level, at: tree_hash(fork[at << level : (at + 1) << level]), 5, 8)
    assert decided(Request(5, tuple(proof), signed(8, tree_hash(fork[:8])))) == Refused("inconsistent")


def test_another_root_for_the_same_size_is_refused() -> None:
    assert decided(Request(5, (), signed(5, tree_hash(LEAVES[1:6])))) == Refused("inconsistent")


@pytest.mark.parametrize("old", [5, 0])
def test_a_proof_where_there_is_nothing_to_prove_is_refused(old: int) -> None:
    needless = Request(old, (bytes(32),), signed(5, WITNESSED.root))
    assert decided(needless, WITNESSED if old else None) == Refused("inconsistent")


@pytest.mark.parametrize(("root", "proof"), [(bytes(32), ()), (EMPTY_ROOT, (bytes(32),))])
def test_an_empty_tree_has_one_root_and_no_proof(root: bytes, proof: tuple[bytes, ...]) -> None:
    assert decided(Request(0, proof, signed(0, root)), None) == Refused("inconsistent")


def test_what_was_witnessed_of_another_log_decides_nothing() -> None:
    with pytest.raises(ValueError, match="another log"):
        decided(GROWN, replace(WITNESSED, origin="ct.example/other"))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("unknown_origin", 404),
        ("not_signed", 403),
        ("old_above_size", 400),
        ("conflict", 409),
        ("inconsistent", 422),
    ],
)
def test_each_refusal_has_the_status_of_the_specification(kind: RefusalKind, status: int) -> None:
    assert witness.STATUS[kind] == status


@pytest.mark.parametrize(("kind", "size"), [("conflict", None), ("not_signed", 5), ("inconsistent", 0)])
def test_a_refusal_tells_the_size_for_a_conflict_alone(kind: RefusalKind, size: int | None) -> None:
    with pytest.raises(ValueError, match="conflict"):
        Refused(kind, size)


def test_a_request_is_written_as_the_specification_writes_it() -> None:
    proof = "".join(f"{base64.b64encode(each).decode()}\n" for each in GROWN.proof)
    assert GROWN.proof
    assert witness.encode_request(GROWN) == f"old 5\n{proof}\n".encode() + note.encode(GROWN.note)
    assert witness.encode_request(asked(0, 5)) == b"old 0\n\n" + note.encode(asked(0, 5).note)


def test_the_example_of_the_specification_is_read() -> None:
    example = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()  # noqa: E501
    request = witness.parse_request(example)
    assert (request.old, len(request.proof), len(request.note.signatures)) == (20852014, 4, 2)
    assert (request.checkpoint.origin, request.checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert witness.encode_request(request) == example


@pytest.mark.parametrize("request_", [GROWN, asked(0, 5), asked(5, 5), replace(GROWN, proof=(bytes(32),) * 63)])
def test_what_is_written_is_read(request_: Request) -> None:
    assert witness.parse_request(witness.encode_request(request_)) == request_


WRITTEN = witness.encode_request(GROWN)
HASH_LINE = base64.b64encode(bytes(32)) + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"old 5\n",
        WRITTEN.replace(b"old 5", b"old 05"),
        WRITTEN.replace(b"old 5", b"old -5"),
        WRITTEN.replace(b"old 5", b"old  5"),
        WRITTEN.replace(b"old 5", b"old 5 "),
        WRITTEN.replace(b"old 5", b"Old 5"),
        WRITTEN.replace(b"old 5", b"old "),
        WRITTEN.replace(b"old 5", b"old 1099511627776"),
        WRITTEN.replace(b"old 5", b"old " + b"9" * 5000),
        WRITTEN.replace(b"old 5", "old ٥".encode()),
        WRITTEN.replace(b"\n", b"\r\n"),
        b"\n" + WRITTEN,
        WRITTEN + b"\n",
        WRITTEN[:-1],
        WRITTEN.replace(b"=\n", b"\n", 1),
        WRITTEN.replace(b"=\n", b"= \n", 1),
        WRITTEN.replace(b"old 5\n", b"old 5\n=\n"),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + base64.b64encode(bytes(31)) + b"\n"),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + base64.b64encode(bytes(33)) + b"\n"),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + HASH_LINE.replace(b"A=", b"B=")),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + HASH_LINE.replace(b"A", b"-", 1)),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + HASH_LINE * 64),
        WRITTEN.replace(b"\n\n", b"\n\n\n", 1),
        b"old 0\n\n" + note.encode(replace(GROWN.note, text=GROWN.note.text + "extension\n")),
        b"old 0\n\n" + note.encode(replace(GROWN.note, text="text\n")),
        b"old 0\n\n" + GROWN.note.text.encode(),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + HASH_LINE * 200),
        WRITTEN.replace(b"old 5\n", b"old 5\n" + b"\n" * witness.MAX_REQUEST_OCTETS),
    ],
)
def test_anything_else_is_no_request(data: bytes) -> None:
    with pytest.raises(RequestError):
        witness.parse_request(data)


def test_more_octets_than_a_request_can_have_are_not_looked_at() -> None:
    most = witness.encode_request(Request(2**40 - 1, (bytes(32),) * 63, GROWN.note))
    assert len(most) - len(note.encode(GROWN.note)) + note.MAX_NOTE_OCTETS <= witness.MAX_REQUEST_OCTETS
    with pytest.raises(RequestError, match="octets; at most"):
        witness.parse_request(bytes(witness.MAX_REQUEST_OCTETS + 1))


@pytest.mark.parametrize(("old", "proof"), [(-1, ()), (2**40, ()), (5, (bytes(31),)), (5, (bytes(32),) * 64)])
def test_a_request_that_cannot_be_written_does_not_construct(old: int, proof: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestError):
        Request(old, proof, GROWN.note)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 1, bytes(32)), ("a", -1, bytes(32)), ("a", 2**40, bytes(32)), ("a", 1, bytes(31)), ("a", 0, bytes(32))],
)
def test_no_head_is_witnessed_that_no_log_has(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Witnessed(origin, size, root)


def test_a_cosignature_comes_back_below_the_text_it_is_over() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    outcome = decided(GROWN)
    assert isinstance(outcome, Cosigned)
    line = cosignature.cosign("validator", key, outcome.text, NOW // 1000)
    answer = witness.encode_answer(outcome.text, (line,))
    assert answer == f"— validator {base64.b64encode(line.key_id + line.signature).decode()}\n".encode()
    answered = witness.parse_answer(outcome.text, answer)
    verifier = CosignatureVerifier("validator", key.public_key().public_bytes_raw())
    assert cosignature.find_cosignature(answered, verifier).time == NOW // 1000


LINE = "— validator a2V5IXM=\n".encode()


@pytest.mark.parametrize(
    "data", [b"", b"\n", LINE[:-1], LINE + b"\n", b"text\n\n" + LINE, LINE + b"\n" + LINE, b"\xff"]
)
def test_an_answer_that_is_more_or_less_than_signature_lines_is_refused(data: bytes) -> None:
    assert witness.parse_answer(GROWN.note.text, LINE).signatures
    with pytest.raises(RequestError):
        witness.parse_answer(GROWN.note.text, data)


def heads(*sizes: int) -> list[Witnessed]:
    return [Witnessed(ORIGIN, size, tree_hash(LEAVES[:size])) for size in sizes]


def may_sign(own: int, *witnessed: Witnessed) -> MayNotSign | None:
    return witness.may_sign(own, tree_hash(LEAVES[:own]), witnessed, lambda size: tree_hash(LEAVES[:size]))


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (8,), (8, 5, 0, 8)])
def test_a_log_signs_that_has_all_that_was_cosigned_of_it(sizes: tuple[int, ...]) -> None:
    assert may_sign(8, *heads(*sizes)) is None


@pytest.mark.parametrize("sizes", [(9,), (5, 9, 8), (12, 9)])
def test_a_log_below_the_largest_tree_cosigned_does_not_sign(sizes: tuple[int, ...]) -> None:
    assert may_sign(8, *heads(*sizes)) == MayNotSign("below", heads(max(sizes))[0])


@pytest.mark.parametrize("size", [1, 5, 8])
def test_a_log_with_another_history_does_not_sign_and_is_told_so_even_when_it_is_also_below(size: int) -> None:
    other = Witnessed(ORIGIN, size, tree_hash([b"fork", *LEAVES[1:size]]))
    assert may_sign(8, *heads(5, 8), other) == MayNotSign("another_history", other)
    assert may_sign(8, *heads(9), other) == MayNotSign("another_history", other)


def test_a_log_is_asked_for_no_root_that_it_does_not_have() -> None:
    asked_for: list[int] = []

    def root_at(size: int) -> bytes:
        asked_for.append(size)
        return tree_hash(LEAVES[:size])

    assert witness.may_sign(8, tree_hash(LEAVES[:8]), heads(9, 8, 5), root_at) == MayNotSign("below", heads(9)[0])
    assert asked_for == [5]
