"""What services say of themselves: findings, overdue renewals, a record that fills the disk."""

import pytest

from monitoring.alerts import Alerts, readings
from monitoring.conditions import Conditions, ConditionsReader
from monitoring.families import Family, counter, gauge
from monitoring.health import HealthCheck, HealthStatus
from monitoring.layout import Verdict
from monitoring.snapshot import Series, SlotSnapshot
from tests.unit.monitoring.snapshots import SECOND, SETTINGS, START, facts, slot, tree

DAY = 86_400


def said(name: str, value: float, **labels: str) -> Series:
    return Series(f"trustchain_ca_{name}", "gauge", "", "", tuple(labels.items()), value)


def judged(*series: Series, service: str = "ca", seconds: int = 30) -> HealthStatus:
    """The tree after some seconds in which one service said this all the time."""
    check = HealthCheck(SETTINGS)
    for second in range(seconds):
        now = START + second * SECOND
        check.evaluate(tree(now, slot(service, now, series=series)), facts(now), now)
    now = START + seconds * SECOND
    return check.evaluate(tree(now, slot(service, now, series=series)), facts(now), now)


def read(*slots: SlotSnapshot) -> Conditions:
    return ConditionsReader("ca").read(slots)


def test_open_findings_degrade_their_component_say_what_to_run_and_replace_nobody() -> None:
    status = judged(said("findings", 2.0, kind="unlogged"), said("findings", 1.0, kind="serial_twice"))
    ca = status.components["ca"]
    assert ca.state == "degraded"
    assert ca.score == pytest.approx(0.85)
    (issue,) = status.issues
    assert issue == (
        "ca: 3 findings contradict what must hold (serial_twice 1, unlogged 2); "
        "`trustchain findings` lists them, `trustchain audit` checks all"
    )
    assert {verdict.verdict for verdict in status.verdicts.values()} == {Verdict.KEEP}


def test_one_finding_is_told_in_the_singular() -> None:
    (issue,) = judged(said("findings", 1.0, kind="unlogged")).issues
    assert issue.startswith("ca: 1 finding contradicts what must hold (unlogged 1)")


def test_an_overdue_renewal_degrades_lightly_and_names_the_item() -> None:
    status = judged(said("renewals_overdue", 1.0, item="crl"), said("renewals_overdue", 0.0, item="root"))
    ca = status.components["ca"]
    assert ca.state == "degraded"
    assert ca.score == pytest.approx(0.89)
    assert status.issues == (
        "ca: crl is overdue for renewal; `trustchain expiry` says when each one ends, its log why it was not renewed",
    )
    assert {verdict.verdict for verdict in status.verdicts.values()} == {Verdict.KEEP}


def test_findings_and_overdue_renewals_together_still_serve_after_three_restarts() -> None:
    series = (said("findings", 9.0, kind="unlogged"), said("renewals_overdue", 1.0, item="crl"))
    check = HealthCheck(SETTINGS)
    check.evaluate(tree(START, slot("ca", START, series=series)), facts(START), START)
    now = START + SECOND
    ca = check.evaluate(tree(now, slot("ca", now, series=series, restarts=3)), facts(now), now).components["ca"]
    assert ca.state == "degraded"
    assert len(ca.issues) == 3


def test_nothing_found_and_nothing_overdue_costs_nothing() -> None:
    status = judged(said("findings", 0.0, kind="unlogged"), said("renewals_overdue", 0.0, item="crl"))
    assert (status.score, status.issues) == (1.0, ())


def test_any_service_may_say_it_and_speaks_only_for_itself() -> None:
    series = Series("trustchain_api_renewals_overdue", "gauge", "", "", (("item", "certificate"),), 1.0)
    status = judged(series, said("findings", 4.0, kind="unlogged"), service="api")
    assert status.components["api"].conditions == Conditions({}, ("certificate",))
    assert status.components["ca"].score == 1.0


def test_an_alert_fires_for_each_condition_with_its_evidence() -> None:
    alerts = Alerts(SETTINGS.monitoring.alert_thresholds)
    series = (said("findings", 2.0, kind="unlogged"), said("renewals_overdue", 1.0, item="crl"))
    component = judged(*series).components["ca"]
    for second in range(6):
        alerts.update(readings(component, None), START + second * SECOND)
    first, other = alerts.firing
    assert (first.name, first.severity, first.component, first.value) == ("findings_open", "critical", "ca", 2)
    assert first.evidence == {"unlogged": 2}
    assert first.summary.startswith("ca: 2 findings contradict")
    assert (other.name, other.severity, other.evidence) == (
        "renewal_overdue",
        "warning",
        {"crl": 1},
    )


def test_a_record_that_fills_the_disk_within_two_weeks_is_told_of_storage() -> None:
    status = judged(said("record_full_seconds", 9.5 * DAY))
    assert status.components["ca"].score == 1.0
    storage = status.components["storage"]
    assert storage.state == "degraded"
    assert storage.score == pytest.approx(0.89)
    (issue,) = storage.issues
    assert issue == (
        "storage: at its present rate the record of ca fills the data directory in 9 d 12 h; "
        "free some space, or set how long its rows are kept"
    )
    assert {verdict.verdict for verdict in status.verdicts.values()} == {Verdict.KEEP}


@pytest.mark.parametrize("seconds", [0.0, 14.0 * DAY, 1e12])
def test_a_record_with_room_for_two_weeks_or_no_forecast_is_not_told(seconds: float) -> None:
    assert judged(said("record_full_seconds", seconds)).issues == ()


def test_a_disk_that_is_full_already_needs_no_forecast() -> None:
    check = HealthCheck(SETTINGS)
    series = (said("record_full_seconds", 60.0),)
    status = check.evaluate(tree(START, slot("ca", START, series=series)), facts(START, free=1000), START)
    (issue,) = status.components["storage"].issues
    assert "is full" in issue


def test_several_workers_add_up_their_findings_and_share_their_items() -> None:
    one = slot("ca", START, slot=1, series=(said("findings", 2.0, kind="a"), said("renewals_overdue", 1.0, item="crl")))
    other = slot(
        "ca",
        START,
        slot=2,
        series=(
            said("findings", 1.0, kind="a"),
            said("findings", 5.0, kind="b"),
            said("renewals_overdue", 1.0, item="crl"),
            said("record_full_seconds", 70.0),
        ),
    )
    assert read(one, other) == Conditions({"a": 3, "b": 5}, ("crl",), 70.0)


@pytest.mark.parametrize("state", ["stopped", "backoff", "failed"])
def test_a_worker_without_a_process_says_nothing(state: str) -> None:
    assert read(slot("ca", START, state=state, series=(said("findings", 2.0, kind="a"),))) == Conditions()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_what_is_no_number_of_findings_is_none(value: float) -> None:
    series = (said("findings", value, kind="a"), said("record_full_seconds", value))
    assert read(slot("ca", START, series=series)) == Conditions()


def test_a_counter_of_that_name_is_no_condition() -> None:
    series = (Series("trustchain_ca_findings", "counter", "", "", (), 3),)
    assert read(slot("ca", START, series=series)) == Conditions()


def test_the_families_can_be_declared() -> None:
    families: list[Family] = [
        gauge("trustchain_ca_findings", "Open findings.", labels={"kind": ("a", "b")}),
        gauge("trustchain_ca_renewals_overdue", "Overdue.", labels={"item": ("crl",)}, merge="max"),
        gauge("trustchain_ca_record_full_seconds", "Until full.", unit="seconds", merge="min"),
        counter("trustchain_ca_other_total", "Other."),
    ]
    assert [family.series_count for family in families] == [2, 1, 1, 1]
