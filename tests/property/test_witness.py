"""A witness of a log that shows two trees: whatever it is asked, in whatever order, it follows only one of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from services.consensus import witness
from services.consensus.witness import Cosigned, MayNotSign, Refused, Request, Witnessed
from services.ct.signing import LogSigner
from services.rfc6962 import merkle, note
from services.rfc6962.merkle import EMPTY_ROOT
from services.rfc6962.note import Checkpoint, Note
from services.rfc6962.verifier import TreeHead
from tests.vectors.merkle_cases import tree_hash

ORIGIN = "ct.example/log"
LOG = LogSigner(ec.derive_private_key(7, ec.SECP256R1()))
LOGS = {ORIGIN: LOG.verifier}
NOW = 1_679_315_147_000
MOST = 24
SHARED = (0, 1, 4, 7)  # how many leaves both trees begin with


@dataclass(frozen=True)
class Question:
    """One request: the tree it is from, its sizes, and the tree that its proof is from.

    An `old` of None is the right one. `again` asks what was asked that many questions ago instead, octet for octet.
    """

    fork: bool
    old: int | None
    size: int
    proof_of: bool
    again: int | None


@cache
def leaves(shared: int, fork: bool) -> tuple[bytes, ...]:
    return tuple(bytes((number, fork and number >= shared)) for number in range(MOST))


@cache
def root(shared: int, fork: bool, size: int) -> bytes:
    return tree_hash(leaves(shared, fork)[:size])


@cache
def proof(shared: int, fork: bool, old: int, size: int) -> tuple[bytes, ...]:
    if old > size:
        return ()
    of = leaves(shared, fork)
    return tuple(merkle.consistency_proof(lambda level, at: tree_hash(of[at << level : (at + 1) << level]), old, size))


@cache
def signed(shared: int, fork: bool, size: int) -> Note:
    head = LOG.sign_head(TreeHead(size, NOW, root(shared, fork, size)))
    line = note.rfc6962_signature(ORIGIN, LOG.log_id, NOW, head.signature)
    return Note(note.checkpoint_text(Checkpoint(ORIGIN, size, head.head.root)), (line,))


SIZES = st.integers(0, MOST) | st.sampled_from([1, 4, 7, 8])
QUESTIONS = st.lists(
    st.builds(Question, st.booleans(), st.none() | SIZES, SIZES, st.booleans(), st.none() | st.integers(1, 5)),
    max_size=30,
)


def requests(shared: int, questions: list[Question], witnessed: list[Witnessed]) -> Iterator[Request]:
    """What is asked, one after the other; `witnessed` grows meanwhile."""
    asked: list[Request] = []
    for each in questions:
        old = each.old if each.old is not None else witnessed[-1].size if witnessed else 0
        if each.again is not None and len(asked) >= each.again:
            asked.append(asked[-each.again])
        else:
            proven = proof(shared, each.proof_of, old, each.size)
            asked.append(Request(old, proven, signed(shared, each.fork, each.size)))
        yield asked[-1]


def one_begins_the_other(shared: int, smaller: Witnessed, larger: Witnessed) -> bool:
    return smaller.size <= larger.size and any(
        (smaller.root, larger.root) == (root(shared, fork, smaller.size), root(shared, fork, larger.size))
        for fork in (False, True)
    )


def may_be_cosigned(shared: int, request: Request, before: Witnessed | None) -> bool:
    """Read word for word: the old size is that of the last head, which begins this tree, and the proof is the one."""
    checkpoint = request.checkpoint
    old, old_root = (0, EMPTY_ROOT) if before is None else (before.size, before.root)
    return old == request.old <= checkpoint.size and any(
        (checkpoint.root, old_root, request.proof)
        == (root(shared, fork, checkpoint.size), root(shared, fork, old), proof(shared, fork, old, checkpoint.size))
        for fork in (False, True)
    )


@given(st.sampled_from(SHARED), QUESTIONS)
def test_no_two_heads_are_cosigned_of_which_one_does_not_begin_the_other(
    shared: int, questions: list[Question]
) -> None:
    witnessed: list[Witnessed] = []
    for request in requests(shared, questions, witnessed):
        before = witnessed[-1] if witnessed else None
        outcome = witness.decide(witness.parse_request(witness.encode_request(request)), LOGS, before, NOW, 0)
        assert isinstance(outcome, Cosigned) == may_be_cosigned(shared, request, before)
        if isinstance(outcome, Refused):
            assert outcome.kind in {"old_above_size", "conflict", "inconsistent"}
            continue
        assert outcome.text == note.checkpoint_text(request.checkpoint)
        witnessed.append(outcome.witnessed)
    for at, larger in enumerate(witnessed):
        assert all(one_begins_the_other(shared, smaller, larger) for smaller in witnessed[:at])


@given(st.sampled_from(SHARED), st.lists(SIZES, min_size=1, max_size=8), st.booleans())
def test_a_log_that_shows_one_tree_gets_each_head_cosigned_and_the_other_tree_none(
    shared: int, sizes: list[int], fork: bool
) -> None:
    last: Witnessed | None = None
    for size in sorted(sizes):
        old = last.size if last else 0
        request = Request(old, proof(shared, fork, old, size), signed(shared, fork, size))
        outcome = witness.decide(request, LOGS, last, NOW, 0)
        assert isinstance(outcome, Cosigned)
        last = outcome.witnessed
    assert last is not None
    for size in range(max(last.size, shared + 1), MOST + 1):
        request = Request(last.size, proof(shared, not fork, last.size, size), signed(shared, not fork, size))
        follows = last.size <= shared
        assert isinstance(witness.decide(request, LOGS, last, NOW, 0), Cosigned) == follows


@given(st.sampled_from(SHARED), st.lists(st.tuples(st.booleans(), SIZES), max_size=6), st.booleans(), SIZES)
def test_a_log_signs_exactly_when_its_tree_begins_with_all_that_was_cosigned(
    shared: int, cosigned: list[tuple[bool, int]], fork: bool, own: int
) -> None:
    heads = [Witnessed(ORIGIN, size, root(shared, each, size)) for each, size in cosigned]
    outcome = witness.may_sign(own, root(shared, fork, own), heads, lambda size: root(shared, fork, size))
    forked = [head for head in heads if head.size <= own and head.root != root(shared, fork, head.size)]
    if forked:
        assert isinstance(outcome, MayNotSign)
        assert outcome.reason == "another_history"
        assert outcome.witnessed in forked
    elif any(head.size > own for head in heads):
        assert isinstance(outcome, MayNotSign)
        assert outcome.reason == "below"
        assert outcome.witnessed.size == max(head.size for head in heads)
    else:
        assert outcome is None
