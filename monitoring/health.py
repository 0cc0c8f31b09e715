"""HealthCheck: from one reading of the block and one survey of the host to scores, states, issues and verdicts (pure).

Rules:
- The score of a component is 1.0 minus its losses (table in `scoring`); its state follows from the score alone: healthy
  from 0.9, degraded from 0.7, unhealthy from 0.3, critical below. What is damped is the loss, so score and state agree.
- The overall score is the mean of all components, and never above the worst required one.
- Every issue is one sentence: which component, what, the figure and its threshold, what to do if that is known.
- A dependency in trouble, or a full disk, excuses every worker that it touches: no verdict then asks for a replacement.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from config.schema import Settings
from config.topology import Service, topology
from monitoring.component_health import ComponentCheck, ComponentHealth, component_of
from monitoring.facts import Facts
from monitoring.layout import SlotVerdict
from monitoring.scoring import SECOND, Cause, HealthState, Loss, disk_loss, forecast_loss, span
from monitoring.snapshot import SlotSnapshot, Snapshot
from monitoring.worker_health import Limits

STORAGE: Final = "storage"
MAX_ISSUES: Final = 100


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The health of everything at `checked_ns` (monotonic)."""

    checked_ns: int
    score: float
    components: Mapping[str, ComponentHealth]
    verdicts: Mapping[int, SlotVerdict] = field(default_factory=dict)
    verdict_due_ns: int | None = None
    blind: str = ""
    """Why the block could not be read; empty when it could."""

    @property
    def state(self) -> HealthState:
        """The state that the score stands for."""
        return HealthState.of(self.score)

    @property
    def ready(self) -> bool:
        """Whether every required worker reported readiness."""
        return not self.blind and all(c.ready for c in self.components.values() if c.required and c.name != STORAGE)

    @property
    def issues(self) -> tuple[str, ...]:
        """What is wrong anywhere: what does not serve first, there causes before effects, then the worst first."""
        found = [issue for component in sorted(self.components.values(), key=_urgency) for issue in component.issues]
        return tuple(([self.blind] if self.blind else []) + found)[:MAX_ISSUES]

    @property
    def line(self) -> str:
        """One line for `systemctl status`."""
        workers = [worker for component in self.components.values() for worker in component.workers]
        ready = sum(worker.ready for worker in workers)
        text = f"{self.state} {self.score:.2f}, {ready}/{len(workers)} workers ready"
        return f"{text}; {self.issues[0]}" if self.issues and not self.state.serving else text


class HealthCheck:
    """Judges the tree. Keeps what must be remembered between two readings, and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._limits = Limits.of(settings)
        self._stale_facts = int(3 * settings.monitoring.collection_interval * SECOND) + 10 * SECOND
        self._services = {service.name: service for service in topology(settings)}
        self._components: dict[str, ComponentCheck] = {}
        self._settings = settings

    def evaluate(self, snapshot: Snapshot, facts: Facts | None, now: int) -> HealthStatus:
        """Judge one reading of the block, with the latest survey of the host."""
        found: dict[str, list[SlotSnapshot]] = {name: [] for name in self._services}
        for slot in snapshot.slots:
            found.setdefault(slot.service, []).append(slot)
        components = {name: self._check(name).evaluate(slots, facts, now) for name, slots in found.items()}
        said = {name: health.conditions.full_after for name, health in components.items()}
        components[STORAGE] = self._storage(facts, now, {name: s for name, s in said.items() if s is not None})
        verdicts: dict[int, SlotVerdict] = {}
        for name in found:
            verdicts |= self._check(name).verdicts(components[name].workers, self._excuse(name, components), now)
        due = [ns for name in found if (ns := self._check(name).verdict_due_ns) is not None]
        return HealthStatus(now, _overall(components.values()), components, verdicts, min(due, default=None))

    def blind(self, why: str, facts: Facts | None, now: int) -> HealthStatus:
        """Say that nothing is known because the block cannot be read. No verdict is given on anybody."""
        issue = f"monitoring: {why}; the supervisor rebuilds the block and restarts the workers"
        unseen = Loss("liveness", 1.0)
        names = {name: service.required for name, service in self._services.items()}
        components = {name: ComponentHealth(name, required, 0.0, (unseen,)) for name, required in names.items()}
        components[STORAGE] = self._storage(facts, now, {})
        return HealthStatus(now, 0.0, components, blind=issue)

    def _check(self, name: str) -> ComponentCheck:
        if name not in self._components:
            service = self._services.get(name) or Service(name=name, module=name, required=False)
            self._components[name] = ComponentCheck(service, self._limits, self._settings)
        return self._components[name]

    def _storage(self, facts: Facts | None, now: int, filling: Mapping[str, float]) -> ComponentHealth:
        if facts is None:
            return ComponentHealth(STORAGE, True, 1.0)
        data = disk_loss("data directory", facts.data, 0.9)
        # A full /dev/shm hurts nobody who runs: the block was reserved at start. It would stop the next start.
        shared = disk_loss("shared memory", facts.shared_memory, 0.25)
        losses = [data, Loss("shared_memory", shared.amount, shared.issue, shared.cause)]
        if not data.amount:  # what is full already needs no forecast
            losses.append(forecast_loss(filling))
        if now - facts.taken_ns > self._stale_facts:
            age = span(now - facts.taken_ns)
            issue = (
                f"storage: the host was last surveyed {age} ago; {facts.data.path} does not answer, or the log says why"
            )
            losses.append(Loss("survey", 0.25, issue, Cause.ENVIRONMENT))
        return component_of(STORAGE, True, losses)

    def _excuse(self, name: str, components: Mapping[str, ComponentHealth]) -> str:
        service = self._services.get(name)
        for dependency in service.depends_on if service else ():
            if dependency in components and not components[dependency].state.serving:
                return f"{dependency}, which it depends on, is {components[dependency].state}"
        if components[STORAGE].state is HealthState.CRITICAL:
            return "the data directory is full"
        return ""


def _urgency(component: ComponentHealth) -> tuple[bool, bool, float]:
    """The components stand in an order in which each follows what it depends on; all of them depend on storage."""
    serving = component.state.serving
    return serving, not serving and component.name != STORAGE, component.score if serving else 0.0


def _overall(components: Iterable[ComponentHealth]) -> float:
    judged = list(components)
    mean = sum(component.score for component in judged) / len(judged)
    return min([mean, *(component.score for component in judged if component.required)])
