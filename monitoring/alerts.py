"""Alerts: thresholds on the figures of each component, with hysteresis in time and evidence (pure).

| name               | severity | fires when, for 5 s (down: 2 s)                      | threshold            |
|--------------------|----------|------------------------------------------------------|----------------------|
| component_down     | critical | a component is unhealthy or critical                 | score 0.7            |
| success_rate_low   | critical | too few requests of the last minute succeed          | min_success_rate     |
| cert_issuance_slow | warning  | p99 of the CA's requests of the last minute is above | max_cert_issuance_ms |
| error_rate_high    | warning  | too many requests of the last 15 s fail              | max_error_rate       |
| memory_high        | warning  | resident memory of one worker is above               | max_memory_mb        |
| availability_low   | warning  | too little of the retained time was spent serving    | min_availability     |
| findings_open      | critical | something contradicts what must hold                 | none open            |
| renewal_overdue    | warning  | what ends should have been renewed and was not       | none overdue         |

Rules: one alert for each name and component, however many evaluations or workers say the same, so there are never more
than eight for each component. It resolves after its figure has been good, or absent, for 15 s. No traffic gives no
figure, so it fires nothing. The last `MAX_RESOLVED` resolved ones are kept.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from config.schema import AlertThresholds
from monitoring.component_health import ComponentHealth
from monitoring.history import Served
from monitoring.hysteresis import ENTER_NS, LEAVE_NS, Latch
from monitoring.scoring import MB, SECOND, span
from monitoring.window import Traffic

MAX_RESOLVED: Final = 64
DOWN_AFTER_NS: Final = 2 * SECOND

Severity = Literal["critical", "warning"]
Evidence = Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class Rule:
    """A named threshold. `side` is where a figure must not be; `setting` is the threshold's key."""

    name: str
    severity: Severity
    what: str
    unit: str
    side: Literal["above", "below"]
    threshold: float
    setting: str = ""
    enter_ns: int = ENTER_NS

    def broken(self, value: float) -> bool:
        """Whether `value` is on the wrong side."""
        return value > self.threshold if self.side == "above" else value < self.threshold

    def summary(self, reading: "Reading") -> str:
        """One sentence: component, figure, threshold, and the reason if there is one."""
        value, limit = _figure(reading.value, self.unit), _figure(self.threshold, self.unit)
        figure = f"{self.what} {value} is {self.side} {limit}"
        if not self.setting:  # what is wrong says more than the score that it leads to
            return f"{reading.reason or reading.component + ': no reason known'} ({figure})"
        sentence = f"{reading.component}: {figure} ({self.setting})"
        return f"{sentence}; {reading.reason}" if reading.reason else sentence


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure of one component, what it was computed from, and the reason if it is known."""

    rule: str
    component: str
    value: float
    evidence: Evidence
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to look at. `since_ns` is monotonic: when it fired; `resolved_ns` is None while it lasts."""

    name: str
    severity: Severity
    component: str
    since_ns: int
    value: float
    threshold: float
    unit: str
    summary: str
    evidence: Evidence
    resolved_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one evaluation changed: each alert appears once when it fires and once when it resolves."""

    fired: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()


def rules(thresholds: AlertThresholds) -> tuple[Rule, ...]:
    """Return the rules for these thresholds."""
    latency, memory = thresholds.max_cert_issuance_ms, thresholds.max_memory_mb
    success, errors, available = thresholds.min_success_rate, thresholds.max_error_rate, thresholds.min_availability
    return (
        Rule("component_down", "critical", "score", "", "below", 0.7, enter_ns=DOWN_AFTER_NS),
        Rule("success_rate_low", "critical", "success rate", "ratio", "below", success, "min_success_rate"),
        Rule("cert_issuance_slow", "warning", "p99 of requests", "ms", "above", latency, "max_cert_issuance_ms"),
        Rule("error_rate_high", "warning", "error rate", "ratio", "above", errors, "max_error_rate"),
        Rule("memory_high", "warning", "memory", "MB", "above", memory, "max_memory_mb"),
        Rule("availability_low", "warning", "availability", "ratio", "below", available, "min_availability"),
        Rule("findings_open", "critical", "open findings", "", "above", 0),
        Rule("renewal_overdue", "warning", "renewals overdue", "", "above", 0),
    )


def readings(component: ComponentHealth, served: Served | None) -> Iterable[Reading]:
    """Yield the figures that a component has to offer right now; `served` is None when not known yet."""
    name, traffic, recent = component.name, component.traffic, component.recent
    lost = {loss.factor: round(loss.amount, 4) for loss in component.losses if loss.amount}
    yield Reading("component_down", name, component.score, lost, next(iter(component.issues), ""))
    if traffic.success_rate is not None:
        yield Reading("success_rate_low", name, traffic.success_rate, *_failures(traffic))
    p99 = traffic.duration(0.99)
    if component.p99_target is not None and p99 is not None:
        evidence = {"window_seconds": round(traffic.seconds, 1), "requests": traffic.durations.count}
        yield Reading("cert_issuance_slow", name, p99 * 1000, evidence)
    if recent.error_rate is not None:
        yield Reading("error_rate_high", name, recent.error_rate, *_failures(recent))
    resident = [(w.process.resident_bytes, w.slot.pid) for w in component.workers if w.process]
    if resident:
        heaviest, pid = max(resident)
        yield Reading("memory_high", name, heaviest / MB, {"pid": pid})
    yield from _conditions(component)
    if served is not None:
        evidence = {
            "window_seconds": round(served.observed_ns / SECOND),
            "down_seconds": round(served.down_ns / SECOND),
        }
        reason = f"it did not serve for {span(served.down_ns)} of the last {span(served.observed_ns)}"
        yield Reading("availability_low", name, served.share, evidence, reason)


def _conditions(component: ComponentHealth) -> Iterable[Reading]:
    said = component.conditions
    reasons = {loss.factor: loss.issue for loss in component.losses}
    if said.findings:
        yield Reading("findings_open", component.name, said.open_findings, said.findings, reasons.get("findings", ""))
    if said.overdue:
        overdue = dict.fromkeys(said.overdue, 1)
        yield Reading("renewal_overdue", component.name, len(overdue), overdue, reasons.get("renewal", ""))


def _failures(traffic: Traffic) -> tuple[Evidence, str]:
    seconds, requests, errors = traffic.seconds, traffic.requests, traffic.error
    evidence = {"window_seconds": round(seconds, 1), "requests": requests, "errors": errors}
    return evidence, f"{errors} of {requests} requests of the last {seconds:.0f} s failed; its log says why"


class Alerts:
    """Which alerts fire. Bounded, and the same whether it is asked often or seldom."""

    def __init__(self, thresholds: AlertThresholds) -> None:
        self._rules = {rule.name: rule for rule in rules(thresholds)}
        self._latches: dict[tuple[str, str], Latch] = {}
        self._firing: dict[tuple[str, str], Alert] = {}
        self._resolved: deque[Alert] = deque(maxlen=MAX_RESOLVED)

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that last, critical ones first, then the oldest."""
        return tuple(sorted(self._firing.values(), key=lambda alert: (alert.severity, alert.since_ns, alert.component)))

    @property
    def resolved(self) -> tuple[Alert, ...]:
        """The last resolved alerts, the newest first."""
        return tuple(reversed(self._resolved))

    def update(self, found: Iterable[Reading], now: int) -> Changes:
        """Take in all figures read at `now`; a figure that is absent counts as good."""
        broken = {(r.rule, r.component): r for r in found if self._rules[r.rule].broken(r.value)}
        fired, resolved = [], []
        for key in dict.fromkeys((*self._latches, *broken)):
            latch = self._latches.setdefault(key, Latch(self._rules[key[0]].enter_ns, LEAVE_NS))
            on = latch.follow(key in broken, now)
            if on and key in broken:
                alert, known = self._alert(broken[key], now), key in self._firing
                self._firing[key] = alert
                fired += [] if known else [alert]
            elif not on and key in self._firing:
                resolved.append(replace(self._firing.pop(key), resolved_ns=now))
        self._resolved.extend(resolved)
        return Changes(tuple(fired), tuple(resolved))

    def _alert(self, reading: Reading, now: int) -> Alert:
        rule = self._rules[reading.rule]
        known = self._firing.get((reading.rule, reading.component))
        since = known.since_ns if known else now
        head = (rule.name, rule.severity, reading.component, since, reading.value, rule.threshold, rule.unit)
        return Alert(*head, rule.summary(reading), reading.evidence)


def _figure(value: float, unit: str) -> str:
    if unit == "ratio":
        return f"{value:.2%}"
    return f"{value:.4g} {unit}".rstrip()
