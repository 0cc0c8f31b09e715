"""Challenges to retrieve entries, and their answers."""

import pytest

from services.consensus import retrievability
from services.consensus.retrievability import Beacon, RetrievalRefused, Sample
from services.rfc6962 import merkle
from services.rfc6962.merkle import EMPTY_EDGE, leaf_hash
from tests.vectors.merkle_cases import tree_hash

LEAVES = [b"entry %d" % number for number in range(300)]
BEACON = Beacon(len(LEAVES), EMPTY_EDGE.extended(map(leaf_hash, LEAVES)).root)
WANTED = 8


def node(level: int, index: int) -> bytes:
    return tree_hash(LEAVES[index << level : (index + 1) << level])


def retrieved(name: str = "a") -> list[Sample]:
    return [
        Sample(index, LEAVES[index], tuple(merkle.inclusion_proof(node, index, len(LEAVES))))
        for index in retrievability.challenge(BEACON, name, WANTED)
    ]


def test_who_has_the_entries_proves_it() -> None:
    retrievability.verify(BEACON, "a", WANTED, retrieved())


def test_each_validator_and_each_head_is_asked_for_other_entries() -> None:
    drawn = [
        retrievability.challenge(beacon, name, WANTED)
        for beacon in (BEACON, Beacon(299, BEACON.root), Beacon(300, bytes(32)))
        for name in ("a", "b")
    ]
    assert len(set(drawn)) == 6
    assert all(0 <= index < 300 for each in drawn for index in each)


def test_every_entry_has_its_turn() -> None:
    seen = {index for number in range(400) for index in retrievability.challenge(BEACON, f"v{number}", WANTED)}
    assert seen == set(range(300))


def test_what_is_missing_changed_moved_or_of_another_validator_is_refused() -> None:
    first, second, *rest = retrieved()
    wrong = [
        [first, second, *rest[:-1]],
        [second, first, *rest],
        [Sample(first.index, first.leaf + b"x", first.audit_path), second, *rest],
        [Sample(first.index, second.leaf, second.audit_path), second, *rest],
        [Sample(first.index, first.leaf, first.audit_path[:-1]), second, *rest],
        retrieved("b"),
        [],
    ]
    for samples in wrong:
        with pytest.raises(RetrievalRefused):
            retrievability.verify(BEACON, "a", WANTED, samples)


def test_an_answer_is_bound_to_operation_and_octets() -> None:
    samples = retrieved()
    changed = [Sample(samples[0].index, samples[0].leaf + b"x", ()), *samples[1:]]
    answers = {
        retrievability.answer(bytes(32), samples),
        retrievability.answer(b"\x01" * 32, samples),
        retrievability.answer(bytes(32), changed),
        retrievability.answer(bytes(32), samples[1:]),
    }
    assert len(answers) == 4


def test_an_empty_tree_asks_for_nothing_and_the_number_of_samples_is_bounded() -> None:
    assert retrievability.challenge(Beacon(0, bytes(32)), "a", WANTED) == ()
    with pytest.raises(ValueError, match="64"):
        retrievability.challenge(BEACON, "a", 65)
