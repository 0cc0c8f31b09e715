"""How the record grows, and when it fills the disk."""

import pytest

from services.ca.inventory.growth import LEAST_ROWS, Usage, growth

DAY = 86_400
TODAY = 20_000
NOON = TODAY * DAY + DAY // 2
MANY = Usage(rows=10_000, used=30_000_000, unused=0, disk_free=300_000_000)


def week(each: int) -> dict[int, int]:
    """The same number on each of the last seven days and half of it today."""
    return {TODAY - days: each for days in range(1, 8)} | {TODAY: each // 2}


def test_a_steady_stream_is_told_per_day_and_gives_the_day_of_a_full_disk() -> None:
    found = growth(MANY, week(1_000), TODAY - 99, 0, NOON)
    assert found.rows_per_day == pytest.approx(1_000)
    assert found.octets_per_day == pytest.approx(3_000_000)
    assert found.full_after == pytest.approx(100 * DAY)


def test_what_was_issued_more_than_a_week_ago_is_no_trend() -> None:
    found = growth(MANY, week(1_000) | {TODAY - 8: 10**6, TODAY - 20: 10**6}, TODAY - 20, 0, NOON)
    assert found.rows_per_day == pytest.approx(1_000)


def test_days_without_a_certificate_count_but_not_those_before_the_first() -> None:
    assert growth(MANY, {TODAY - 1: 7_500}, TODAY - 30, 0, NOON).rows_per_day == pytest.approx(1_000)
    assert growth(MANY, {TODAY - 1: 7_500}, TODAY - 1, 0, NOON).rows_per_day == pytest.approx(5_000)


def test_what_retention_deletes_is_subtracted_and_a_standing_record_never_fills_the_disk() -> None:
    assert growth(MANY, week(1_000), TODAY - 99, 400, NOON).rows_per_day == pytest.approx(600)
    standing = growth(MANY, week(1_000), TODAY - 99, 1_000, NOON)
    assert standing.rows_per_day == pytest.approx(0)
    assert standing.full_after is None
    shrinking = growth(MANY, week(1_000), TODAY - 99, 2_000, NOON)
    assert shrinking.octets_per_day < 0
    assert shrinking.full_after is None


def test_unused_pages_are_room() -> None:
    usage = Usage(rows=10_000, used=30_000_000, unused=30_000_000, disk_free=270_000_000)
    assert growth(usage, week(1_000), TODAY - 99, 0, NOON).full_after == pytest.approx(100 * DAY)


def test_a_full_disk_is_full_now() -> None:
    usage = Usage(rows=10_000, used=30_000_000, unused=0, disk_free=0)
    assert growth(usage, week(1_000), TODAY - 99, 0, NOON).full_after == 0.0


def test_the_first_day_and_the_first_rows_are_no_forecast() -> None:
    young = growth(MANY, {TODAY: 10_000}, TODAY, 0, NOON)
    assert (young.rows_per_day, young.full_after) == (10_000, None)
    few = Usage(rows=LEAST_ROWS - 1, used=100_000, unused=0, disk_free=1)
    assert growth(few, week(100), TODAY - 99, 0, NOON).full_after is None


@pytest.mark.parametrize(("rows", "issued"), [(0, {}), (10_000, {}), (0, {TODAY: 5}), (10_000, {TODAY - 9: 5})])
def test_where_nothing_is_issued_nothing_grows(rows: int, issued: dict[int, int]) -> None:
    found = growth(Usage(rows=rows, used=1, unused=0, disk_free=1), issued, TODAY - 9, 0, NOON)
    assert (found.rows_per_day, found.octets_per_day, found.full_after) == (0.0, 0.0, None)
