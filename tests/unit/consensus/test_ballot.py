"""Whether a validator gives its vote."""

import pytest

from services.consensus import ballot
from services.consensus.ballot import CLOCK_TOLERANCE, NOTHING_DRAWN, BallotRefused, Drawn, Given
from services.consensus.operation import change_registry
from services.consensus.registry import followed
from tests.unit.consensus.validators import NETWORK, NOW, OTHER_NETWORK, operation, registry, validator, vote

FOUR = registry(a=1, b=1, c=1, d=1)
FIVE = followed(FOUR, [*FOUR.validators, validator("e")])
ASKED = operation()


def refused(*arguments: object) -> str:
    with pytest.raises(BallotRefused) as raised:
        ballot.decide(*arguments)  # type: ignore[arg-type] # each test gives the right ones
    return raised.value.kind


def test_each_vote_has_the_next_number_and_no_earlier_time() -> None:
    assert ballot.decide(ASKED, "a", FOUR, None, NOTHING_DRAWN, -1, NOW) == Drawn(1, NOW)
    assert ballot.decide(ASKED, "a", FOUR, None, Drawn(7, NOW + 5), -1, NOW) == Drawn(8, NOW + 5)


def test_the_same_value_gets_the_same_vote_again_even_when_the_epoch_is_closed() -> None:
    before = vote("a", FOUR, ASKED)
    for closed in (-1, 0):
        given = Given(ASKED.digest, before)
        assert ballot.decide(ASKED, "a", FOUR, given, Drawn(9, NOW), closed, NOW + 9) is before


def test_a_slot_keeps_its_value_in_every_later_epoch() -> None:
    given = Given(ASKED.digest, vote("a", FOUR, ASKED))
    assert refused(operation("another"), "a", FOUR, given, NOTHING_DRAWN, -1, NOW) == "slot-taken"
    assert refused(operation("another"), "a", FIVE, given, NOTHING_DRAWN, -1, NOW) == "slot-taken"
    assert ballot.decide(ASKED, "a", FIVE, given, Drawn(1, NOW), 0, NOW) == Drawn(2, NOW)


def test_nothing_new_is_voted_for_in_a_closed_epoch() -> None:
    assert refused(ASKED, "a", FOUR, None, NOTHING_DRAWN, 0, NOW) == "epoch-closed"
    assert ballot.decide(ASKED, "a", FIVE, None, NOTHING_DRAWN, 0, NOW) == Drawn(1, NOW)


def test_only_the_registry_of_the_next_epoch_closes_the_present_one() -> None:
    assert ballot.closes(change_registry(NETWORK, 1, FIVE.digest), FOUR)
    assert not ballot.closes(change_registry(NETWORK, 2, FIVE.digest), FOUR)
    assert not ballot.closes(ASKED, FOUR)


def test_strangers_do_not_vote_and_no_vote_leaves_its_network() -> None:
    assert refused(ASKED, "e", FOUR, None, NOTHING_DRAWN, -1, NOW) == "not-a-validator"
    assert refused(operation(network=OTHER_NETWORK), "a", FOUR, None, NOTHING_DRAWN, -1, NOW) == "wrong-network"


def test_a_clock_that_jumped_back_stops_the_votes() -> None:
    ahead = Drawn(1, NOW + CLOCK_TOLERANCE)
    assert ballot.decide(ASKED, "a", FOUR, None, ahead, -1, NOW) == Drawn(2, NOW + CLOCK_TOLERANCE)
    assert refused(ASKED, "a", FOUR, None, ahead, -1, NOW - 1) == "clock"
