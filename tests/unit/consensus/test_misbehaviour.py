"""What two votes prove."""

import pytest

from services.consensus import misbehaviour
from services.consensus.misbehaviour import Misbehaviour
from services.consensus.registry import begun, followed
from services.consensus.vote import VoteRefused
from tests.unit.consensus.validators import NOW, OTHER_NETWORK, operation, registry, tampered, validator, vote

FOUR = registry(a=1, b=1, c=1, d=1)
ONE, OTHER, ELSEWHERE = operation("one"), operation("other"), operation("one", b"another slot")


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (vote("a", FOUR, ONE), vote("a", FOUR, OTHER, number=2), "double-vote"),
        (vote("a", FOUR, ONE), vote("a", FOUR, ELSEWHERE), "number-used-twice"),
        (vote("a", FOUR, ONE), vote("a", FOUR, ONE, time=NOW + 1), "number-used-twice"),
        (vote("a", FOUR, ONE), vote("a", FOUR, ELSEWHERE, number=2, time=NOW - 1), "clock-turned-back"),
    ],
)
def test_two_votes_that_contradict_are_proof_in_either_order(first: object, second: object, kind: str) -> None:
    proof = misbehaviour.found(first, second)  # type: ignore[arg-type] # votes
    assert proof is not None
    assert (proof.kind, proof.validator) == (kind, "a")
    assert misbehaviour.found(second, first) == proof  # type: ignore[arg-type] # votes
    misbehaviour.verify(proof, FOUR, FOUR)


def test_votes_that_do_not_contradict_prove_nothing() -> None:
    given = vote("a", FOUR, ONE)
    five = followed(FOUR, [*FOUR.validators, validator("e")])
    for other in (
        given,
        vote("b", FOUR, OTHER),
        vote("a", FOUR, ELSEWHERE, number=2),
        vote("a", five, ONE, number=2),
    ):
        assert misbehaviour.found(given, other) is None


def test_a_double_vote_in_two_epochs_is_proven_with_both_registries() -> None:
    five = followed(FOUR, [*FOUR.validators, validator("e")])
    proof = misbehaviour.found(vote("a", FOUR, ONE), vote("a", five, OTHER, number=2))
    assert proof is not None
    misbehaviour.verify(proof, FOUR, five)
    with pytest.raises(VoteRefused):
        misbehaviour.verify(proof, FOUR, FOUR)


def test_nobody_can_be_framed() -> None:
    first, second = vote("a", FOUR, ONE), vote("a", FOUR, OTHER, number=2)
    forged = tampered(second, number=3)
    proof = misbehaviour.found(first, forged)
    assert proof is not None
    with pytest.raises(VoteRefused, match="not signed"):
        misbehaviour.verify(proof, FOUR, FOUR)
    with pytest.raises(ValueError, match="not a"):
        misbehaviour.verify(Misbehaviour("clock-turned-back", first, second), FOUR, FOUR)
    with pytest.raises(ValueError, match="not a"):
        misbehaviour.verify(Misbehaviour("double-vote", first, first), FOUR, FOUR)


def test_votes_in_two_networks_are_no_contradiction() -> None:
    elsewhere = begun(OTHER_NETWORK, FOUR.validators)
    other = vote("a", elsewhere, operation("one", network=OTHER_NETWORK))
    proof = misbehaviour.found(vote("a", FOUR, ONE), other)
    assert proof is not None
    with pytest.raises(ValueError, match="two networks"):
        misbehaviour.verify(
            proof, *((FOUR, elsewhere) if proof.one.claims.registry == FOUR.digest else (elsewhere, FOUR))
        )
