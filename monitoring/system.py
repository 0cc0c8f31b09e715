"""MonitoringSystem: one reading of the block becomes a snapshot, health, alerts, history, and verdicts.

Rules:
- It does no I/O of its own: reading the block, publishing the board and both clocks are given to it; surveys of the
  host are handed in. So it runs in a test, or in another program, without a process around it.
- One evaluation reads, judges and publishes in a few milliseconds and never waits: whoever asks while the last one is
  younger than `FRESH_NS` gets that one.
- A block that cannot be read is a finding, not an error: everything is critical until it can be read again.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from config.schema import Settings
from monitoring import report
from monitoring.alerts import Alerts, Changes, Reading, readings
from monitoring.export import Exposition
from monitoring.exposition import OVERALL, Knowledge, exposition
from monitoring.facts import Facts
from monitoring.health import HealthCheck, HealthStatus
from monitoring.history import Availability, History
from monitoring.layout import BlockError, Board, RawBlock
from monitoring.report import Document, Moment
from monitoring.scoring import SECOND, HealthState
from monitoring.snapshot import Aggregator, Decoder, Snapshot

FRESH_NS: Final = SECOND // 4
QUICK_NS: Final = SECOND // 5
QUICK_FOR_NS: Final = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic nanoseconds, which everything is judged by, and unix seconds, which are only shown."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    unix_time: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Build:
    """What runs: versions and host, for `/info`."""

    version: str
    python: str
    host: str = ""


class MonitoringSystem:
    """Knows how the tree is. `read_block` raises BlockError when there is none; `publish` gets each new board."""

    def __init__(
        self,
        settings: Settings,
        build: Build,
        read_block: Callable[[], RawBlock],
        publish: Callable[[Board], None] | None = None,
        on_change: Callable[[Changes], None] | None = None,
        clock: Clock = Clock(),
    ) -> None:
        monitoring = settings.monitoring
        self._build, self._clock = build, clock
        self._read_block, self._publish, self._on_change = read_block, publish, on_change
        self._check = HealthCheck(settings)
        self._alerts = Alerts(monitoring.alert_thresholds)
        self._history = History(monitoring.retention_seconds, monitoring.collection_interval)
        self._retention = monitoring.retention_seconds
        self._collection_ns = int(monitoring.collection_interval * SECOND)
        self._availability: dict[str, Availability] = {}
        self._decoder, self._aggregator = Decoder(), Aggregator()
        self._snapshot: Snapshot | None = None
        self._facts: Facts | None = None
        self._started_ns = clock.monotonic_ns()
        self._was_healthy = False
        self._status: HealthStatus | None = None

    def status(self) -> HealthStatus:
        """The health of the tree, evaluated anew if the last evaluation is older than 250 ms."""
        now = self._clock.monotonic_ns()
        if self._status is None or now - self._status.checked_ns > FRESH_NS:
            return self.evaluate()
        return self._status

    def serves(self, slot: int) -> bool:
        """Whether the supervisor has noted that the worker in `slot` is ready, by a new reading."""
        workers = [worker for component in self.evaluate().components.values() for worker in component.workers]
        return any(worker.slot.slot == slot and worker.ready for worker in workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes to survey: the supervisor and its workers."""
        if self._snapshot is None:
            return ()
        return (self._snapshot.creator_pid, *(slot.pid for slot in self._snapshot.slots if slot.pid))

    def observe(self, facts: Facts) -> None:
        """Take in a survey of the host."""
        self._facts = facts

    def tick(self) -> float:
        """Evaluate, keep a row of history when one is due, and return the seconds until the next tick."""
        status = self.evaluate()
        now = status.checked_ns
        if self._history.due(now):
            self._history.record(self._row(status), now)
        self._was_healthy = self._was_healthy or status.state is HealthState.HEALTHY
        if not self._was_healthy and now - self._started_ns < QUICK_FOR_NS:
            return min(QUICK_NS, self._collection_ns) / SECOND
        due = now + self._collection_ns
        if status.verdict_due_ns is not None and status.verdict_due_ns > now:
            due = min(due, status.verdict_due_ns)
        return (due - now) / SECOND

    def evaluate(self) -> HealthStatus:
        """Read the block, judge, raise and resolve alerts, publish the board."""
        now = self._clock.monotonic_ns()
        try:
            self._snapshot = self._decoder.decode(self._read_block())
            status = self._check.evaluate(self._snapshot, self._facts, now)
        except BlockError as error:
            self._snapshot = None
            status = self._check.blind(str(error), self._facts, now)
        self._status = status
        self._follow(status, now)
        self._advise(status)
        return status

    def exposition(self) -> Exposition:
        """Everything that the exporters tell, from one fresh reading."""
        status = self.status()
        return exposition(
            Knowledge(
                unix_time=round(self._clock.unix_time(), 3),
                version=self._build.version,
                python=self._build.python,
                uptime_seconds=self._uptime,
                status=status,
                families=self._aggregator.aggregate(self._snapshot) if self._snapshot else (),
                facts=self._facts,
                supervisor_pid=self._snapshot.creator_pid if self._snapshot else 0,
                alerts=Counter(alert.severity for alert in self._alerts.firing),
                availability={name: each.share for name, each in self._availability.items()},
            )
        )

    def health(self) -> Document:
        """The document of `/health`."""
        return report.health(self.status(), self._alerts.firing, self._moment, self._build.version, self._uptime)

    def component(self, name: str) -> Document:
        """The document of `/health/COMPONENT`. Raises KeyError."""
        status = self.status()
        return {"component": name, **report.component(status.components[name], status.verdicts)}

    def readiness(self) -> Document:
        """The document of `/health/ready`."""
        return report.readiness(self.status())

    def alerts(self) -> Document:
        """The document of `/alerts`: those that fire, and the last ones that no longer do."""
        _, moment = self.status(), self._moment
        return {
            "firing": [report.alert_document(alert, moment) for alert in self._alerts.firing],
            "resolved": [report.alert_document(alert, moment) for alert in self._alerts.resolved],
        }

    def history(self, component: str, seconds: float) -> Document:
        """The document of `/history`: figures of the last `seconds`. Raises KeyError for an unknown component."""
        if component not in self.recorded:
            raise KeyError(component)
        moment = self._moment
        since = moment.monotonic_ns - int(seconds * SECOND)
        series = self._history.series(component, since, moment.monotonic_ns)
        return report.history(component, series, self._history.spacing_ns, moment)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The components that have a history."""
        return self._history.components

    def info(self) -> Document:
        """The document of `/info`: what runs here since when."""
        status, moment = self.status(), self._moment
        workers = [worker.slot for component in status.components.values() for worker in component.workers]
        return {
            "version": self._build.version,
            "uptime_seconds": round(self._uptime, 3),
            "started": moment.iso(moment.monotonic_ns - int(self._uptime * SECOND)),
            "python": self._build.python,
            "host": self._build.host,
            "pids": {
                "supervisor": self._snapshot.creator_pid if self._snapshot else None,
                **{slot.service if not slot.index else f"{slot.service}/{slot.index}": slot.pid for slot in workers},
            },
        }

    @property
    def _moment(self) -> Moment:
        return Moment(self._clock.monotonic_ns(), self._clock.unix_time())

    @property
    def _uptime(self) -> float:
        since = self._snapshot.created_ns if self._snapshot else self._started_ns
        return max(0, self._clock.monotonic_ns() - since) / SECOND

    def _advise(self, status: HealthStatus) -> None:
        if self._publish is None or status.blind:
            return
        try:
            self._publish(Board(status.checked_ns, status.score, status.state, status.line, dict(status.verdicts)))
        except BlockError:
            # Damaged since it was read a moment ago: the next reading, due at once, tells why.
            self._status = None

    def _follow(self, status: HealthStatus, now: int) -> None:
        found: list[Reading] = []
        for name, component in status.components.items():
            if name not in self._availability:
                self._availability[name] = Availability(self._retention)
            known = self._availability[name]
            known.observe(component.state.serving, now)
            # Whatever starts is down at first: that is no alert until it takes too long.
            if known.has_served or now - self._started_ns > QUICK_FOR_NS:
                found += readings(component, known.served)
        changes = self._alerts.update(found, now)
        if self._on_change is not None and (changes.fired or changes.resolved):
            self._on_change(changes)

    def _row(self, status: HealthStatus) -> dict[str, float | None]:
        row: dict[str, float | None] = {f"{OVERALL}.score": status.score}
        for name, component in status.components.items():
            row[f"{name}.score"] = component.score
            if not component.workers:
                continue
            traffic = component.recent
            row[f"{name}.requests_per_second"] = traffic.per_second
            row[f"{name}.error_rate"] = traffic.error_rate
            row |= {f"{name}.p{percent}_seconds": traffic.duration(percent / 100) for percent in (50, 95, 99)}
            processes = [worker.process for worker in component.workers if worker.process]
            row[f"{name}.resident_bytes"] = sum(process.resident_bytes for process in processes) or None
        return row
