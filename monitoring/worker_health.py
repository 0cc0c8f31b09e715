"""What one worker's slot says about it, and when a replacement is due (pure).

Rules:
- Liveness counts at once, in both directions: the state the supervisor wrote, and the age of the heartbeat.
- A failed probe counts at once. It is forgiven in steps: the first pass lifts the worker to degraded, passes for
  `FORGIVEN_PROBES` probe intervals make it healthy again. A new generation starts with a clean record.
- REPLACE is for a worker that stays critical for its own cause for `unhealthy_after`, while its dependencies serve and
  the disk has room: otherwise a new process would meet the same trouble. Low success rates never replace anybody: the
  errors may be another's, and the probe is there to tell.
"""

from dataclasses import dataclass
from typing import Final

from config.schema import Settings
from monitoring.facts import ProcessStats
from monitoring.layout import ProbeState, SlotVerdict, Verdict
from monitoring.scoring import (
    LEAST,
    MB,
    SECOND,
    SILENT_PROBE_INTERVALS,
    STALE_PROBE_INTERVALS,
    Cause,
    Loss,
    beyond,
    memory_loss,
    span,
)
from monitoring.snapshot import SlotSnapshot

FORGIVEN_PROBES: Final = 1.5
OWN_CRITICAL: Final = 0.7
"""A worker whose own causes take more than this off its score is critical through nobody else's fault."""

_CAUSES: Final = {
    ProbeState.FAIL_OWN: Cause.OWN,
    ProbeState.FAIL_DEPENDENCY: Cause.DEPENDENCY,
    ProbeState.FAIL_ENVIRONMENT: Cause.ENVIRONMENT,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that a worker is judged by, in nanoseconds and bytes."""

    heartbeat_timeout: int
    ready_timeout: int
    failed_retry: int
    probe_interval: int
    unhealthy_after: int
    max_memory: float

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Take the limits from the effective settings."""
        supervisor, monitoring = settings.supervisor, settings.monitoring
        return cls(
            heartbeat_timeout=int(supervisor.heartbeat_timeout * SECOND),
            ready_timeout=int(supervisor.ready_timeout * SECOND),
            failed_retry=int(supervisor.failed_retry * SECOND),
            probe_interval=int(monitoring.probe_interval * SECOND),
            unhealthy_after=int(monitoring.unhealthy_after * SECOND),
            max_memory=monitoring.alert_thresholds.max_memory_mb * MB,
        )


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """One worker at one moment; ages in nanoseconds, None where there is nothing to be old."""

    slot: SlotSnapshot
    heartbeat_age: int | None
    probe_age: int | None
    process: ProcessStats | None
    losses: tuple[Loss, ...]

    @property
    def score(self) -> float:
        """1.0 minus what liveness, probe and memory cost."""
        return max(0.0, 1.0 - sum(loss.amount for loss in self.losses))

    @property
    def ready(self) -> bool:
        """Whether the supervisor saw it report readiness."""
        return self.slot.state == "ready"

    @property
    def own_fault(self) -> str:
        """The issue that makes it critical through its own fault, or nothing."""
        own = [loss for loss in self.losses if loss.cause is Cause.OWN]
        return own[0].issue if sum(loss.amount for loss in own) > OWN_CRITICAL else ""


class WorkerCheck:
    """Follows one generation of one slot: forgives failed probes slowly, and knows since when the fault is its own."""

    def __init__(self, limits: Limits, depends_on: str = "") -> None:
        """`depends_on` is what it is called that the worker depends on."""
        self._limits, self._depends_on = limits, depends_on
        self._failed = False
        self._passing_since: int | None = None
        self._own_since: int | None = None

    def judge(self, who: str, slot: SlotSnapshot, process: ProcessStats | None, now: int) -> WorkerHealth:
        """Judge the worker named `who` by its slot and its process."""
        losses = [self._liveness(who, slot, now)]
        if slot.state == "ready" or slot.probe_state in _CAUSES:
            losses.append(self._probe(who, slot, now))
        if slot.state == "ready" and slot.damaged:
            issue = f"{who}: its part of the metrics block (slot {slot.slot}) is damaged; a new process rewrites it"
            losses.append(Loss("block", 0.75, issue, Cause.OWN))
        if slot.state == "ready" and process is not None:
            losses.append(memory_loss(who, process.resident_bytes, self._limits.max_memory))
        losses.sort(key=lambda loss: -loss.amount)
        return WorkerHealth(
            slot,
            max(0, now - slot.heartbeat_ns) if slot.heartbeat_ns else None,
            max(0, now - slot.probe_ns) if slot.probe_ns else None,
            process,
            tuple(losses),
        )

    def verdict(self, health: WorkerHealth, excuse: str, now: int) -> SlotVerdict:
        """Say whether a new process would help. `excuse` names a trouble that is not the worker's own, or nothing."""
        fault = health.own_fault
        if excuse or not health.ready or not (fault or self._failed):
            self._own_since = None
        elif fault and self._own_since is None:
            self._own_since = now
        if fault and self._own_since is not None and now - self._own_since >= self._limits.unhealthy_after:
            reason = f"{fault}; for {span(now - self._own_since)}"
            return SlotVerdict(Verdict.REPLACE, health.slot.generation, reason)
        known = health.ready and health.slot.probe_state != ProbeState.UNKNOWN
        return SlotVerdict(Verdict.KEEP if known else Verdict.UNKNOWN, health.slot.generation, excuse)

    @property
    def verdict_due_ns(self) -> int | None:
        """When the verdict becomes REPLACE if nothing changes; None while the fault is not the worker's own."""
        return None if self._own_since is None else self._own_since + self._limits.unhealthy_after

    def _liveness(self, who: str, slot: SlotSnapshot, now: int) -> Loss:
        if slot.state != "ready":
            return self._absence(who, slot, now)
        timeout = self._limits.heartbeat_timeout
        age = now - (slot.heartbeat_ns or slot.started_ns)
        amount = beyond(age, timeout / 2, timeout, 1.0)
        if not amount:
            return Loss("liveness")
        issue = f"{who}: no heartbeat for {span(age)}; after {span(timeout)} it counts as hung and is restarted"
        return Loss("liveness", amount, issue)

    def _absence(self, who: str, slot: SlotSnapshot, now: int) -> Loss:
        limits = self._limits
        if slot.state == "starting":
            age = span(max(0, now - slot.started_ns))
            return Loss("liveness", 0.6, f"{who}: starting for {age} (limit {span(limits.ready_timeout)})")
        if slot.state == "draining":
            return Loss("liveness", 0.6, f"{who}: draining; it takes no new work")
        return Loss("liveness", 1.0, f"{who}: {self._lack(slot, now)}")

    def _lack(self, slot: SlotSnapshot, now: int) -> str:
        """Why there is no process, since when, and what to do."""
        since = f", last heartbeat {span(max(0, now - slot.heartbeat_ns))} ago" if slot.heartbeat_ns else ""
        if slot.state == "stopped" and not slot.generation:
            return "not started yet"
        if slot.state == "stopped":
            return f"stopped by operator{since}; `trustchain start {slot.service}` brings it back"
        if slot.state == "backoff":
            told = f"died and waits to be restarted (restart {slot.restarts + 1}){since}"
            return f"{told}; `trustchain status --deaths` shows how it died"
        return (
            f"failed after {slot.restarts} restarts{since}: it dies again and again (then it is tried every "
            f"{span(self._limits.failed_retry)}) or cannot work as configured; `trustchain status --deaths` shows "
            f"which, `trustchain start {slot.service}` tries at once"
        )

    def _probe(self, who: str, slot: SlotSnapshot, now: int) -> Loss:
        since = slot.probe_ns or slot.started_ns
        stale = self._silence(who, now - since)
        if stale.amount:
            return stale
        if slot.probe_state == ProbeState.UNKNOWN:
            return Loss("probe", LEAST, f"{who}: has not probed itself yet")
        if slot.probe_state == ProbeState.PASS:
            return self._forgiven(who, now)
        self._failed, self._passing_since = True, None
        cause = _CAUSES[slot.probe_state]
        note = slot.note or "no reason given"
        if cause is not Cause.OWN:
            self._own_since = None
        if cause is Cause.DEPENDENCY:
            return Loss(
                "probe", 0.5, f"{who}: probe failed because of {self._depends_on or 'a dependency'}: {note}", cause
            )
        return Loss("probe", 0.9, f"{who}: probe failed: {note}", cause)

    def _silence(self, who: str, age: int) -> Loss:
        interval = self._limits.probe_interval
        late, silent = STALE_PROBE_INTERVALS * interval + SECOND, SILENT_PROBE_INTERVALS * interval + SECOND
        amount = beyond(age, late, silent, 0.9)
        if not amount:
            return Loss("probe")
        issue = f"{who}: last probe {span(age)} ago (expected every {span(interval)}); it may be stuck inside"
        return Loss("probe", amount, issue, Cause.OWN)

    def _forgiven(self, who: str, now: int) -> Loss:
        if not self._failed:
            return Loss("probe")
        if self._passing_since is None:
            self._passing_since = now
        if now - self._passing_since >= FORGIVEN_PROBES * self._limits.probe_interval:
            self._failed = False
            return Loss("probe")
        return Loss("probe", LEAST, f"{who}: its probe passes again; watching whether it stays so")
