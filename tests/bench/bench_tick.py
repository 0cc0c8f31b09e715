"""What one look of the monitoring worker at the block costs: 8 workers with 256 series each, 32 of them histograms.

    python -m tests.bench.bench_tick

Stages are run one after the other, each on what the one before returned, and the CPU time of each is taken, so that a
busy machine does not spoil the figures. Whatever else the monitoring worker does is measured by adding a stage.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitoring.block import Block, BlockReader, SlotWriter
from monitoring.metrics import Metrics, counter, gauge, histogram
from monitoring.snapshot import Aggregator, Decoder

WORKERS = 8
TICKS = 200
SHARES = {"idle": 0, "one in eight changes": 8, "every series changes": 1}
"""Every how many-th series is recorded between two ticks; 0: none."""

KINDS = tuple(f"kind{number:02}" for number in range(32))
COUNTS = ("accepted", "closed", "denied", "expired", "failed", "granted")
FAMILIES = (
    histogram("trustchain_bench_wait_seconds", "Waits.", labels={"kind": KINDS}),
    gauge("trustchain_bench_depth", "Depths.", labels={"kind": KINDS}),
    *(counter(f"trustchain_bench_{name}_total", "Counts.", labels={"kind": KINDS}) for name in COUNTS),
)


@dataclass(frozen=True)
class Stage:
    """One step of a tick: its name, and what it makes of the result of the step before."""

    name: str
    run: Callable[[Any], Any]


def stages(reader: BlockReader) -> list[Stage]:
    """The steps of one tick, in order."""
    decoder = Decoder()
    return [
        Stage("read", lambda _: reader.read()),
        Stage("decode", decoder.decode),
        Stage("aggregate", Aggregator().aggregate),
    ]


def record(workers: list[Metrics], every: int, tick: int) -> None:
    """Let every `every`-th series of each worker change."""
    for metrics in workers:
        for number, kind in enumerate(KINDS):
            if every and number % every == tick % every:
                metrics.histogram("trustchain_bench_wait_seconds", kind=kind).record(1000 << (tick + number) % 20)
                metrics.gauge("trustchain_bench_depth", kind=kind).set(tick)
                for name in COUNTS:
                    metrics.counter(f"trustchain_bench_{name}_total", kind=kind).inc()


def measure(steps: list[Stage], workers: list[Metrics], every: int) -> dict[str, list[float]]:
    """Milliseconds of each stage, and of all of them, tick by tick."""
    taken: dict[str, list[float]] = {name: [] for name in (*(stage.name for stage in steps), "whole tick")}
    for tick in range(TICKS):
        record(workers, every, tick)
        result: Any = None
        begun = time.thread_time_ns()
        for stage in steps:
            started = time.thread_time_ns()
            result = stage.run(result)
            taken[stage.name].append((time.thread_time_ns() - started) / 1e6)
        taken["whole tick"].append((time.thread_time_ns() - begun) / 1e6)
    return taken


def table(steps: list[Stage], workers: list[Metrics]) -> str:
    """Measure, and describe the result for reading."""
    names = [stage.name for stage in steps] + ["whole tick"]
    lines = [f"{'ms, median (99 %)':<24}" + "".join(f"{name:>18}" for name in names)]
    for title, every in SHARES.items():
        taken = measure(steps, workers, every)
        figures = (f"{statistics.median(taken[name]):.2f} ({sorted(taken[name])[-2]:.2f})" for name in names)
        lines.append(f"{title:<24}" + "".join(f"{figure:>18}" for figure in figures))
    return "\n".join(lines) + "\n"


def run(write: Callable[[str], object]) -> None:
    """Create a block with all workers in it, measure, print, remove it."""
    block = Block.create(f"trustchain-bench-{os.getpid()}")
    writers, workers = [], []
    try:
        for slot in range(WORKERS):
            block.assign(slot, "bench", slot)
            block.record_start(slot, pid=os.getpid(), generation=1, now_ns=time.monotonic_ns())
            block.record_state(slot, "ready", restarts=0)
            writers.append(SlotWriter.attach(block.name, slot, generation=1))
            workers.append(Metrics(writers[-1], FAMILIES))
        reader = BlockReader.open(block.name)
        write(table(stages(reader), workers))
        reader.close()
    finally:
        for writer in writers:
            writer.close()
        block.close()


if __name__ == "__main__":
    run(sys.stdout.write)
