"""The JSON documents that monitoring serves, as plain dictionaries with a fixed order of keys (pure).

Rules: times are ISO 8601 in UTC, durations seconds, sizes bytes; a figure that is not known is null. No secret can
appear: the only texts that are not written here are the issues, and the notes of the workers' probes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Any

from monitoring.alerts import Alert
from monitoring.component_health import ComponentHealth
from monitoring.health import HealthStatus
from monitoring.history import Series
from monitoring.layout import SlotVerdict
from monitoring.scoring import SECOND, HealthState
from monitoring.window import Traffic
from monitoring.worker_health import WorkerHealth

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks, so that monotonic times can be shown on the wall clock."""

    monotonic_ns: int
    unix_time: float

    def iso(self, monotonic_ns: int) -> str:
        """Return a monotonic time as ISO 8601, to the millisecond."""
        unix = self.unix_time - (self.monotonic_ns - monotonic_ns) / SECOND
        return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def health(status: HealthStatus, alerts: tuple[Alert, ...], moment: Moment, version: str, uptime: float) -> Document:
    """Return the document of `/health`."""
    return {
        "status": status.state,
        "is_healthy": status.state is HealthState.HEALTHY,
        "health_score": rounded(status.score),
        "components": {each.name: component(each, status.verdicts) for each in status.components.values()},
        "issues": list(status.issues),
        "last_check": moment.iso(status.checked_ns),
        "version": version,
        "uptime_seconds": round(uptime, 3),
        "alerts": [alert_document(alert, moment) for alert in alerts],
    }


def component(found: ComponentHealth, verdicts: Mapping[int, SlotVerdict]) -> Document:
    """Return one entry of `components`."""
    document: Document = {
        "status": found.state,
        "score": rounded(found.score),
        "required": found.required,
        "issues": list(found.issues),
        "losses": {loss.factor: round(loss.amount, 4) for loss in found.losses if loss.amount},
    }
    if found.workers:
        document["traffic"] = _traffic(found.traffic)
        document["workers"] = [_worker(worker, verdicts.get(worker.slot.slot)) for worker in found.workers]
    return document


def readiness(status: HealthStatus) -> Document:
    """Return the document of `/health/ready`."""
    required = {name: each for name, each in status.components.items() if each.workers and each.required}
    return {"ready": status.ready, "waiting_for": [name for name, each in required.items() if not each.ready]}


def alert_document(alert: Alert, moment: Moment) -> Document:
    """Return one alert."""
    document: Document = {
        "name": alert.name,
        "severity": alert.severity,
        "component": alert.component,
        "since": moment.iso(alert.since_ns),
        "value": round(alert.value, 6),
        "threshold": alert.threshold,
        "unit": alert.unit,
        "summary": alert.summary,
        "evidence": dict(alert.evidence),
    }
    if alert.resolved_ns is not None:
        document["resolved"] = moment.iso(alert.resolved_ns)
    return document


def history(name: str, series: Series, spacing_ns: int, moment: Moment) -> Document:
    """Return the document of `/history`."""
    return {
        "component": name,
        "interval_seconds": spacing_ns / SECOND,
        "times": [moment.iso(time) for time in series.times_ns],
        "series": {figure: [_digits(value) for value in values] for figure, values in series.columns.items()},
    }


def rounded(score: float) -> float:
    """Return a score with four digits, rounded down so that it never shows a better state than it stands for."""
    return floor(score * 10_000 + 1e-6) / 10_000


def _traffic(traffic: Traffic) -> Document:
    quantiles = {f"p{percent}_seconds": traffic.duration(percent / 100) for percent in (50, 95, 99)}
    return {
        "window_seconds": round(traffic.seconds, 3),
        "requests": traffic.requests,
        "requests_per_second": _digits(traffic.per_second),
        "success_rate": _digits(traffic.success_rate),
        "error_rate": _digits(traffic.error_rate),
        **{name: _digits(value) for name, value in quantiles.items()},
    }


def _worker(worker: WorkerHealth, verdict: SlotVerdict | None) -> Document:
    slot, process = worker.slot, worker.process
    return {
        "index": slot.index,
        "pid": slot.pid,
        "state": slot.state,
        "generation": slot.generation,
        "restarts": slot.restarts,
        "heartbeat_age_seconds": _seconds(worker.heartbeat_age),
        "probe": slot.probe_state.name.lower(),
        "probe_age_seconds": _seconds(worker.probe_age),
        "probe_note": slot.note,
        "verdict": verdict.verdict.name.lower() if verdict else "unknown",
        "resident_bytes": process.resident_bytes if process else None,
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else round(ns / SECOND, 3)


def _digits(value: float | None) -> float | None:
    return None if value is None else round(value, 9)
