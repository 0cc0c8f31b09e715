"""Alerts: each fires once when its figure stays bad, and resolves once when it stays good."""

import pytest

from config.schema import AlertThresholds
from monitoring.alerts import MAX_RESOLVED, Alerts, Changes, Reading, readings, rules
from monitoring.component_health import ComponentHealth
from monitoring.conditions import UNSPOKEN, Conditions
from monitoring.histogram import EMPTY
from monitoring.history import Served
from monitoring.hysteresis import Damper, Latch
from monitoring.scoring import LEAST, Loss
from monitoring.window import Traffic
from monitoring.worker_health import WorkerHealth
from tests.unit.monitoring.snapshots import SECOND, START, durations, facts, slot

THRESHOLDS = AlertThresholds()


def slow(value: float = 250.0) -> Reading:
    return Reading("cert_issuance_slow", "ca", value, {"requests": 100})


def feed(alerts: Alerts, seconds: range, *found: Reading) -> list[Changes]:
    """Update once a second with the same figures; return what changed."""
    return [alerts.update(found, START + second * SECOND) for second in seconds]


def test_an_alert_fires_once_after_its_figure_stayed_bad() -> None:
    alerts = Alerts(THRESHOLDS)
    changes = feed(alerts, range(20), slow())
    assert [len(change.fired) for change in changes] == [0] * 5 + [1] + [0] * 14
    (alert,) = alerts.firing
    assert (alert.name, alert.severity, alert.component) == ("cert_issuance_slow", "warning", "ca")
    assert (alert.value, alert.threshold, alert.unit) == (250.0, 100.0, "ms")
    assert alert.since_ns == START + 5 * SECOND
    assert alert.summary == "ca: p99 of requests 250 ms is above 100 ms (max_cert_issuance_ms)"
    assert alert.evidence == {"requests": 100}


def test_a_short_burst_fires_nothing() -> None:
    alerts = Alerts(THRESHOLDS)
    feed(alerts, range(4), slow())
    feed(alerts, range(4, 5))
    feed(alerts, range(5, 9), slow())
    assert alerts.firing == ()


def test_an_alert_resolves_once_after_its_figure_stayed_good_or_absent() -> None:
    alerts = Alerts(THRESHOLDS)
    feed(alerts, range(6), slow())
    changes = feed(alerts, range(6, 30), slow(20.0))
    assert [len(change.resolved) for change in changes].index(1) == 15
    assert sum(len(change.resolved) for change in changes) == 1
    assert alerts.firing == ()
    (resolved,) = alerts.resolved
    assert resolved.resolved_ns == START + 21 * SECOND
    assert resolved.since_ns == START + 5 * SECOND


def test_a_lasting_alert_shows_its_latest_figure_and_its_first_time() -> None:
    alerts = Alerts(THRESHOLDS)
    feed(alerts, range(6), slow())
    feed(alerts, range(6, 8), slow(900.0))
    (alert,) = alerts.firing
    assert (alert.value, alert.since_ns) == (900.0, START + 5 * SECOND)


def test_the_same_figure_from_several_workers_is_one_alert() -> None:
    alerts = Alerts(THRESHOLDS)
    feed(alerts, range(10), slow(), slow(300.0))
    assert len(alerts.firing) == 1


def test_a_component_that_does_not_serve_alerts_sooner_and_comes_first() -> None:
    alerts = Alerts(THRESHOLDS)
    down = Reading("component_down", "api", 0.0, {}, "api: failed")
    changes = feed(alerts, range(9), slow(), down)
    assert [change.fired[0].name for change in changes if change.fired] == ["component_down", "cert_issuance_slow"]
    assert changes[2].fired[0].summary == "api: failed (score 0 is below 0.7)"
    assert [alert.severity for alert in alerts.firing] == ["critical", "warning"]


def test_only_the_last_resolved_alerts_are_kept() -> None:
    alerts = Alerts(THRESHOLDS)
    names = [f"c{number}" for number in range(MAX_RESOLVED + 10)]
    feed(alerts, range(3), *(Reading("component_down", name, 0.0, {}) for name in names))
    feed(alerts, range(3, 20))
    assert len(alerts.resolved) == MAX_RESOLVED
    assert alerts.resolved[0].component == names[-1]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("component_down", 0.7, 0.69),
        ("cert_issuance_slow", 100.0, 100.1),
        ("success_rate_low", 0.95, 0.949),
        ("error_rate_high", 0.05, 0.051),
        ("memory_high", 4096.0, 4097.0),
        ("availability_low", 0.99, 0.989),
        ("findings_open", 0, 1),
        ("renewal_overdue", 0, 1),
    ],
)
def test_a_threshold_itself_is_still_good(name: str, good: float, bad: float) -> None:
    (rule,) = (rule for rule in rules(THRESHOLDS) if rule.name == name)
    assert not rule.broken(good)
    assert rule.broken(bad)


def component(traffic: Traffic, conditions: Conditions | None = None) -> ComponentHealth:
    stats = facts(START, memory=5_000_000_000).processes
    workers = tuple(WorkerHealth(slot("ca", START, pid=pid), 0, 0, stats[pid], ()) for pid in (101, 102))
    losses = (
        Loss("probe", 0.5, "ca: probe failed"),
        Loss("findings", 0.1, "ca: odd"),
        Loss("renewal", 0.0, "ca: late"),
    )
    return ComponentHealth("ca", True, 0.5, losses, workers, traffic, traffic, 0.1, conditions or UNSPOKEN)


def test_the_figures_of_a_component_come_with_what_they_were_computed_from() -> None:
    traffic = Traffic(60.0, 80, 10, 10, durations(200, 100), EMPTY)
    said = Conditions({"unlogged": 2, "twice": 1}, ("crl", "root"))
    served = Served(100 * SECOND, 3 * SECOND)
    found = {reading.rule: reading for reading in readings(component(traffic, said), served)}
    assert found.keys() == {rule.name for rule in rules(THRESHOLDS)}
    assert found["component_down"].reason == "ca: probe failed"
    assert found["success_rate_low"].value == pytest.approx(0.9)
    assert found["error_rate_high"].evidence == {"window_seconds": 60.0, "requests": 100, "errors": 10}
    assert found["cert_issuance_slow"].value == pytest.approx(200, rel=0.125)
    assert found["memory_high"].value == 5000.0
    assert found["memory_high"].evidence == {"pid": 102}
    assert found["component_down"].evidence == {"probe": 0.5, "findings": 0.1}
    assert (found["findings_open"].value, found["findings_open"].reason) == (3, "ca: odd")
    assert found["findings_open"].evidence == {"unlogged": 2, "twice": 1}
    assert (found["renewal_overdue"].value, found["renewal_overdue"].reason) == (2, "ca: late")
    assert found["renewal_overdue"].evidence == {"crl": 1, "root": 1}
    assert found["error_rate_high"].reason == "10 of 100 requests of the last 60 s failed; its log says why"
    assert found["availability_low"].value == 0.97
    assert found["availability_low"].evidence == {"window_seconds": 100, "down_seconds": 3}
    assert found["availability_low"].reason == "it did not serve for 3.0 s of the last 100 s"


def test_without_traffic_and_history_there_are_no_figures_to_fire() -> None:
    quiet = Traffic(60.0, 0, 0, 0, EMPTY, EMPTY)
    assert {reading.rule for reading in readings(component(quiet), None)} == {"component_down", "memory_high"}


def test_a_latch_follows_only_what_stays() -> None:
    latch = Latch(enter_ns=2 * SECOND, leave_ns=3 * SECOND)
    told = [latch.follow(wanted, second * SECOND) for second, wanted in enumerate([True, False, True, True, True])]
    assert told == [False, False, False, False, True]
    told = [
        latch.follow(wanted, second * SECOND) for second, wanted in enumerate([False, True, False, False, False], 5)
    ]
    assert told == [True] * 5
    assert latch.follow(False, 10 * SECOND) is False


def test_a_damper_keeps_the_least_of_a_loss_while_it_is_not_sure() -> None:
    damper = Damper(enter_ns=SECOND, leave_ns=2 * SECOND)
    bad, good = Loss("latency", 0.3, "slow"), Loss("latency")
    assert damper.admit(bad, 0).amount == 0.0
    assert damper.admit(bad, SECOND) == bad
    held = damper.admit(good, 2 * SECOND)
    assert (held.amount, held.issue) == (LEAST, "slow (no longer so, but not for 2 s yet)")
    assert damper.admit(good, 4 * SECOND) == good
