"""Everything the exporters tell: the families of the workers, and what monitoring itself knows about them (pure).

Rules: a name appears once; where a worker declares a name of monitoring's own, monitoring's counts. Figures about a
process carry `service` and `index`. Families of the workers are already merged over the workers of a service.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from monitoring.export import Exposition, percentile_family
from monitoring.facts import Facts
from monitoring.families import Kind, Labels
from monitoring.health import HealthStatus
from monitoring.scoring import SECOND
from monitoring.snapshot import MergedFamily, Series
from monitoring.worker_health import WorkerHealth

OVERALL: Final = "overall"
_Samples = Iterable[tuple[Labels, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What monitoring knows at one moment: `families` are the workers', `alerts` counts firing ones by severity."""

    unix_time: float
    version: str
    python: str
    uptime_seconds: float
    status: HealthStatus
    families: tuple[MergedFamily, ...] = ()
    facts: Facts | None = None
    supervisor_pid: int = 0
    alerts: Mapping[str, int] = field(default_factory=dict)
    availability: Mapping[str, float | None] = field(default_factory=dict)


def exposition(known: Knowledge) -> Exposition:
    """Return all families, sorted by name."""
    by_name = {family.name: family for family in known.families}
    own = (*_about_system(known), *_about_workers(known.status), *_about_processes(known), *_about_disks(known))
    by_name |= {family.name: family for family in own}
    percentiles = [percentile_family(family) for family in by_name.values() if family.kind == "histogram"]
    by_name |= {family.name: family for family in percentiles if family is not None}
    return Exposition(known.unix_time, known.version, tuple(by_name[name] for name in sorted(by_name)))


def _about_system(known: Knowledge) -> Iterable[MergedFamily]:
    build = (("version", known.version), ("python_version", known.python))
    yield _gauge("trustchain_build_info", "Version of TrustChain and of Python; always 1.", [(build, 1)])
    uptime = [((), round(known.uptime_seconds, 3))]
    yield _gauge("trustchain_uptime_seconds", "Time since the supervisor created the metrics block.", uptime, "seconds")
    scores = [(OVERALL, known.status.score), *((c.name, c.score) for c in known.status.components.values())]
    yield _gauge(
        "trustchain_health_score",
        "Health from 0.0 to 1.0 of each component, and of all together as component 'overall'.",
        [((("component", name),), round(score, 4)) for name, score in scores],
    )
    yield _gauge(
        "trustchain_availability_ratio",
        "Share of the retained time during which the component served.",
        [((("component", name),), share) for name, share in known.availability.items()],
        "ratio",
    )
    counts = [((("severity", each),), known.alerts.get(each, 0)) for each in ("critical", "warning")]
    yield _gauge("trustchain_alerts_firing", "Alerts that fire now, by severity.", counts)


def _about_workers(status: HealthStatus) -> Iterable[MergedFamily]:
    workers = _workers(status)
    yield _gauge(
        "trustchain_worker_up",
        "Whether the worker is ready (1) or not (0).",
        [(_labels(worker), int(worker.ready)) for worker in workers],
    )
    yield _family(
        "counter",
        "trustchain_worker_restarts_total",
        "Restarts of the worker since the metrics block was created.",
        [(_labels(worker), worker.slot.restarts) for worker in workers],
    )
    yield _gauge(
        "trustchain_worker_heartbeat_age_seconds",
        "Time since the worker's event loop last reported.",
        [(_labels(worker), _seconds(worker.heartbeat_age)) for worker in workers],
        "seconds",
    )


def _about_processes(known: Knowledge) -> Iterable[MergedFamily]:
    processes = [(_labels(worker), worker.process) for worker in _workers(known.status) if worker.process is not None]
    if known.facts is not None and known.supervisor_pid in known.facts.processes:
        labels = (("service", "supervisor"), ("index", "0"))
        processes.insert(0, (labels, known.facts.processes[known.supervisor_pid]))
    yield _gauge(
        "trustchain_process_resident_memory_bytes",
        "Resident memory of the process.",
        [(labels, process.resident_bytes) for labels, process in processes],
        "bytes",
    )
    yield _gauge(
        "trustchain_process_proportional_memory_bytes",
        "Resident memory of the process, with shared pages divided by the processes that share them.",
        [(labels, process.proportional_bytes) for labels, process in processes],
        "bytes",
    )
    yield _family(
        "counter",
        "trustchain_process_cpu_seconds_total",
        "Processor time that the process has used.",
        [(labels, process.cpu_seconds) for labels, process in processes],
        "seconds",
    )
    fds = [(labels, process.open_fds) for labels, process in processes]
    yield _gauge("trustchain_process_open_fds", "Open file descriptors of the process.", fds)
    threads = [(labels, process.threads) for labels, process in processes]
    yield _gauge("trustchain_process_threads", "Threads of the process.", threads)


def _about_disks(known: Knowledge) -> Iterable[MergedFamily]:
    if known.facts is None:
        return
    areas = {"data": known.facts.data, "shared_memory": known.facts.shared_memory}
    disks = [(name, disk) for name, disk in areas.items() if disk.total]
    free: _Samples = [((("area", name),), disk.free) for name, disk in disks]
    yield _gauge("trustchain_storage_free_bytes", "Free space of the file system.", free, "bytes")
    size: _Samples = [((("area", name),), disk.total) for name, disk in disks]
    yield _gauge("trustchain_storage_size_bytes", "Size of the file system.", size, "bytes")


def _workers(status: HealthStatus) -> list[WorkerHealth]:
    return [worker for component in status.components.values() for worker in component.workers]


def _labels(worker: WorkerHealth) -> Labels:
    return (("service", worker.slot.service), ("index", str(worker.slot.index)))


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else round(ns / SECOND, 3)


def _gauge(name: str, told: str, samples: _Samples, unit: str = "") -> MergedFamily:
    return _family("gauge", name, told, samples, unit)


def _family(kind: Kind, name: str, told: str, samples: _Samples, unit: str = "") -> MergedFamily:
    series = [Series(name, kind, unit, told, labels, value) for labels, value in samples if value is not None]
    return MergedFamily(name, kind, unit, told, tuple(series))
