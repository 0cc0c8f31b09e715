"""One component over time: its workers, its traffic, what it loses and why (pure).

Rules:
- Slow facts (success, latency, event-loop lag) pass a hysteresis in time; all others count at once.
- What a service says of itself (`conditions`) degrades it. No verdict follows: a new process would say the same.
- Of several workers of one service the worst decides, but while another one serves the component is degraded at worst.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from config.schema import Settings
from config.topology import Service
from monitoring.conditions import UNSPOKEN, Conditions, ConditionsReader
from monitoring.facts import Facts
from monitoring.hysteresis import Damper
from monitoring.layout import SlotVerdict
from monitoring.scoring import (
    RESTART_WINDOW_SECONDS,
    SECOND,
    HealthState,
    Loss,
    findings_loss,
    lag_loss,
    latency_loss,
    renewal_loss,
    restarts_loss,
    success_loss,
)
from monitoring.snapshot import SlotSnapshot
from monitoring.totals import TotalsReader
from monitoring.window import QUIET, Traffic, Window
from monitoring.worker_health import Limits, WorkerCheck, WorkerHealth

WINDOW_SECONDS: Final = 60
RECENT_SECONDS: Final = 15
SERVED_BY_ANOTHER: Final = 0.8
"""What a service keeps of its score while one worker is out and another one is well."""


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One component at one moment: losses, the largest first; traffic of the last minute and of the last moments."""

    name: str
    required: bool
    score: float
    losses: tuple[Loss, ...] = ()
    workers: tuple[WorkerHealth, ...] = ()
    traffic: Traffic = QUIET
    recent: Traffic = QUIET
    p99_target: float | None = None
    conditions: Conditions = UNSPOKEN

    @property
    def state(self) -> HealthState:
        """The state that the score stands for."""
        return HealthState.of(self.score)

    @property
    def issues(self) -> tuple[str, ...]:
        """What is wrong, the gravest first."""
        return tuple(dict.fromkeys(loss.issue for loss in self.losses if loss.issue))

    @property
    def ready(self) -> bool:
        """Whether it has workers and every one of them reported readiness."""
        return bool(self.workers) and all(worker.ready for worker in self.workers)


def component_of(name: str, required: bool, losses: list[Loss]) -> ComponentHealth:
    """Return the component that `losses` make."""
    score = max(0.0, 1.0 - sum(loss.amount for loss in losses))
    return ComponentHealth(name, required, score, tuple(sorted(losses, key=lambda loss: -loss.amount)))


class ComponentCheck:
    """Follows one service over time; remembers what is needed between two readings, and nothing else."""

    def __init__(self, service: Service, limits: Limits, settings: Settings) -> None:
        self._service = service
        self._limits = limits
        self._thresholds = settings.monitoring.alert_thresholds
        # Only issuance has a promised time. A client that sends its request slowly must not make the API look slow.
        self._p99_target = self._thresholds.max_cert_issuance_ms / 1000 if service.name == "ca" else None
        self._workers: dict[int, tuple[int, WorkerCheck]] = {}
        self._totals = TotalsReader(service.name)
        self._conditions = ConditionsReader(service.name)
        self._window = Window(WINDOW_SECONDS * SECOND)
        self._restarts = _RestartTally()
        self._dampers = {factor: Damper() for factor in ("success", "latency", "saturation")}

    def evaluate(self, slots: list[SlotSnapshot], facts: Facts | None, now: int) -> ComponentHealth:
        """Judge the service by the slots of its workers and their processes."""
        name, required = self._service.name, self._service.required
        if not slots:
            issue = f"{name}: has no worker; the supervisor has not assigned a slot to it"
            return component_of(name, required, [Loss("liveness", 1.0, issue)])
        processes = facts.processes if facts else {}
        workers = tuple(
            self._worker(slot).judge(_who(slot, len(slots)), slot, processes.get(slot.pid), now) for slot in slots
        )
        self._window.add(self._totals.read(slots), now)
        traffic = self._window.traffic()
        losses = [*_combined(workers), *self._slow(traffic, now)]
        restarted = self._restarts.recent(slots, now)
        losses.append(restarts_loss(name, len(restarted), now - max(restarted, default=now)))
        said = self._conditions.read(slots)
        losses += [findings_loss(name, said.findings), renewal_loss(name, said.overdue, counted=not said.findings)]
        recent = self._window.traffic(RECENT_SECONDS * SECOND)
        return replace(
            component_of(name, required, losses),
            workers=workers,
            traffic=traffic,
            recent=recent,
            p99_target=self._p99_target,
            conditions=said,
        )

    def verdicts(self, workers: Iterable[WorkerHealth], excuse: str, now: int) -> dict[int, SlotVerdict]:
        """Say by slot whether a new process would help; `excuse` is a trouble that is not the workers' own."""
        return {worker.slot.slot: self._worker(worker.slot).verdict(worker, excuse, now) for worker in workers}

    @property
    def verdict_due_ns(self) -> int | None:
        """When the first verdict becomes REPLACE if nothing changes."""
        due = [check.verdict_due_ns for _, check in self._workers.values() if check.verdict_due_ns is not None]
        return min(due, default=None)

    def _worker(self, slot: SlotSnapshot) -> WorkerCheck:
        generation, check = self._workers.get(slot.slot, (-1, None))
        if check is None or generation != slot.generation:
            check = WorkerCheck(self._limits, " and ".join(self._service.depends_on))
            self._workers[slot.slot] = (slot.generation, check)
        return check

    def _slow(self, traffic: Traffic, now: int) -> list[Loss]:
        name = self._service.name
        success, latency, saturation = Loss("success"), Loss("latency"), Loss("saturation")
        if traffic.error_rate is not None:
            minimum = self._thresholds.min_success_rate
            success = success_loss(name, traffic.error, traffic.requests, minimum, traffic.seconds)
        p99 = traffic.duration(0.99)
        if self._p99_target is not None and p99 is not None:
            latency = latency_loss(name, p99, self._p99_target, traffic.seconds)
        lag = traffic.lag_p99()
        if lag is not None:
            saturation = lag_loss(name, lag, traffic.seconds)
        return [self._dampers[loss.factor].admit(loss, now) for loss in (success, latency, saturation)]


class _RestartTally:
    """When the workers of one service were restarted lately, as far as nobody had stopped them on purpose."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, str]] = {}
        self._times: deque[int] = deque(maxlen=16)

    def recent(self, slots: list[SlotSnapshot], now: int) -> tuple[int, ...]:
        for slot in slots:
            seen, state = self._seen.get(slot.slot, (None, ""))
            self._seen[slot.slot] = (slot.restarts, slot.state)
            if seen is None:
                # A monitor that was itself restarted only knows the last start of each worker.
                self._times.extend([slot.started_ns] * min(slot.restarts, 1))
            elif state != "stopped":  # the supervisor counts it as a restart when an operator starts it again
                self._times.extend([now] * min(max(0, slot.restarts - seen), 16))
        return tuple(time for time in self._times if now - time < RESTART_WINDOW_SECONDS * SECOND)


def _who(slot: SlotSnapshot, workers: int) -> str:
    return slot.service if workers == 1 else f"{slot.service}[{slot.index}]"


def _combined(workers: tuple[WorkerHealth, ...]) -> list[Loss]:
    worst = min(workers, key=lambda worker: worker.score)
    best = max(worker.score for worker in workers)
    if worst.score == 1.0:
        return list(worst.losses)
    kept = max(worst.score, min(SERVED_BY_ANOTHER, best))
    share = (1.0 - kept) / sum(loss.amount for loss in worst.losses)
    return [Loss(loss.factor, loss.amount * share, loss.issue, loss.cause) for loss in worst.losses]
