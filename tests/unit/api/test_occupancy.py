"""Which connections are ended: for taking too long, and to make room."""

from services.api.occupancy import Occupant, Phase, overdue, to_evict

LIMITS = {Phase.HANDSHAKE: 5.0, Phase.IDLE: 75.0, Phase.READING: 5.0, Phase.ANSWERING: 30.0}


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
    assert to_evict(others + flood, 100.0) is flood[0]


def test_between_equals_the_longest_waiting_one_goes() -> None:
    older, newer = Occupant("a", Phase.IDLE, 1.0), Occupant("b", Phase.HANDSHAKE, 2.0)
    assert to_evict([newer, older], 100.0) is older


def test_a_request_that_is_being_answered_is_never_evicted() -> None:
    answering = [Occupant("a", Phase.ANSWERING, 1.0), Occupant("a", Phase.ANSWERING, 2.0)]
    assert to_evict(answering, 100.0) is None
    waiting = Occupant("b", Phase.IDLE, 3.0)
    assert to_evict([*answering, waiting], 100.0) is waiting


def test_nobody_is_evicted_from_nothing() -> None:
    assert to_evict([], 100.0) is None


def test_who_has_just_come_is_left_in_peace() -> None:
    occupants = [Occupant("a", Phase.HANDSHAKE, 100.0), Occupant("a", Phase.IDLE, 100.5)]
    assert to_evict(occupants, 100.9) is None
    assert to_evict(occupants, 101.0) is occupants[0]
