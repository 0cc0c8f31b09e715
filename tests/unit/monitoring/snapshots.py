"""Snapshots as the tests need them: a whole tree that is well, with what is not well said in arguments."""

from dataclasses import replace
from typing import Any

import msgspec

from config.schema import Server, Settings
from monitoring.facts import Disk, Facts, ProcessStats
from monitoring.histogram import EMPTY, HistogramValue
from monitoring.layout import ProbeState
from monitoring.metrics import Metrics, histogram
from monitoring.snapshot import Series, SlotSnapshot, Snapshot

SECOND = 1_000_000_000
START = 1000 * SECOND
GIB = 1 << 30
SERVICES = ("monitoring", "ct", "ca", "api")
SETTINGS = Settings(server=Server(data_dir="/data", runtime_dir="/run/trustchain"))


def monitoring_settings(**changed: Any) -> Settings:
    """Settings with some of `[monitoring]` changed."""
    return msgspec.structs.replace(SETTINGS, monitoring=msgspec.structs.replace(SETTINGS.monitoring, **changed))


def slot(service: str, now: int, **changed: Any) -> SlotSnapshot:
    """A worker that is well at `now`."""
    number = SERVICES.index(service) if service in SERVICES else 9
    well = SlotSnapshot(
        slot=number,
        service=service,
        index=0,
        pid=100 + number,
        generation=1,
        state="ready",
        started_ns=START - 60 * SECOND,
        restarts=0,
        heartbeat_ns=now,
        probe_state=ProbeState.PASS,
        probe_ns=now,
        note="",
        table_generation=1,
        series=(),
        families=(),
        damaged=False,
    )
    return replace(well, **changed)


def tree(now: int, *others: SlotSnapshot, without: tuple[str, ...] = ()) -> Snapshot:
    """All services well at `now`, except that `others` take the place of theirs."""
    told = {other.service for other in others} | set(without)
    slots = (*(slot(service, now) for service in SERVICES if service not in told), *others)
    return Snapshot(now, 99, START - 60 * SECOND, 0, slots, None)


def requests(
    service: str, ok: int = 0, rejected: int = 0, error: int = 0, took: HistogramValue = EMPTY
) -> tuple[Series, ...]:
    """The series of a service's main operation."""
    name = f"trustchain_{service}_requests"
    counts = {"ok": ok, "rejected": rejected, "error": error}
    totals = (Series(f"{name}_total", "counter", "", "", (("result", key),), value) for key, value in counts.items())
    return (*totals, Series(f"{name}_seconds", "histogram", "seconds", "", (), took))


def durations(milliseconds: float, count: int) -> HistogramValue:
    """A histogram of `count` equal durations."""
    recorded = Metrics.in_memory((histogram("trustchain_test_seconds", "Test."),)).histogram("trustchain_test_seconds")
    for _ in range(count):
        recorded.record(round(milliseconds * 1e6))
    return recorded.value


def facts(now: int, free: int = 50 * GIB, memory: int = 50_000_000, **changed: Any) -> Facts:
    """A host with room, on which every worker takes `memory` bytes."""
    stats = ProcessStats(memory, 1.5, 20, 2, memory // 2)
    found = Facts(
        now,
        dict.fromkeys(range(99, 110), stats),
        Disk("/data", free, 100 * GIB, 900_000, 1_000_000),
        Disk("/dev/shm", GIB, 2 * GIB),
    )
    return replace(found, **changed)
