"""HealthCheck: what costs how much, what is said about it, and when a replacement is advised."""

from collections.abc import Callable
from typing import Any

import pytest

from monitoring.facts import Disk
from monitoring.health import HealthCheck, HealthStatus
from monitoring.layout import ProbeState, Verdict
from monitoring.scoring import HealthState, beyond, span
from monitoring.snapshot import SlotSnapshot
from tests.unit.monitoring.snapshots import (
    GIB,
    SECOND,
    SERVICES,
    SETTINGS,
    START,
    durations,
    facts,
    monitoring_settings,
    requests,
    slot,
    tree,
)

DIED = "last heartbeat 2.0 s ago; `trustchain status --deaths` shows how it died"
FAILED = (
    "failed after 7 restarts, last heartbeat 40 s ago: it dies again and again (then it is tried every 5 min) or "
    "cannot work as configured; `trustchain status --deaths` shows which, `trustchain start ca` tries at once"
)
CT, CA, API = (SERVICES.index(name) for name in ("ct", "ca", "api"))


def once(*others: SlotSnapshot, **changed: Any) -> HealthStatus:
    """The first evaluation of a tree in which `others` are not as they should be."""
    return HealthCheck(SETTINGS).evaluate(tree(START, *others, **changed), facts(START), START)


def run(check: HealthCheck, seconds: float, at: Callable[[int], SlotSnapshot], start: int = START) -> HealthStatus:
    """Evaluate each second, with `at(now)` in the place of its service; return the last result."""
    status = None
    for now in range(start, start + int(seconds * SECOND) + 1, SECOND):
        status = check.evaluate(tree(now, at(now)), facts(now), now)
    assert status is not None
    return status


def test_a_tree_that_is_well_has_the_full_score_and_nothing_to_say() -> None:
    status = once()
    assert (status.state, status.score, status.issues) == (HealthState.HEALTHY, 1.0, ())
    assert list(status.components) == ["monitoring", "ct", "ca", "api", "storage"]
    assert status.ready
    assert status.line == "healthy 1.00, 4/4 workers ready"
    assert {verdict.verdict for verdict in status.verdicts.values()} == {Verdict.KEEP}


@pytest.mark.parametrize(
    ("score", "state"),
    [
        *((score, "healthy") for score in (1.0, 0.9)),
        *((score, "degraded") for score in (0.8999, 0.7)),
        *((score, "unhealthy") for score in (0.6999, 0.3)),
        *((score, "critical") for score in (0.2999, 0.0)),
    ],
)
def test_the_state_follows_from_the_score(score: float, state: str) -> None:
    assert HealthState.of(score) == state


@pytest.mark.parametrize(
    ("changed", "state", "issue"),
    [
        ({"state": "starting", "started_ns": START - 3 * SECOND, "probe_state": ProbeState.UNKNOWN}, "unhealthy",
         "ca: starting for 3.0 s (limit 30 s)"),
        ({"state": "draining"}, "unhealthy", "ca: draining; it takes no new work"),
        ({"state": "stopped", "heartbeat_ns": START - 150 * SECOND}, "critical",
         "ca: stopped by operator, last heartbeat 2 min 30 s ago; `trustchain start ca` brings it back"),
        ({"state": "stopped", "heartbeat_ns": 0}, "critical",
         "ca: stopped by operator; `trustchain start ca` brings it back"),
        ({"state": "stopped", "generation": 0}, "critical", "ca: not started yet"),
        ({"state": "backoff", "restarts": 3, "started_ns": 0, "heartbeat_ns": START - 2 * SECOND}, "critical",
         f"ca: died and waits to be restarted (restart 4), {DIED}"),
        ({"state": "failed", "restarts": 7, "started_ns": 0, "heartbeat_ns": START - 40 * SECOND}, "critical",
         f"ca: {FAILED}"),
        ({"heartbeat_ns": START - 4 * SECOND}, "unhealthy",
         "ca: no heartbeat for 4.0 s; after 5.0 s it counts as hung and is restarted"),
        ({"heartbeat_ns": START - 6 * SECOND}, "critical",
         "ca: no heartbeat for 6.0 s; after 5.0 s it counts as hung and is restarted"),
        ({"probe_state": ProbeState.FAIL_OWN, "note": "cannot sign"}, "critical", "ca: probe failed: cannot sign"),
        ({"probe_state": ProbeState.FAIL_ENVIRONMENT, "note": "data directory is full (/data, 0 B free)"}, "critical",
         "ca: probe failed: data directory is full (/data, 0 B free)"),
        ({"probe_state": ProbeState.FAIL_DEPENDENCY, "note": "no answer"}, "unhealthy",
         "ca: probe failed because of ct: no answer"),
        ({"probe_state": ProbeState.UNKNOWN, "probe_ns": 0, "started_ns": START}, "degraded",
         "ca: has not probed itself yet"),
        ({"probe_ns": START - 17 * SECOND}, "degraded",
         "ca: last probe 17 s ago (expected every 5.0 s); it may be stuck inside"),
        ({"probe_ns": START - 40 * SECOND}, "critical",
         "ca: last probe 40 s ago (expected every 5.0 s); it may be stuck inside"),
        ({"damaged": True}, "critical",
         "ca: its part of the metrics block (slot 2) is damaged; a new process rewrites it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_worker_is_scored_and_said_at_once(
    changed: dict[str, Any], state: str, issue: str
) -> None:
    status = once(slot("ca", START, **changed))
    assert status.components["ca"].state == state
    assert issue in status.issues
    assert status.score <= status.components["ca"].score
    assert status.components["api"].score == 1.0


def test_a_worker_that_waits_for_room_to_start_says_so() -> None:
    changed = {"state": "starting", "probe_state": ProbeState.FAIL_ENVIRONMENT, "note": "no space left"}
    status = once(slot("ca", START, **changed))
    assert status.components["ca"].state is HealthState.CRITICAL
    assert status.issues[0] == "ca: probe failed: no space left"
    assert not status.ready


def test_a_service_without_a_worker_is_critical() -> None:
    status = once(without=("api",))
    assert status.components["api"].score == 0.0
    assert status.state is HealthState.CRITICAL
    assert status.issues == ("api: has no worker; the supervisor has not assigned a slot to it",)
    assert not status.ready


def test_of_two_workers_one_that_serves_keeps_the_component_degraded() -> None:
    dead = slot("api", START, slot=3, index=1, state="backoff")
    status = once(slot("api", START), dead)
    assert status.components["api"].state is HealthState.DEGRADED
    (issue,) = status.issues
    assert issue.startswith("api[1]: died and waits to be restarted (restart 1)")


def test_a_service_that_is_not_required_does_not_cap_the_whole() -> None:
    status = once(slot("extra", START, state="failed"))
    assert status.components["extra"].state is HealthState.CRITICAL
    assert status.score == pytest.approx(5 / 6)  # the mean of six
    assert status.ready


def test_the_line_for_systemctl_names_the_worst_issue_only_when_it_matters() -> None:
    assert once(slot("ca", START, state="stopped", heartbeat_ns=0)).line == (
        "critical 0.00, 3/4 workers ready; ca: stopped by operator; `trustchain start ca` brings it back"
    )


def test_no_traffic_is_not_a_failure() -> None:
    check = HealthCheck(SETTINGS)
    status = run(check, 120, lambda now: slot("ca", now, series=requests("ca")))
    assert status.score == 1.0
    assert status.components["ca"].traffic.success_rate is None


def test_a_handful_of_errors_is_too_few_to_judge_by() -> None:
    check = HealthCheck(SETTINGS)
    run(check, 1, lambda now: slot("ca", now, series=requests("ca")))
    status = run(check, 30, lambda now: slot("ca", now, series=requests("ca", error=9)), START + 2 * SECOND)
    assert status.score == 1.0


def test_errors_count_once_they_last_and_are_forgotten_once_they_stay_away() -> None:
    check = HealthCheck(SETTINGS)
    run(check, 1, lambda now: slot("ca", now, series=requests("ca", ok=10)))
    bad = requests("ca", ok=100, error=20)
    first = run(check, 0, lambda now: slot("ca", now, series=bad), START + 2 * SECOND)
    assert first.components["ca"].score == 1.0  # it may be over in a moment
    status = run(check, 6, lambda now: slot("ca", now, series=bad), START + 3 * SECOND)
    assert status.components["ca"].state is HealthState.UNHEALTHY
    assert "ca: success rate 81.8% over the last 9 s is below 95.0% (20 of 110 requests failed)" in status.issues[0]
    # 62 s later the errors have left the window; what is left is kept for another while.
    just_after = run(check, 62, lambda now: slot("ca", now, series=bad), START + 10 * SECOND)
    assert just_after.components["ca"].state is HealthState.DEGRADED
    assert just_after.issues[0].endswith("(no longer so, but not for 15 s yet)")
    assert run(check, 20, lambda now: slot("ca", now, series=bad), START + 73 * SECOND).score == 1.0


def test_refusals_that_the_caller_deserved_are_not_errors() -> None:
    check = HealthCheck(SETTINGS)
    run(check, 1, lambda now: slot("api", now, series=requests("api")))
    status = run(check, 20, lambda now: slot("api", now, series=requests("api", rejected=1000)), START + 2 * SECOND)
    assert status.score == 1.0
    assert status.components["api"].traffic.success_rate == 1.0


def test_low_success_is_never_a_reason_to_replace() -> None:
    check = HealthCheck(SETTINGS)
    run(check, 1, lambda now: slot("ca", now, series=requests("ca")))
    status = run(check, 50, lambda now: slot("ca", now, series=requests("ca", error=1000)), START + 2 * SECOND)
    assert status.components["ca"].state is HealthState.CRITICAL
    assert status.verdicts[CA].verdict is Verdict.KEEP


@pytest.mark.parametrize(("service", "state"), [("ca", "degraded"), ("api", "healthy")])
def test_only_issuance_has_a_promised_time(service: str, state: str) -> None:
    check = HealthCheck(SETTINGS)
    run(check, 1, lambda now: slot(service, now, series=requests(service)))
    slow = requests(service, ok=100, took=durations(500, 100))
    status = run(check, 10, lambda now: slot(service, now, series=slow), START + 2 * SECOND)
    assert status.components[service].state == state
    if service == "ca":
        assert "is above 100 ms" in status.issues[0]


def test_the_window_looks_at_what_happened_lately_and_not_since_the_start() -> None:
    check = HealthCheck(SETTINGS)
    old = durations(500, 1000)
    both = old.merged(durations(2, 1000))
    run(check, 1, lambda now: slot("ca", now, series=requests("ca", ok=1000, took=old)))
    status = run(check, 10, lambda now: slot("ca", now, series=requests("ca", ok=2000, took=both)), START + 2 * SECOND)
    assert status.score == 1.0
    p99 = status.components["ca"].traffic.duration(0.99)
    assert p99 is not None
    assert p99 < 0.003


def test_counters_that_start_anew_give_no_negative_rate() -> None:
    check = HealthCheck(SETTINGS)
    run(check, 5, lambda now: slot("ca", now, series=requests("ca", ok=5000, error=100)))
    status = run(check, 5, lambda now: slot("ca", now, series=requests("ca", ok=20)), START + 6 * SECOND)
    assert status.components["ca"].traffic.requests == 0
    assert status.score == 1.0


def test_memory_near_its_limit_degrades_and_far_beyond_it_is_a_reason_to_replace() -> None:
    check = HealthCheck(monitoring_settings(unhealthy_after=10.0))
    limit = SETTINGS.monitoring.alert_thresholds.max_memory_mb * 1e6
    near = check.evaluate(tree(START), facts(START, memory=int(limit * 0.95)), START)
    assert near.components["ca"].state is HealthState.DEGRADED
    assert "memory 3891 MB is near its limit of 4096 MB (max_memory_mb)" in near.issues[0]
    status = near
    for second in range(12):
        now = START + second * SECOND
        status = check.evaluate(tree(now), facts(now, memory=int(limit * 1.3)), now)
    assert status.components["ca"].state is HealthState.CRITICAL
    for dependent in (CA, API):
        assert status.verdicts[dependent].verdict is not Verdict.REPLACE, "its dependency is no better"
    assert status.verdicts[CT].verdict is Verdict.REPLACE


def test_restarts_cost_a_little_each_and_are_forgotten_after_five_minutes() -> None:
    check = HealthCheck(SETTINGS)
    check.evaluate(tree(START), facts(START), START)
    scores = []
    for restarts in range(1, 8):
        now = START + restarts * SECOND
        status = check.evaluate(tree(now, slot("ca", now, restarts=restarts)), facts(now), now)
        scores.append(round(status.components["ca"].score, 2))
    assert scores == [0.96, 0.92, 0.88, 0.88, 0.88, 0.88, 0.88]
    now = START + 310 * SECOND
    assert check.evaluate(tree(now, slot("ca", now, restarts=7)), facts(now), now).score == 1.0


def test_a_restart_is_told_even_while_it_costs_too_little_to_degrade() -> None:
    check = HealthCheck(SETTINGS)
    check.evaluate(tree(START), facts(START), START)
    for age, restarts, times in ((0, 1, "once"), (30, 1, "once"), (40, 2, "2 times")):
        now = START + age * SECOND
        status = check.evaluate(tree(now, slot("ca", now, restarts=restarts)), facts(now), now)
        assert status.state is HealthState.HEALTHY
        last = "30 s" if age == 30 else "0.0 s"
        expected = f"ca: restarted {times} within 5 minutes, last {last} ago; `trustchain status --deaths` shows why"
        assert status.issues == (expected,)


def test_what_an_operator_stopped_and_started_again_is_not_held_against_it() -> None:
    check, status = HealthCheck(SETTINGS), once()
    for second, state, restarts in ((0, "ready", 0), (1, "stopped", 0), (2, "starting", 1), (3, "ready", 1)):
        now = START + second * SECOND
        status = check.evaluate(tree(now, slot("ca", now, state=state, restarts=restarts)), facts(now), now)
    assert (status.score, status.issues) == (1.0, ())


def test_a_monitor_that_was_itself_restarted_knows_the_last_start_of_each_worker() -> None:
    started = slot("ca", START, restarts=7, started_ns=START - 20 * SECOND)
    (issue,) = HealthCheck(SETTINGS).evaluate(tree(START, started), facts(START), START).issues
    assert "restarted once within 5 minutes, last 20 s ago" in issue


def test_causes_are_told_before_their_effects_and_all_of_them_before_what_still_serves() -> None:
    unready = slot("monitoring", START, probe_state=ProbeState.UNKNOWN, probe_ns=0, started_ns=START)
    failing = slot("ca", START, probe_state=ProbeState.FAIL_ENVIRONMENT, note="disk full")
    gone = slot("api", START, state="failed")
    status = HealthCheck(SETTINGS).evaluate(tree(START, unready, failing, gone), facts(START, free=0), START)
    assert status.components["api"].score < status.components["ca"].score
    assert [issue.partition(":")[0] for issue in status.issues] == ["storage", "ca", "api", "monitoring"]
    assert "storage" in status.line


def test_the_dependency_that_a_probe_failed_because_of_is_named() -> None:
    status = once(slot("api", START, probe_state=ProbeState.FAIL_DEPENDENCY, note="no answer"))
    assert status.issues == ("api: probe failed because of ca and ct: no answer",)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (61, "61 s"), (119, "119 s"), (120, "2 min"), (123, "2 min 3 s"),
     (3600, "60 min"), (7200, "2 h"), (7380, "2 h 3 min"), (172_800, "2 d"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert span(int(seconds * SECOND)) == text


def test_a_full_disk_is_the_hosts_fault_and_replaces_nobody() -> None:
    check = HealthCheck(SETTINGS)
    status = once()
    for second in range(60):
        now = START + second * SECOND
        failing = slot("ca", now, probe_state=ProbeState.FAIL_OWN, note="disk I/O error")
        status = check.evaluate(tree(now, failing), facts(now, free=0), now)
    assert status.components["storage"].state is HealthState.CRITICAL
    assert "storage: data directory (/data, 0 B free of 100 GiB) is full; free some space" in status.issues
    assert status.verdicts[CA].verdict is Verdict.KEEP
    assert status.verdicts[CA].reason == "the data directory is full"


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [
        (50 * GIB, 100 * GIB, "healthy"),
        (GIB, 1000 * GIB, "healthy"),  # a small share, but plenty
        (20 << 20, 32 << 20, "healthy"),  # little, but a large share of a small file system
        (200 << 20, 100 * GIB, "degraded"),
        (10 << 20, 100 * GIB, "critical"),
        (0, 32 << 20, "critical"),
        (0, 0, "critical"),  # cannot be read
    ],
)
def test_room_is_scarce_when_it_is_little_in_bytes_and_in_share(free: int, total: int, state: str) -> None:
    disk = Disk("/data", free, total)
    status = HealthCheck(SETTINGS).evaluate(tree(START), facts(START, data=disk), START)
    assert status.components["storage"].state == state


def test_no_inodes_is_as_bad_as_no_bytes_and_a_full_shm_is_only_a_warning() -> None:
    check = HealthCheck(SETTINGS)
    no_inodes = facts(START, data=Disk("/data", 50 * GIB, 100 * GIB, 0, 1_000_000))
    assert check.evaluate(tree(START), no_inodes, START).components["storage"].state is HealthState.CRITICAL
    full_shm = facts(START, shared_memory=Disk("/dev/shm", 0, GIB))
    status = check.evaluate(tree(START), full_shm, START)
    assert status.state is HealthState.DEGRADED
    assert "shared memory (/dev/shm, 0 B free of 1 GiB) is full" in status.issues[0]


def test_a_host_that_no_longer_answers_is_told() -> None:
    status = HealthCheck(SETTINGS).evaluate(tree(START), facts(START - 60 * SECOND), START)
    assert status.components["storage"].state is HealthState.DEGRADED
    assert status.issues == (
        "storage: the host was last surveyed 60 s ago; /data does not answer, or the log says why",
    )


class TestVerdict:
    def failing(self, cause: ProbeState = ProbeState.FAIL_OWN, **changed: Any) -> Callable[[int], SlotSnapshot]:
        return lambda now: slot("ca", now, probe_state=cause, note="cannot sign", **changed)

    def test_replace_comes_after_unhealthy_after_and_not_before(self) -> None:
        check = HealthCheck(SETTINGS)
        early = run(check, 9, self.failing())
        assert early.verdicts[CA].verdict is Verdict.KEEP
        assert early.verdict_due_ns == START + 10 * SECOND
        verdict = run(check, 1, self.failing(), START + 9 * SECOND).verdicts[CA]
        assert verdict.verdict is Verdict.REPLACE
        assert verdict.generation == 1
        assert verdict.reason == "ca: probe failed: cannot sign; for 10 s"

    @pytest.mark.parametrize("cause", [ProbeState.FAIL_DEPENDENCY, ProbeState.FAIL_ENVIRONMENT])
    def test_anothers_fault_never_replaces(self, cause: ProbeState) -> None:
        assert run(HealthCheck(SETTINGS), 600, self.failing(cause)).verdicts[CA].verdict is Verdict.KEEP

    def test_a_new_generation_starts_with_a_clean_record(self) -> None:
        check = HealthCheck(SETTINGS)
        assert run(check, 11, self.failing()).verdicts[CA].verdict is Verdict.REPLACE
        fresh = run(check, 0, self.failing(generation=2), START + 12 * SECOND)
        assert fresh.verdicts[CA].verdict is Verdict.KEEP
        healed = run(check, 0, lambda now: slot("ca", now, generation=3), START + 13 * SECOND)
        assert healed.components["ca"].state is HealthState.HEALTHY

    def test_an_interruption_starts_the_patience_anew(self) -> None:
        check = HealthCheck(SETTINGS)
        run(check, 8, self.failing())
        run(check, 9, lambda now: slot("ca", now), START + 9 * SECOND)  # passes long enough to be forgiven
        assert run(check, 8, self.failing(), START + 19 * SECOND).verdicts[CA].verdict is Verdict.KEEP
        assert run(check, 3, self.failing(), START + 27 * SECOND).verdicts[CA].verdict is Verdict.REPLACE

    def test_time_spent_failing_for_anothers_fault_does_not_count(self) -> None:
        check = HealthCheck(SETTINGS)
        run(check, 8, self.failing())
        run(check, 20, self.failing(ProbeState.FAIL_DEPENDENCY), START + 9 * SECOND)
        assert run(check, 8, self.failing(), START + 30 * SECOND).verdicts[CA].verdict is Verdict.KEEP

    def test_a_probe_that_fails_and_passes_in_turn_is_replaced_all_the_same(self) -> None:
        check = HealthCheck(SETTINGS)
        verdicts = set()
        for turn in range(8):
            at = self.failing() if turn % 2 == 0 else lambda now: slot("ca", now)
            verdicts.add(run(check, 4, at, START + 5 * turn * SECOND).verdicts[CA].verdict)
        assert Verdict.REPLACE in verdicts

    def test_a_sick_dependency_never_gets_its_client_replaced(self) -> None:
        check = HealthCheck(SETTINGS)
        for second in range(60):
            now = START + second * SECOND
            ca = slot("ca", now, state="backoff")
            api = slot("api", now, probe_state=ProbeState.FAIL_OWN, note="blames itself")
            status = check.evaluate(tree(now, ca, api), facts(now), now)
            assert status.verdicts[API].verdict is Verdict.KEEP
        # The patience with the client begins when its dependency is back.
        api_fails = lambda now: slot("api", now, probe_state=ProbeState.FAIL_OWN)  # noqa: E731 - as short as it is
        assert run(check, 9, api_fails, START + 60 * SECOND).verdicts[API].verdict is Verdict.KEEP
        assert run(check, 2, api_fails, START + 69 * SECOND).verdicts[API].verdict is Verdict.REPLACE

    def test_a_worker_that_is_silent_inside_is_replaced(self) -> None:
        check = HealthCheck(SETTINGS)
        stuck = run(check, 60, lambda now: slot("ca", now, probe_ns=START))
        assert stuck.verdicts[CA].verdict is Verdict.REPLACE

    def test_a_worker_that_never_got_ready_is_the_supervisors_business(self) -> None:
        status = run(HealthCheck(SETTINGS), 60, self.failing(state="starting"))
        assert status.verdicts[CA].verdict is not Verdict.REPLACE

    def test_nothing_is_known_about_a_worker_that_is_not_ready(self) -> None:
        status = once(slot("ca", START, state="starting", probe_state=ProbeState.UNKNOWN))
        assert status.verdicts[CA].verdict is Verdict.UNKNOWN

    def test_a_failed_probe_that_passes_again_is_watched_before_it_is_forgiven(self) -> None:
        check = HealthCheck(SETTINGS)
        run(check, 2, self.failing())
        first = run(check, 0, lambda now: slot("ca", now), START + 3 * SECOND)
        assert first.components["ca"].state is HealthState.DEGRADED
        assert first.issues == ("ca: its probe passes again; watching whether it stays so",)
        later = run(check, 8, lambda now: slot("ca", now), START + 4 * SECOND)
        assert later.components["ca"].state is HealthState.HEALTHY


def test_a_block_that_cannot_be_read_is_critical_and_judges_nobody() -> None:
    status = HealthCheck(SETTINGS).blind("/dev/shm/x: truncated", facts(START), START)
    assert status.state is HealthState.CRITICAL
    assert status.verdicts == {}
    assert status.issues == (
        "monitoring: /dev/shm/x: truncated; the supervisor rebuilds the block and restarts the workers",
    )
    assert not status.ready
    assert status.components["storage"].state is HealthState.HEALTHY


def test_losses_grow_from_the_least_to_the_most_beyond_a_threshold() -> None:
    assert beyond(1.0, 1.0, 2.0, 0.5) == 0.0
    assert beyond(1.0001, 1.0, 2.0, 0.5) > 0.1
    assert beyond(1.5, 1.0, 2.0, 0.5) == pytest.approx(0.305)
    assert beyond(9.0, 1.0, 2.0, 0.5) == 0.5
