"""History and Availability: bounded, in order, and honest about what was not known."""

from itertools import pairwise

import pytest

from monitoring.history import MAX_COLUMNS, MAX_ROWS, Availability, History
from tests.unit.monitoring.snapshots import SECOND, START


def filled(history: History, rows: int, step: int = SECOND) -> int:
    """Record `rows` rows and return the time of the last one."""
    for row in range(rows):
        history.record({"ca.score": row / 10}, START + row * step)
    return START + (rows - 1) * step


def test_the_figures_come_back_in_order_with_their_times() -> None:
    history = History(retention_seconds=60, interval_seconds=1)
    now = filled(history, 5)
    series = history.series("ca", 0, now)
    assert series.times_ns == tuple(START + second * SECOND for second in range(5))
    assert series.columns == {"score": (0.0, 0.1, 0.2, 0.3, 0.4)}


def test_the_ring_forgets_the_oldest_rows_and_never_grows() -> None:
    history = History(retention_seconds=10, interval_seconds=1)
    now = filled(history, 1000)
    series = history.series("ca", 0, now)
    assert len(history) == len(series.times_ns) == 10
    assert series.times_ns[-1] == now
    assert series.columns["score"][-1] == 99.9


def test_rows_older_than_the_retention_are_not_told_even_if_still_held() -> None:
    history = History(retention_seconds=60, interval_seconds=1)
    filled(history, 3)
    assert history.series("ca", 0, START + 61 * SECOND).times_ns == (START + SECOND, START + 2 * SECOND)


def test_only_what_was_asked_for_is_told() -> None:
    history = History(retention_seconds=60, interval_seconds=1)
    now = filled(history, 10)
    assert len(history.series("ca", now - 3 * SECOND, now).times_ns) == 4
    assert history.series("api", 0, now).columns == {}


def test_a_figure_that_was_not_known_is_none_and_not_zero() -> None:
    history = History(retention_seconds=60, interval_seconds=1)
    history.record({"ca.p99": 0.5}, START)
    history.record({"ca.p99": None, "ca.late": 1.0}, START + SECOND)
    history.record({}, START + 2 * SECOND)
    columns = history.series("ca", 0, START + 2 * SECOND).columns
    assert columns == {"p99": (0.5, None, None), "late": (None, 1.0, None)}


def test_an_overwritten_row_leaves_nothing_behind() -> None:
    history = History(retention_seconds=2, interval_seconds=1)
    history.record({"ca.p99": 0.5}, START)
    history.record({}, START + SECOND)
    history.record({}, START + 2 * SECOND)
    assert history.series("ca", 0, START + 2 * SECOND).columns == {"p99": (None, None)}


def test_a_long_retention_keeps_fewer_rows_further_apart() -> None:
    history = History(retention_seconds=604_800, interval_seconds=1)
    assert history.spacing_ns == 168 * SECOND
    now = START
    for second in range(2000):
        now = START + second * SECOND
        if history.due(now):
            history.record({"ca.score": 1.0}, now)
    times = history.series("ca", 0, now).times_ns
    assert 11 <= len(times) <= 14
    assert all(later - earlier >= 150 * SECOND for earlier, later in pairwise(times))
    assert 604_800 / (history.spacing_ns / SECOND) <= MAX_ROWS


def test_columns_are_bounded() -> None:
    history = History(retention_seconds=10, interval_seconds=1)
    history.record({f"c{number}.score": 1.0 for number in range(MAX_COLUMNS + 50)}, START)
    assert len(history.components) == MAX_COLUMNS


@pytest.mark.parametrize(("retention", "interval"), [(0, 1), (60, 0), (-1, 1)])
def test_impossible_settings_do_not_construct(retention: float, interval: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        History(retention, interval)


class TestAvailability:
    def test_it_is_the_share_of_time_spent_serving(self) -> None:
        availability = Availability(retention_seconds=3600)
        for second in range(101):
            availability.observe(not 50 <= second < 60, START + second * SECOND)
        assert availability.share == pytest.approx(0.9)

    def test_the_time_before_it_first_served_does_not_count(self) -> None:
        availability = Availability(retention_seconds=3600)
        for second in range(200):
            availability.observe(second >= 100, START + second * SECOND)
        assert availability.share == 1.0

    def test_it_is_not_known_within_the_first_minute(self) -> None:
        availability = Availability(retention_seconds=3600)
        assert not availability.has_served
        availability.observe(True, START)
        availability.observe(False, START + 59 * SECOND)
        assert availability.share is None
        assert availability.has_served

    def test_what_is_older_than_the_retention_is_forgotten(self) -> None:
        availability = Availability(retention_seconds=600)
        for second in range(0, 2000, 5):
            availability.observe(not 100 <= second < 200, START + second * SECOND)
        assert availability.share == 1.0
