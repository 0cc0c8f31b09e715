"""Collecting votes."""

import pytest

from services.consensus.round import ASK_AGAIN, Round, Uncounted
from services.consensus.vote import VoteRefused
from tests.unit.consensus.validators import NOW, operation, registry, tampered, vote

FOUR = registry(a=1, b=1, c=1, d=1)
ASKED = operation()
OFFSET = 5_000


def begun(seconds: int = 1) -> Round:
    return Round(ASKED, FOUR, NOW + 1000 * seconds, OFFSET)


def fault(of: Round, given: object, now: int = NOW) -> str:
    with pytest.raises(Uncounted) as raised:
        of.voted(given, now)  # type: ignore[arg-type] # a vote
    return raised.value.kind


def test_everybody_is_asked_at_once_and_again_only_who_has_not_answered() -> None:
    made = begun()
    assert made.to_ask(NOW) == ("a", "b", "c", "d")
    made.voted(vote("b", FOUR, ASKED), NOW)
    assert made.to_ask(NOW + ASK_AGAIN - 1) == ()
    assert made.to_ask(NOW + ASK_AGAIN) == ("a", "c", "d")


def test_the_vote_that_completes_a_quorum_ends_the_round() -> None:
    made = begun()
    for name in "ab":
        made.voted(vote(name, FOUR, ASKED), NOW)
        assert made.outcome == "asking"
    made.voted(vote("c", FOUR, ASKED), NOW)
    assert made.outcome == "certified"
    assert made.certificate is not None
    assert [each.claims.validator for each in made.certificate.votes] == ["a", "b", "c"]
    assert made.to_ask(NOW + ASK_AGAIN) == ()
    assert fault(made, vote("d", FOUR, ASKED)) == "late"


def test_the_round_ends_at_its_deadline_and_says_who_is_missing() -> None:
    made = begun()
    made.voted(vote("a", FOUR, ASKED), NOW)
    made.refused("b", "slot-taken")
    assert made.to_ask(NOW + 1000) == ()
    assert made.outcome == "silent"
    assert made.shortfall == ("1 of 4 agree, more than two thirds are needed; b refuses: slot-taken; silent: c, d")
    assert fault(made, vote("c", FOUR, ASKED), NOW + 1000) == "late"


def test_so_many_refusals_that_no_quorum_can_come_about_end_the_round_at_once() -> None:
    made = begun()
    outcomes = []
    for name in ("a", "a", "stranger", "b"):
        made.refused(name, "lint")
        outcomes.append(made.outcome)
    assert outcomes == ["asking", "asking", "asking", "refused"]


def test_a_refusal_binds_nobody() -> None:
    made = begun()
    made.refused("a", "clock")
    made.voted(vote("a", FOUR, ASKED), NOW)
    made.refused("a", "clock")
    assert "refuses" not in made.shortfall


def test_a_vote_whose_time_is_too_far_away_does_not_count() -> None:
    made = begun()
    made.voted(vote("a", FOUR, ASKED, time=NOW - OFFSET), NOW)
    made.voted(vote("b", FOUR, ASKED, time=NOW + OFFSET), NOW)
    assert fault(made, vote("c", FOUR, ASKED, time=NOW + OFFSET + 1)) == "time"
    assert fault(made, vote("c", FOUR, ASKED, time=NOW - OFFSET - 1)) == "time"


def test_what_is_not_signed_or_about_something_else_does_not_count() -> None:
    made = begun()
    with pytest.raises(VoteRefused):
        made.voted(tampered(vote("a", FOUR, ASKED), number=2), NOW)
    assert fault(made, vote("a", FOUR, operation("another value"))) == "wrong-operation"
    assert fault(made, vote("a", FOUR, operation(slot=b"another slot"))) == "wrong-operation"
    assert made.shortfall.startswith("0 of 4")


def test_a_second_value_of_a_validator_that_has_voted_is_proof() -> None:
    made = begun()
    first, second = vote("a", FOUR, ASKED), vote("a", FOUR, operation("another value"), number=2)
    made.voted(first, NOW)
    proof = made.voted(second, NOW)
    assert proof is not None
    assert (proof.kind, proof.one, proof.other) == ("double-vote", first, second)
    with pytest.raises(VoteRefused):
        made.voted(tampered(second, number=3), NOW)


def test_the_same_vote_again_changes_nothing() -> None:
    made = begun()
    given = vote("a", FOUR, ASKED)
    made.voted(given, NOW)
    assert made.voted(given, NOW) is None
    assert made.shortfall.startswith("1 of 4")
