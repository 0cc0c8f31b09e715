"""Histograms of any values: nothing is lost, merging is adding, quantiles are as exact as the bucket width."""

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.histogram import BUCKETS, EMPTY, LOWER_BOUNDS, HistogramValue, bucket_of
from monitoring.metrics import Metrics, histogram

VALUES = st.lists(st.integers(-(2**20), 2**43) | st.integers(0, 200), max_size=60)
IN_RANGE = st.lists(st.integers(0, 2**42 - 1) | st.integers(0, 200), min_size=1, max_size=60)
FAMILIES = (histogram("trustchain_property_wait_seconds", "Waits."),)


def recorded(values: list[int]) -> HistogramValue:
    cell = Metrics.in_memory(FAMILIES).histogram("trustchain_property_wait_seconds")
    for value in values:
        cell.record(value)
    return cell.value


def counted(values: list[int]) -> tuple[int, ...]:
    buckets = [0] * BUCKETS
    for value in values:
        buckets[bucket_of(value)] += 1
    return tuple(buckets)


@given(st.integers(0, 2**42 - 1))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    bucket = bucket_of(value)
    assert LOWER_BOUNDS[bucket] <= value < LOWER_BOUNDS[bucket + 1]


@given(VALUES)
@settings(deadline=None)
def test_recording_uses_the_same_buckets_and_an_exact_sum(values: list[int]) -> None:
    assert recorded(values) == HistogramValue(float(sum(max(value, 0) for value in values)), counted(values))


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=50)
def test_merging_is_recording_both(left: list[int], right: list[int]) -> None:
    both = recorded(left + right)
    assert recorded(left).merged(recorded(right)) == both
    assert HistogramValue.total([recorded(left), recorded(right)]) == both
    assert both.since(recorded(left)) == recorded(right)


@given(IN_RANGE, st.floats(0.0, 1.0))
@settings(deadline=None)
def test_a_quantile_is_within_one_bucket_of_the_true_one(values: list[int], q: float) -> None:
    found = HistogramValue(0.0, counted(values)).quantile(q)
    ordered = sorted(values)
    rank = max(1, -int(-(q * len(values)) // 1))
    bucket = bucket_of(ordered[rank - 1])
    assert found is not None
    assert LOWER_BOUNDS[bucket] <= found <= LOWER_BOUNDS[bucket + 1]


@given(IN_RANGE)
def test_quantiles_rise(values: list[int]) -> None:
    value = HistogramValue(0.0, counted(values))
    found = [value.quantile(q / 20) or 0.0 for q in range(21)]
    assert found == sorted(found)


def test_nothing_merged_with_nothing_is_nothing() -> None:
    assert EMPTY.merged(EMPTY) == EMPTY
