"""What one whole tick of the monitoring worker costs, and one scrape: 8 workers of 256 series, 32 of them histograms.

    python -m tests.bench.bench_monitoring_tick

A tick is MonitoringSystem.tick: read the block, decode, judge health, follow alerts, publish the board, keep a row of
history. bench_tick takes its reading side apart; the survey of the host runs in a thread and is shown beside it.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from config.loader import load
from monitoring.block import Block, BlockReader, BoardWriter, ProbeState, SlotWriter
from monitoring.export import MetricsExporter
from monitoring.metrics import WORKER_FAMILIES, Metrics, operation
from monitoring.processes import Survey
from monitoring.system import Build, MonitoringSystem
from tests.bench.bench_tick import FAMILIES, SHARES, TICKS, record

SERVICES = ("monitoring", "ca", "api", "api", "extra", "extra", "extra", "extra")


def timed(work: Callable[[], object], between: Callable[[int], object], rounds: int = TICKS) -> str:
    """Median and 99th percentile of `work`, in milliseconds."""
    taken = []
    for number in range(rounds):
        between(number)
        started = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - started) / 1e6)
    return f"{statistics.median(taken):6.2f} ({sorted(taken)[-(1 + rounds // 100)]:.2f})"


def run(write: Callable[[str], object]) -> None:
    """Create a block with all workers in it, measure, print, remove it."""
    with ExitStack() as stack:
        data_dir = stack.enter_context(TemporaryDirectory())
        block = stack.enter_context(closing(Block.create(f"trustchain-bench-{os.getpid()}")))
        writers: list[SlotWriter] = []
        workers: list[Metrics] = []
        for slot, service in enumerate(SERVICES):
            block.assign(slot, service, slot)
            block.record_start(slot, os.getpid(), 1, time.monotonic_ns())
            block.record_state(slot, "ready", 0)
            writers.append(stack.enter_context(closing(SlotWriter.attach(block.name, slot, 1))))
            own = operation(f"trustchain_{service}_requests", "Requests")
            workers.append(Metrics(writers[-1], (*WORKER_FAMILIES, *own, *FAMILIES)))
        reader = stack.enter_context(closing(BlockReader.open(block.name)))
        board = stack.enter_context(closing(BoardWriter.attach(block.name)))
        settings = load(None, "development", Path(data_dir), ["monitoring.collection_interval=0.05"]).settings
        system = MonitoringSystem(settings, Build("bench", "3"), reader.read, board.publish)
        survey = Survey(data_dir)
        system.observe(survey.take((os.getpid(),), deep=True))

        def live(every: int, tick: int) -> None:
            now = time.monotonic_ns()
            for writer, metrics, service in zip(writers, workers, SERVICES, strict=True):
                writer.beat(now)
                writer.probe(ProbeState.PASS, now)
                if every:
                    metrics.bound_operation(f"trustchain_{service}_requests").record(2_000_000, "ok")
            record(workers, every, tick)

        write("ms, median (99 %)\n")
        for title, every in SHARES.items():
            write(f"  whole tick, {title:<22}{timed(system.tick, partial(live, every))}\n")
        exporter = MetricsExporter()
        for name in exporter.formats:
            scrape = partial(lambda chosen: exporter.export(system.exposition(), chosen), name)
            write(f"  scrape as {name:<24}{timed(scrape, partial(live, 8), 30)}\n")
        for title, deep in {"survey, one process": False, "survey with PSS": True}.items():
            write(f"  {title:<32}{timed(partial(survey.take, (os.getpid(),), deep=deep), lambda _: None, 30)}\n")


if __name__ == "__main__":
    run(sys.stdout.write)
