"""What is recorded stands in the cells, and goes on after a restart."""

import asyncio

import pytest

from monitoring import metrics as metrics_module
from monitoring.histogram import BUCKETS, bucket_of
from monitoring.layout import SLOT_STRIDE
from monitoring.metrics import (
    PROBE_RESULTS,
    WORKER_FAMILIES,
    Metrics,
    UnknownSeries,
    counter,
    gauge,
    histogram,
    operation,
)
from monitoring.slot import SlotMemory

FAMILIES = (
    *operation("trustchain_ca_requests", "Requests."),
    *operation("trustchain_ca_calls", "Calls.", labels={"method": ("issue", "get"), "peer": ("get", "issue")}),
    counter("trustchain_ca_sent_bytes_total", "Sent.", unit="bytes"),
    gauge("trustchain_ca_depth", "Depth.", labels={"queue": ("in", "out")}),
    histogram("trustchain_ca_size_bytes", "Sizes.", unit="bytes"),
)


class Refused(Exception):
    counts_as = "rejected"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics.in_memory((*WORKER_FAMILIES, *FAMILIES))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Time as a list of one number that the test sets."""
    now = [1_000]
    monkeypatch.setattr(metrics_module, "monotonic_ns", lambda: now[0])
    return now


def results(metrics: Metrics, name: str = "trustchain_ca_requests", **labels: str) -> dict[str, int]:
    found = {
        result: metrics.counter(f"{name}_total", **labels, result=result).value
        for result in ("ok", "rejected", "error")
    }
    return {result: count for result, count in found.items() if count}


def test_a_counter_counts(metrics: Metrics) -> None:
    sent = metrics.counter("trustchain_ca_sent_bytes_total")
    sent.inc()
    sent.inc(41)
    assert metrics.counter("trustchain_ca_sent_bytes_total").value == 42


def test_a_counter_never_goes_down(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="cannot go down"):
        metrics.counter("trustchain_ca_sent_bytes_total").inc(-1)
    assert metrics.counter("trustchain_ca_sent_bytes_total").value == 0


def test_a_counter_starts_again_past_the_largest_number(metrics: Metrics) -> None:
    sent = metrics.counter("trustchain_ca_sent_bytes_total")
    sent.inc(2**64 - 1)
    sent.inc(3)
    sent.inc()
    assert sent.value == 3


def test_a_gauge_goes_up_and_down_for_each_label_value(metrics: Metrics) -> None:
    depth = metrics.gauge("trustchain_ca_depth", queue="in")
    depth.set(2.5)
    depth.inc()
    depth.dec(3)
    assert depth.value == 0.5
    assert metrics.gauge("trustchain_ca_depth", queue="out").value == 0.0


def test_a_histogram_keeps_sum_and_buckets(metrics: Metrics) -> None:
    sizes = metrics.histogram("trustchain_ca_size_bytes")
    for size in (-5, 0, 15, 16, 2**45):
        sizes.record(size)
    assert sizes.value.sum == 31 + 2**45
    occupied = [bucket for bucket, count in enumerate(sizes.value.buckets) for _ in range(count)]
    assert occupied == [0, 0, 15, 16, BUCKETS - 1]


def test_an_operation_is_timed_and_counted(metrics: Metrics, clock: list[int]) -> None:
    with metrics.operation("trustchain_ca_requests"):
        clock[0] += 5_000_000
    assert results(metrics) == {"ok": 1}
    assert metrics.histogram("trustchain_ca_requests_seconds").value.sum == 5_000_000


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Refused("no"), "rejected"),
        (ValueError("no"), "error"),
        (asyncio.CancelledError(), "error"),
        (SystemExit(), "error"),
    ],
)
def test_an_exception_is_counted_timed_and_passed_on(
    metrics: Metrics, clock: list[int], error: BaseException, result: str
) -> None:
    def run() -> None:
        with metrics.operation("trustchain_ca_requests"):
            clock[0] += 7
            raise error

    with pytest.raises(type(error)):
        run()
    assert results(metrics) == {result: 1}
    assert metrics.histogram("trustchain_ca_requests_seconds").value.sum == 7


def test_the_result_can_be_told_without_an_exception(metrics: Metrics) -> None:
    with metrics.operation("trustchain_ca_requests") as timing:
        timing.result = "rejected"
    assert results(metrics) == {"rejected": 1}


def test_an_exception_outweighs_the_result_told_before(metrics: Metrics) -> None:
    def run() -> None:
        with metrics.operation("trustchain_ca_requests") as timing:
            timing.result = "rejected"
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run()
    assert results(metrics) == {"error": 1}


def test_labels_are_told_apart_in_whatever_order_they_are_given(metrics: Metrics) -> None:
    for _ in range(2):
        with metrics.operation("trustchain_ca_calls", method="issue", peer="get"):
            pass
        with metrics.operation("trustchain_ca_calls", peer="issue", method="get"):
            pass
        with metrics.operation("trustchain_ca_calls", peer="get", method="issue"):
            pass
    assert results(metrics, "trustchain_ca_calls", method="issue", peer="get") == {"ok": 4}
    assert results(metrics, "trustchain_ca_calls", method="get", peer="issue") == {"ok": 2}
    assert results(metrics, "trustchain_ca_calls", method="get", peer="get") == {}


def test_overlapping_operations_do_not_disturb_each_other(metrics: Metrics, clock: list[int]) -> None:
    async def run(ends: asyncio.Event, ended: asyncio.Event, elapsed_ns: int, error: Exception | None) -> None:
        try:
            with metrics.operation("trustchain_ca_requests"):
                await ends.wait()
                clock[0] = 1_000 + elapsed_ns
                if error is not None:
                    raise error
        finally:
            ended.set()

    async def overlapping() -> None:
        """Three runs that start together and end one after the other, the second first."""
        ends = [asyncio.Event() for _ in range(3)]
        ended = [asyncio.Event() for _ in range(3)]
        runs = [
            asyncio.create_task(run(ends[place], ended[place], elapsed_ns, error))
            for place, (elapsed_ns, error) in enumerate(((200, None), (100, Refused()), (300, ValueError())))
        ]
        for place in (1, 0, 2):
            await asyncio.sleep(0)
            ends[place].set()
            await ended[place].wait()
        await asyncio.gather(*runs, return_exceptions=True)

    asyncio.run(overlapping())
    assert results(metrics) == {"ok": 1, "rejected": 1, "error": 1}
    seconds = metrics.histogram("trustchain_ca_requests_seconds").value
    assert (seconds.sum, seconds.count) == (600, 3)
    assert all(seconds.buckets[bucket_of(elapsed_ns)] == 1 for elapsed_ns in (100, 200, 300))


def test_a_duration_measured_elsewhere_is_recorded(metrics: Metrics) -> None:
    metrics.bound_operation("trustchain_ca_requests").record(12, "error")
    assert results(metrics) == {"error": 1}
    assert metrics.histogram("trustchain_ca_requests_seconds").value.sum == 12


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda m: m.counter("trustchain_ca_sent_byte_total"), "did you mean trustchain_ca_sent_bytes_total"),
        (lambda m: m.gauge("trustchain_ca_sent_bytes_total"), "is a counter, not a gauge"),
        (lambda m: m.gauge("trustchain_ca_depth"), "has the labels: queue; given: none"),
        (lambda m: m.gauge("trustchain_ca_depth", queue="in", more="x"), "given: queue, more"),
        (lambda m: m.gauge("trustchain_ca_depth", queue="sideways"), "use one of in, out"),
        (lambda m: m.operation("trustchain_ca_depth"), "no metric trustchain_ca_depth_total"),
        (lambda m: m.operation("trustchain_ca_calls", method="issue"), "method, peer, result"),
    ],
)
def test_what_was_not_declared_is_refused_with_a_hint(metrics: Metrics, ask: object, hint: str) -> None:
    assert callable(ask)
    with pytest.raises(UnknownSeries, match=hint):
        ask(metrics)


def test_a_successor_goes_on_with_counters_and_histograms_and_starts_gauges_at_zero() -> None:
    memory = bytearray(SLOT_STRIDE)
    first = Metrics(SlotMemory(memory, generation=1), FAMILIES)
    assert not first.continued
    first.counter("trustchain_ca_sent_bytes_total").inc(5)
    first.gauge("trustchain_ca_depth", queue="in").set(5)
    first.histogram("trustchain_ca_size_bytes").record(5)
    second = Metrics(SlotMemory(memory, generation=2), FAMILIES)
    assert second.continued
    second.counter("trustchain_ca_sent_bytes_total").inc(2)
    second.histogram("trustchain_ca_size_bytes").record(2)
    assert second.counter("trustchain_ca_sent_bytes_total").value == 7
    assert second.gauge("trustchain_ca_depth", queue="in").value == 0
    assert (
        second.histogram("trustchain_ca_size_bytes").value.sum,
        second.histogram("trustchain_ca_size_bytes").value.count,
    ) == (7, 2)


def test_a_successor_with_other_metrics_starts_at_zero() -> None:
    memory = bytearray(SLOT_STRIDE)
    Metrics(SlotMemory(memory, generation=1), FAMILIES).counter("trustchain_ca_sent_bytes_total").inc(5)
    second = Metrics(SlotMemory(memory, generation=2), (*FAMILIES, gauge("trustchain_ca_more", "More.")))
    assert not second.continued
    assert second.counter("trustchain_ca_sent_bytes_total").value == 0


def test_every_worker_declares_how_its_probes_ended() -> None:
    metrics = Metrics.in_memory(WORKER_FAMILIES)
    for result in PROBE_RESULTS:
        metrics.counter("trustchain_worker_probes_total", result=result).inc()
    metrics.histogram("trustchain_worker_probe_seconds").record(1)
    metrics.histogram("trustchain_worker_event_loop_lag_seconds").record(1)
