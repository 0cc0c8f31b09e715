"""Buckets at their edges, quantiles, sums and the classic ladder."""

import pytest

from monitoring.histogram import BUCKETS, EMPTY, LADDERS, LOWER_BOUNDS, HistogramValue, bucket_of, lower_bound, scale_of


def of(*values: int) -> HistogramValue:
    buckets = [0] * BUCKETS
    for value in values:
        buckets[bucket_of(value)] += 1
    return HistogramValue(float(sum(values)), tuple(buckets))


def test_the_range_covers_one_ns_to_seventy_minutes() -> None:
    assert bucket_of(1) == 1
    assert bucket_of(70 * 60 * 10**9) < BUCKETS
    assert LOWER_BOUNDS[BUCKETS] == 2**42 > 70 * 60 * 10**9


@pytest.mark.parametrize("bucket", range(BUCKETS))
def test_each_bucket_counts_exactly_what_lies_between_its_bounds(bucket: int) -> None:
    low, high = LOWER_BOUNDS[bucket], LOWER_BOUNDS[bucket + 1]
    assert lower_bound(bucket) == low
    assert (bucket_of(low), bucket_of(high - 1)) == (bucket, bucket)
    assert high - low <= max(1, low / 8)


@pytest.mark.parametrize(
    ("value", "bucket"), [(-(10**12), 0), (-1, 0), (0, 0), (15, 15), (16, 16), (2**42, 319), (2**70, 319)]
)
def test_values_outside_of_the_range_are_clamped(value: int, bucket: int) -> None:
    assert bucket_of(value) == bucket


def test_an_empty_histogram_has_no_quantile() -> None:
    assert EMPTY.count == 0
    assert EMPTY.quantile(0.5) is None


def test_quantiles_of_a_known_distribution() -> None:
    value = of(*range(1000, 101_000, 1000))
    for q in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert value.quantile(q) == pytest.approx(q * 100_000, rel=0.125)


def test_the_quantile_interpolates_inside_the_bucket() -> None:
    value = HistogramValue(0.0, tuple(10 if bucket == bucket_of(1024) else 0 for bucket in range(BUCKETS)))
    assert value.quantile(0.5) == 1024 + 64
    assert value.quantile(1.0) == 1024 + 128
    assert value.quantile(0.0) == pytest.approx(1024)


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_quantile_outside_of_the_unit_interval_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        EMPTY.quantile(q)


def test_what_was_recorded_since_an_earlier_moment() -> None:
    assert of(10, 20, 3000).since(of(20)) == of(10, 3000)
    assert of(10).since(of(10)) == EMPTY


def test_a_reset_in_between_counts_from_zero() -> None:
    assert of(5).since(of(10, 20)) == of(5)
    assert of(5, 9000).since(of(7)) == of(5, 9000)


def test_all_parts_together() -> None:
    parts = [of(1, 2), of(2, 2**50), EMPTY]
    assert HistogramValue.total(parts) == of(1, 2, 2, 2**50)
    assert of(1).merged(of(2)) == of(1, 2)


@pytest.mark.parametrize("unit", ["seconds", "bytes", ""])
def test_the_classic_ladder_rises_and_never_counts_too_much(unit: str) -> None:
    values = [0, 1, 64, 1000, 25_000, 1_048_576, 10**9, 10**12, 2**50]
    cumulative = of(*values).classic(unit)
    assert [le for le, _ in cumulative] == sorted({le for le, _ in cumulative})
    counts = [count for _, count in cumulative]
    assert counts == sorted(counts)
    for le, count in cumulative:
        bound = le / scale_of(unit)
        assert count <= sum(value <= bound for value in values)
        assert count >= sum(value * 1.125 <= bound for value in values)


def test_the_ladders_are_the_documented_ones() -> None:
    assert LADDERS["seconds"][0] == 0.00001
    assert LADDERS["seconds"][-1] == 60.0
    assert LADDERS["bytes"] == tuple(4.0**power for power in range(3, 16))


def test_only_seconds_are_scaled() -> None:
    assert (scale_of("seconds"), scale_of("bytes"), scale_of("")) == (1e-9, 1.0, 1.0)
