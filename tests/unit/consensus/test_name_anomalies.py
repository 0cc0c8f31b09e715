"""Too many certificates for a name are found, once, with what shows it; what is normal is not."""

from collections.abc import Iterable

import pytest
from msgspec import msgpack

from services.consensus import anomaly_state
from services.consensus.anomaly_state import StateRefused
from services.consensus.logged_names import LoggedCertificate
from services.consensus.name_anomalies import (
    MAX_EVIDENCE,
    Anomaly,
    Change,
    Kind,
    Limits,
    OutOfOrder,
    State,
    subject_of,
)
from tests.unit.consensus.issued import logged

NAME = "dns:a.example.test"
OTHER = "dns:b.example.test"
SECOND = 1000
LIMITS = Limits(duplicates=2, duplicate_window=10, rate_limit=5, rate_window=60, max_names=100)


def after(
    state: State, certificates: Iterable[LoggedCertificate], limits: Limits = LIMITS
) -> list[tuple[str, Kind, int]]:
    """What changed, without the evidence."""
    changes = [change for each in certificates for change in state.observe(each, limits)]
    return [(change.what, change.anomaly.kind, change.anomaly.count) for change in changes]


def every(seconds: int, count: int, *names: str, begin: int = 0) -> list[LoggedCertificate]:
    return [logged(number, number * seconds * SECOND, *names) for number in range(begin, begin + count)]


def test_the_same_names_again_and_again_are_a_duplicate_with_its_entries() -> None:
    state = State()
    assert after(state, every(1, 3, NAME, OTHER)) == []
    (opened,) = state.observe(logged(3, 3 * SECOND, NAME, OTHER), LIMITS)
    assert opened == Change(
        "opened",
        Anomaly(
            kind="duplicate",
            subject=subject_of((OTHER, NAME)),
            opened_at=3 * SECOND,
            last_at=3 * SECOND,
            count=4,
            indices=(0, 1, 2, 3),
            timestamps=(0, SECOND, 2 * SECOND, 3 * SECOND),
        ),
    )
    assert state.open == (opened.anomaly,)


def test_other_names_are_no_duplicate() -> None:
    sets = ((NAME,), (OTHER,), (NAME, OTHER), (NAME, "dns:c.example.test"))
    assert after(State(), (logged(number, 0, *names) for number, names in enumerate(sets))) == []


def test_a_renewal_outside_the_window_is_no_duplicate() -> None:
    limits = Limits(duplicates=1, duplicate_window=10, rate_limit=1000)
    assert after(State(), every(10, 20, NAME), limits) == []
    assert after(State(), every(5, 20, NAME), limits) == []
    assert after(State(), every(4, 3, NAME), limits) == [("opened", "duplicate", 3)]


def test_what_is_no_longer_valid_is_duplicated_by_nothing() -> None:
    def short(valid: int) -> list[LoggedCertificate]:
        return [logged(number, number * SECOND, NAME, not_after=number + valid) for number in range(5)]

    assert after(State(), short(2)) == []
    assert after(State(), short(3)) == [("opened", "duplicate", 4), ("updated", "duplicate", 5)]


def test_a_certificate_is_valid_until_its_last_second_is_over() -> None:
    stream = [logged(number, 9 * SECOND + 900, NAME, not_after=9) for number in range(4)]
    assert after(State(), stream) == [("opened", "duplicate", 4)]
    later = [logged(number, 9 * SECOND + 900 + 50 * number, NAME, not_after=9) for number in range(4)]
    assert after(State(), later) == []


def test_certificates_that_have_expired_already_hide_no_duplicates() -> None:
    stream = [logged(number, 3000 * SECOND, NAME, not_after=9 if number % 2 else 9999) for number in range(7)]
    state = State()
    changes = after(state, stream, Limits(duplicates=2, duplicate_window=10))
    assert changes == [("opened", "duplicate", 4), ("updated", "duplicate", 5)]
    assert state.open[0].indices == (0, 2, 4, 5, 6)


def test_a_certificate_and_its_precertificate_count_once() -> None:
    state = State()
    stream = [logged(number, 0, NAME, contents=number // 2) for number in range(6)]
    assert after(state, stream) == []
    assert (state.seen_again, state.position) == (3, 6)
    assert after(state, [logged(6, 0, NAME)]) == [("opened", "duplicate", 4)]


def test_too_many_of_a_name_are_found_whatever_names_stand_with_it() -> None:
    state = State()
    stream = [logged(number, number * SECOND, NAME, f"dns:n{number}.example.test") for number in range(7)]
    assert after(state, stream[:5]) == []
    (opened,) = state.observe(stream[5], LIMITS)
    assert (opened.what, opened.anomaly.kind, opened.anomaly.subject) == ("opened", "rate", NAME)
    assert opened.anomaly.indices == (0, 1, 2, 3, 4, 5)
    assert opened.anomaly.timestamps == tuple(number * SECOND for number in range(6))
    assert after(state, stream[6:]) == [("updated", "rate", 7)]


def test_what_has_left_the_window_does_not_count() -> None:
    limits = Limits(duplicates=100, rate_limit=5, rate_window=60)
    assert after(State(), every(12, 50, NAME), limits) == []
    assert after(State(), every(11, 6, NAME), limits) == [("opened", "rate", 6)]


def test_a_wildcard_counts_for_the_name_that_it_is_registered_under() -> None:
    mixed = [logged(number, 0, ("dns:*.a.test", "dns:a.test")[number % 2]) for number in range(6)]
    state = State()
    after(state, mixed, Limits(duplicates=100, rate_limit=5))
    assert [each.subject for each in state.open] == ["dns:a.test"]


def test_a_certificate_for_a_wildcard_and_its_base_counts_once_for_the_base() -> None:
    limits = Limits(duplicates=100, rate_limit=5)
    both = [logged(number, 0, "dns:*.a.test", "dns:a.test") for number in range(5)]
    assert after(State(), both, limits) == []


def test_certificates_without_names_are_no_duplicates() -> None:
    state = State()
    assert after(state, every(0, 50)) == []
    assert state.position == 50


def test_an_episode_is_one_finding_until_its_window_has_emptied() -> None:
    state = State()
    opened = after(state, every(1, 8, NAME), Limits(duplicates=2, duplicate_window=10))
    assert [what for what, _, _ in opened] == ["opened", "updated", "updated", "updated", "updated"]
    last = 7 * SECOND
    assert after(state, [logged(8, last + 9 * SECOND, NAME)]) != []
    last += 9 * SECOND
    assert state.passed(last + 10 * SECOND - 1, LIMITS) == ()
    (closed,) = state.passed(last + 10 * SECOND, LIMITS)
    assert (closed.what, closed.anomaly.kind, closed.anomaly.count) == ("closed", "duplicate", 9)
    assert closed.anomaly.last_at == last


def test_a_finding_that_closed_can_open_again() -> None:
    limits = Limits(duplicates=1, duplicate_window=10)
    state = State()
    assert after(state, every(1, 3, NAME), limits) == [("opened", "duplicate", 3)]
    again = [logged(number, (100 + number) * SECOND, NAME) for number in (3, 4, 5)]
    assert after(state, again, limits) == [("closed", "duplicate", 3), ("opened", "duplicate", 3)]
    assert state.open[0].indices == (3, 4, 5)


def test_the_next_entry_of_any_name_closes_what_has_emptied() -> None:
    limits = Limits(duplicates=1, duplicate_window=10)
    state = State()
    after(state, every(1, 3, NAME), limits)
    assert after(state, [logged(3, 12 * SECOND, OTHER)], limits) == [("closed", "duplicate", 3)]


def test_evidence_is_bounded_and_what_opened_the_finding_stays() -> None:
    limits = Limits(duplicates=100, rate_limit=30)
    state = State()
    after(state, every(1, 31, NAME), limits)
    opened = state.open[0]
    assert opened.indices == tuple(range(31 - MAX_EVIDENCE, 31))
    after(state, every(1, 50, NAME, begin=31), limits)
    assert (state.open[0].indices, state.open[0].count) == (opened.indices, 81)
    assert state.open[0].last_at == 80 * SECOND


def test_evidence_is_added_while_there_is_room() -> None:
    state = State()
    after(state, every(1, 40, NAME), Limits(duplicates=1, duplicate_window=10))
    assert state.open[0].indices == tuple(range(MAX_EVIDENCE))
    assert state.open[0].timestamps == tuple(number * SECOND for number in range(MAX_EVIDENCE))


def test_names_without_a_place_are_counted_as_not_watched() -> None:
    limits = Limits(max_names=2, rate_window=60, duplicate_window=60)
    state = State()
    after(state, [logged(number, 0, f"dns:n{number}.test") for number in range(3)], limits)
    assert (state.not_watched, len(state.names), len(state.sets)) == (2, 2, 2)
    after(state, [logged(3, 0, "dns:n0.test")], limits)
    assert state.not_watched == 2


def test_a_place_is_free_when_the_window_of_its_name_has_emptied() -> None:
    limits = Limits(max_names=2, rate_window=60, duplicate_window=60)
    state = State()
    stream = [logged(0, 0, "dns:n0.test"), logged(1, 0, "dns:n1.test"), logged(2, 30 * SECOND, "dns:n0.test")]
    after(state, [*stream, logged(3, 60 * SECOND, "dns:n2.test")], limits)
    assert list(state.names) == ["dns:n0.test", "dns:n2.test"]
    assert state.not_watched == 0


@pytest.mark.parametrize("index", [0, 2])
def test_an_entry_that_is_not_the_next_one_changes_nothing(index: int) -> None:
    state = State()
    after(state, every(1, 1, NAME))
    before = anomaly_state.encode(state)
    with pytest.raises(OutOfOrder):
        state.observe(logged(index, 10_000 * SECOND, NAME), LIMITS)
    with pytest.raises(OutOfOrder):
        state.skip(index)
    assert anomaly_state.encode(state) == before


def test_an_entry_that_cannot_be_read_is_counted_and_passed() -> None:
    state = State(5)
    state.skip(5)
    assert (state.position, state.unread) == (6, 1)
    assert after(state, [logged(6, 0, NAME)]) == []


def test_a_timestamp_that_goes_back_opens_no_window_again() -> None:
    limits = Limits(duplicates=1, duplicate_window=10)
    state = State()
    after(state, [logged(0, 100 * SECOND, NAME), logged(1, 50 * SECOND, NAME)], limits)
    assert state.clock == 100 * SECOND
    assert after(state, [logged(2, 109 * SECOND, NAME)], limits) == [("opened", "duplicate", 3)]


def test_the_defaults_are_what_was_asked_for() -> None:
    assert Limits() == Limits(3, 300, 100, 3600, 10_000)
    assert after(State(), every(1, 4, NAME), Limits()) == []
    assert after(State(), every(1, 5, NAME), Limits()) == [("opened", "duplicate", 5)]
    spread = [logged(number, 0, NAME, f"dns:n{number}.test") for number in range(101)]
    assert after(State(), spread[:-1], Limits()) == []
    assert after(State(), spread, Limits()) == [("opened", "rate", 101)]


def test_lower_limits_after_a_restart_hold_with_the_next_certificate() -> None:
    state = State()
    assert after(state, every(1, 20, NAME), Limits(duplicates=100)) == []
    lower = Limits(duplicates=2, rate_limit=5)
    changes = after(state, every(1, 1, NAME, begin=20), lower)
    assert sorted(changes) == [("opened", "duplicate", 21), ("opened", "rate", 6)]
    assert (len(state.names[NAME].times), len(state.sets[subject_of((NAME,))].issued)) == (6, 3)
    assert anomaly_state.encode(anomaly_state.parse(anomaly_state.encode(state))) == anomaly_state.encode(state)


@pytest.mark.parametrize("name", ["duplicates", "duplicate_window", "rate_limit", "rate_window", "max_names"])
@pytest.mark.parametrize("value", [0, 1 << 32])
def test_limits_that_limit_nothing_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match="from 1 to"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("indices", "timestamps", "count", "opened_at"),
    [((), (), 3, 0), ((1,), (), 3, 0), ((1, 2), (0, 0), 1, 0), ((1,), (0,), 3, 10), ((0,) * 17, (0,) * 17, 20, 0)],
)
def test_an_anomaly_without_evidence_or_order_is_not_made(
    indices: tuple[int, ...], timestamps: tuple[int, ...], count: int, opened_at: int
) -> None:
    with pytest.raises(ValueError, match=r"anomaly|evidence"):
        Anomaly("rate", NAME, opened_at, 9, count, indices, timestamps)


def busy() -> State:
    """A state with everything in it: findings, a name that is only remembered, counters."""
    state = State()
    limits = Limits(duplicates=2, rate_limit=5, max_names=3)
    after(state, every(1, 7, NAME), limits)
    state.skip(7)
    after(state, [logged(8, 8 * SECOND, OTHER), logged(9, 8 * SECOND, OTHER, contents=8)], limits)
    after(state, [logged(10, 9 * SECOND, *(f"dns:n{number}.test" for number in range(4)))], limits)
    return state


def test_a_state_comes_back_as_it_was() -> None:
    state = busy()
    again = anomaly_state.parse(anomaly_state.encode(state))
    assert anomaly_state.encode(again) == anomaly_state.encode(state)
    assert (again.position, again.clock, again.open) == (11, 9 * SECOND, state.open)
    assert (again.not_watched, again.seen_again, again.unread) == (3, 1, 1)
    assert len(again.open) == 2


def test_octets_that_are_cut_off_or_go_on_are_refused() -> None:
    octets = anomaly_state.encode(busy())
    for wrong in (*(octets[:length] for length in range(len(octets))), octets + b"\x00"):
        with pytest.raises(StateRefused):
            anomaly_state.parse(wrong)


def test_another_form_of_the_same_state_is_refused() -> None:
    octets = anomaly_state.encode(State(3))
    assert octets[:3] == b"\x98\x01\x03"
    with pytest.raises(StateRefused, match="another form"):
        anomaly_state.parse(octets[:2] + b"\xcc\x03" + octets[3:])


def row(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers)


ISSUED = (1, 2, 3, bytes(32))
FINDING = (5, 9, 3, row(1, 2), row(4, 5))


def stored(
    *,
    version: int = 1,
    position: int = 20,
    clock: int = 10,
    counters: tuple[int, ...] = (0, 0, 0),
    sets: tuple[object, ...] = (),
    names: tuple[object, ...] = (),
) -> bytes:
    return msgpack.encode((version, position, clock, *counters, sets, names))


def test_what_the_refusals_are_changed_from_is_a_state() -> None:
    a_set, name = ("0" * 64, 9, (ISSUED,), FINDING), (NAME, row(8, 9), row(1, 2), FINDING)
    assert len(anomaly_state.parse(stored(sets=(a_set,), names=(name,))).open) == 2


@pytest.mark.parametrize(
    "octets",
    [
        stored(version=2),
        stored(position=-1),
        stored(position=1 << 63),
        stored(counters=(0, -1, 0)),
        stored(sets=(("0" * 63, 9, (), None),)),
        stored(sets=(("0" * 64, 11, (), None),)),
        stored(sets=(("0" * 64, 9, (ISSUED, ISSUED), None),)),
        stored(sets=(("0" * 64, 9, (ISSUED, (1, 3, 3, bytes(32))), None),)),
        stored(sets=(("0" * 64, 9, ((1, 20, 3, bytes(32)),), None),)),
        stored(sets=(("0" * 64, 9, ((10, 2, 3, bytes(32)),), None),)),
        stored(sets=(("0" * 64, 9, ((1, 2, 3, bytes(31)),), None),)),
        stored(sets=(("0" * 64, 9, ((-1, 2, 3, bytes(32)),), None),)),
        stored(sets=(("0" * 64, 9, ((1, -2, 3, bytes(32)),), None),)),
        stored(sets=(("0" * 64, 8, (), FINDING),)),
        stored(sets=(("0" * 64, 9, (), None), ("1" * 64, 8, (), None))),
        stored(sets=(("0" * 64, 9, (), None), ("0" * 64, 9, (), None))),
        stored(names=((NAME, row(), row(), None),)),
        stored(names=((NAME, row(8, 9), row(1), None),)),
        stored(names=((NAME, row(9, 8), row(1, 2), None),)),
        stored(names=((NAME, row(8, 11), row(1, 2), None),)),
        stored(names=((NAME, row(8, 9), row(2, 1), None),)),
        stored(names=((NAME, row(8, 9), row(2, 20), None),)),
        stored(names=((NAME, row(8, 9)[:-1], row(1, 2), None),)),
        stored(names=(("", row(8), row(1), None),)),
        stored(names=((NAME, row(8), row(1), FINDING),)),
        stored(names=((NAME, row(9), row(1), (5, 9, 3, row(2, 1), row(4, 5))),)),
        stored(names=((NAME, row(9), row(1), (5, 9, 3, row(1, 20), row(4, 5))),)),
        stored(names=((NAME, row(9), row(1), (5, 9, 3, row(1, 2), row(4, 10))),)),
        stored(names=((NAME, row(9), row(1), (5, 9, 1, row(1, 2), row(4, 5))),)),
    ],
)
def test_a_state_that_nothing_leads_to_is_refused(octets: bytes) -> None:
    with pytest.raises(StateRefused):
        anomaly_state.parse(octets)
