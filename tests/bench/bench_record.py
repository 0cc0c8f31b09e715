"""What recording one value costs, beside prometheus_client in its multiprocess mode, in the same run.

    python -m tests.bench.bench_record

Both store into files that other processes read: ours into the metrics block in /dev/shm, prometheus_client into its
mmap files, put into /dev/shm as well. Whatever records is bound once, outside the loop, in both. Times are the best of
many short rounds, minus that of the empty loop. Histograms get waits from 15 µs to 2.5 s in turn.
"""

import os
import sys
import tempfile
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from monitoring.block import Block, SlotWriter
from monitoring.metrics import Metrics, counter, gauge, histogram, operation

ROUNDS = 50
CALLS = 4_000
WAITS_NS = (15_000, 240_000, 1_900_000, 7_000_000, 31_000_000, 90_000_000, 420_000_000, 2_500_000_000)
FAMILIES = (
    counter("trustchain_bench_events_total", "Events."),
    gauge("trustchain_bench_depth", "Depth."),
    histogram("trustchain_bench_wait_seconds", "Waits."),
    *operation("trustchain_bench_requests", "Requests"),
    *operation("trustchain_bench_calls", "Calls", labels={"method": ("issue", "get")}),
)


@dataclass(frozen=True)
class Pair:
    """The same act in both libraries, `times` over, as statements to be timed; and what is not part of the act."""

    what: str
    ours: timeit.Timer
    peer: timeit.Timer
    overhead: timeit.Timer
    times: int


def pairs(metrics: Metrics, peer: ModuleType) -> list[Pair]:
    """What is measured. `peer` is prometheus_client, imported in multiprocess mode."""
    registry = peer.CollectorRegistry()
    served = peer.Counter("served", "Served.", ["result"], registry=registry)
    peer_wait = peer.Histogram("wait", "Waits.", registry=registry)
    names = {
        "metrics": metrics,
        "waits_ns": WAITS_NS,
        "waits_s": [wait / 1e9 for wait in WAITS_NS],
        "inc": metrics.counter("trustchain_bench_events_total").inc,
        "set": metrics.gauge("trustchain_bench_depth").set,
        "record": metrics.histogram("trustchain_bench_wait_seconds").record,
        "peer_inc": peer.Counter("events", "Events.", registry=registry).inc,
        "peer_set": peer.Gauge("depth", "Depth.", registry=registry).set,
        "peer_observe": peer_wait.observe,
        "peer_wait": peer_wait,
        "peer_served": served.labels("ok"),
    }

    def pair(what: str, ours: str, theirs: str, overhead: str = "pass", times: int = 1) -> Pair:
        ours_timer, peer_timer, rest = (
            timeit.Timer(statement, globals=names) for statement in (ours, theirs, overhead)
        )
        return Pair(what, ours_timer, peer_timer, rest, times)

    timed = "with peer_wait.time(): peer_served.inc()"
    return [
        pair("counter.inc", "inc()", "peer_inc()"),
        pair("gauge.set", "set(3.5)", "peer_set(3.5)"),
        pair(
            "histogram.record",
            "for value in waits_ns: record(value)",
            "for value in waits_s: peer_observe(value)",
            "for value in waits_ns: pass",
            len(WAITS_NS),
        ),
        pair("operation", 'with metrics.operation("trustchain_bench_requests"): pass', timed),
        pair("operation, one label", 'with metrics.operation("trustchain_bench_calls", method="get"): pass', timed),
    ]


def best(timers: list[timeit.Timer]) -> list[float]:
    """Ns per call of each timer. They take turns, so that a busy moment of the machine hits all of them alike."""
    fastest = [float("inf")] * len(timers)
    for _ in range(ROUNDS):
        for place, timer in enumerate(timers):
            fastest[place] = min(fastest[place], timer.timeit(CALLS) / CALLS * 1e9)
    return fastest


def table(measured: list[Pair]) -> str:
    """Measure, and describe the result for reading."""
    costs = best([timer for pair in measured for timer in (pair.ours, pair.peer, pair.overhead)])
    lines = [f"{'ns per call':<28}{'trustchain':>12}{'prometheus_client mp':>24}{'ratio':>9}"]
    for pair, ours, peer, overhead in zip(measured, costs[::3], costs[1::3], costs[2::3], strict=True):
        ours_each, peer_each = (ours - overhead) / pair.times, (peer - overhead) / pair.times
        lines.append(f"{pair.what:<28}{ours_each:>12.0f}{peer_each:>24.0f}{peer_each / ours_each:>8.1f}x")
    return "\n".join(lines) + "\n"


def run(write: Callable[[str], object]) -> None:
    """Create a block and a directory for the peer, measure, print, remove both."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        # prometheus_client chooses its mode when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        import prometheus_client  # noqa: PLC0415 - see above

        block = Block.create(f"trustchain-bench-{os.getpid()}", slots=1)
        writer = SlotWriter.attach(block.name, slot=0, generation=1)
        try:
            write(table(pairs(Metrics(writer, FAMILIES), prometheus_client)))
        finally:
            writer.close()
            block.close()


if __name__ == "__main__":
    run(sys.stdout.write)
