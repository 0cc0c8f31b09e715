"""Which connections are ended: for taking too long, and to make room."""

import pytest

from services.api.occupancy import Occupant, Phase, overdue, to_evict

LIMITS = {Phase.HANDSHAKE: 5.0, Phase.IDLE: 75.0, Phase.READING: 5.0, Phase.ANSWERING: 30.0}

PLACES = 64


def test_each_phase_has_its_own_limit() -> None:
    occupants = [Occupant("a", phase, 100.0) for phase in Phase]
    assert {o.phase for o in overdue(occupants, LIMITS, 105.0)} == set()
    assert {o.phase for o in overdue(occupants, LIMITS, 105.1)} == {Phase.HANDSHAKE, Phase.READING}
    assert {o.phase for o in overdue(occupants, LIMITS, 131.0)} == {Phase.HANDSHAKE, Phase.READING, Phase.ANSWERING}
    assert {o.phase for o in overdue(occupants, LIMITS, 176.0)} == set(Phase)


def test_a_new_phase_starts_its_own_time() -> None:
    occupant = Occupant("a", Phase.READING, 100.0)
    occupant.enter(Phase.ANSWERING, 104.0)
    assert overdue([occupant], LIMITS, 120.0) == []


def test_room_is_made_by_the_address_that_holds_the_most() -> None:
    flood = [Occupant("flood", Phase.READING, 50.0 + n) for n in range(3)]
    others = [Occupant("other", Phase.IDLE, 1.0)]
    assert to_evict(others + flood, PLACES, 100.0) is flood[0]


def test_between_equals_the_longest_waiting_one_goes() -> None:
    older, newer = Occupant("a", Phase.IDLE, 1.0), Occupant("b", Phase.HANDSHAKE, 2.0)
    assert to_evict([newer, older], PLACES, 100.0) is older


def test_a_request_that_is_being_answered_is_never_evicted() -> None:
    answering = [Occupant("a", Phase.ANSWERING, 1.0), Occupant("a", Phase.ANSWERING, 2.0)]
    assert to_evict(answering, PLACES, 100.0) is None
    waiting = Occupant("b", Phase.IDLE, 3.0)
    assert to_evict([*answering, waiting], PLACES, 100.0) is waiting


def test_nobody_is_evicted_from_nothing() -> None:
    assert to_evict([], PLACES, 100.0) is None


def test_who_has_just_come_is_left_in_peace() -> None:
    occupants = [Occupant("a", Phase.HANDSHAKE, 100.0), Occupant("a", Phase.IDLE, 100.5)]
    assert to_evict(occupants, PLACES, 100.9) is None
    assert to_evict(occupants, PLACES, 101.0) is occupants[0]


@pytest.mark.parametrize("phase", [Phase.HANDSHAKE, Phase.IDLE, Phase.READING])
def test_an_address_with_more_than_its_share_is_hardly_left_in_peace(phase: Phase) -> None:
    """Places that are all younger than the patience of others make room all the same."""
    crowd = [Occupant("crowd", phase, 100.0 + n / 1000) for n in range(PLACES // 8 + 1)]
    others = [Occupant(f"other {n}", Phase.HANDSHAKE, 99.5) for n in range(PLACES - len(crowd))]
    assert to_evict(others + crowd, PLACES, 100.05) is None, "a handshake over loopback must be able to end"
    assert to_evict(others + crowd, PLACES, 100.2) is crowd[0]
    assert to_evict(others + crowd[1:], PLACES, 100.2) is None, "an eighth of the places is nobody's crowd"


def test_few_connections_are_no_crowd_however_few_the_places() -> None:
    occupants = [Occupant("a", Phase.HANDSHAKE, 100.0) for _ in range(8)]
    assert to_evict(occupants, 8, 100.5) is None


def test_a_crowd_does_not_end_what_is_being_answered() -> None:
    assert to_evict([Occupant("a", Phase.ANSWERING, 1.0) for _ in range(PLACES)], PLACES, 100.0) is None
