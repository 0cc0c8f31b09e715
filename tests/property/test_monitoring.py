"""Whatever the block, the host or a client says: scores stay scores, alerts take turns, outside text is only read."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from config.schema import AlertThresholds
from monitoring.alerts import Alerts, Reading
from monitoring.export import Exposition, MetricsExporter
from monitoring.health import HealthCheck
from monitoring.history import History
from monitoring.layout import CHILD_STATES, ProbeState, Verdict
from monitoring.scoring import HealthState
from tests.unit.monitoring.snapshots import (
    GIB,
    SECOND,
    SERVICES,
    SETTINGS,
    START,
    durations,
    facts,
    requests,
    slot,
    tree,
)

TOOK = [durations(milliseconds, 50) for milliseconds in (0.5, 90, 150, 5000)]

slots = st.fixed_dictionaries(
    {
        "state": st.sampled_from(CHILD_STATES),
        "generation": st.integers(0, 2),
        "restarts": st.integers(0, 50),
        "probe_state": st.sampled_from(ProbeState),
        "heartbeat_age": st.integers(-SECOND, 100 * SECOND),
        "probe_age": st.integers(-SECOND, 100 * SECOND),
        "counts": st.tuples(*[st.integers(0, 10_000)] * 3),
        "took": st.sampled_from(TOOK),
        "damaged": st.booleans(),
    }
)
moments = st.lists(
    st.tuples(
        st.integers(0, 20 * SECOND),
        st.lists(slots, min_size=len(SERVICES), max_size=len(SERVICES)),
        st.integers(0, 60 * GIB),
        st.integers(0, 10_000_000_000),
    ),
    min_size=1,
    max_size=8,
)


def told(service: str, now: int, found: dict[str, Any]) -> Any:
    rest = {key: found[key] for key in ("state", "generation", "restarts", "probe_state", "damaged")}
    ok, rejected, error = found["counts"]
    return slot(
        service,
        now,
        heartbeat_ns=now - found["heartbeat_age"],
        probe_ns=now - found["probe_age"],
        series=requests(service, ok, rejected, error, found["took"]),
        **rest,
    )


@given(moments)
def test_scores_states_and_verdicts_always_agree(history: list[Any]) -> None:
    check = HealthCheck(SETTINGS)
    now = START
    for later, slots_of_all, free, memory in history:
        now += later
        workers = [told(service, now, found) for service, found in zip(SERVICES, slots_of_all, strict=True)]
        status = check.evaluate(tree(now, *workers), facts(now, free=free, memory=memory), now)
        scores = [component.score for component in status.components.values()]
        assert all(0.0 <= score <= 1.0 for score in scores)
        assert status.score == min(scores), "all are required"
        for component in status.components.values():
            assert component.state is HealthState.of(component.score)
            if component.state is not HealthState.HEALTHY:
                assert component.issues, "what is not healthy says why"
        for worker in (worker for component in status.components.values() for worker in component.workers):
            verdict = status.verdicts[worker.slot.slot]
            assert verdict.generation == worker.slot.generation
            if verdict.verdict is Verdict.REPLACE:
                assert worker.ready
                assert worker.score < 0.3
                assert worker.own_fault
                assert status.components["storage"].state is not HealthState.CRITICAL
        assert len(status.line.splitlines()) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_firing_and_resolving_take_turns(figures: list[tuple[int, bool]]) -> None:
    alerts = Alerts(AlertThresholds())
    now, lasts = START, False
    for later, bad in figures:
        now += later * SECOND
        changes = alerts.update([Reading("memory_high", "ca", 5000.0 if bad else 10.0, {})], now)
        assert len(changes.fired) + len(changes.resolved) <= 1
        assert not (changes.fired and lasts)
        assert not (changes.resolved and not lasts)
        lasts = bool(alerts.firing)


@given(
    st.integers(1, 500),
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 90), st.floats(allow_nan=False, allow_infinity=False)), max_size=200),
)
def test_history_is_a_bounded_window_on_what_was_recorded(
    retention: int, interval: int, rows: list[tuple[int, float]]
) -> None:
    history, now, kept = History(retention, interval), START, []
    for later, value in rows:
        now += later * SECOND
        if history.due(now):
            history.record({"ca.score": value}, now)
            kept.append((now, value))
    series = history.series("ca", 0, now)
    found = list(zip(series.times_ns, series.columns.get("score", ()), strict=True))
    wanted = [row for row in kept if row[0] >= now - retention * SECOND]
    assert bool(found) == bool(wanted)
    assert found == wanted[len(wanted) - len(found) :]
    assert len(found) <= max(2, retention // interval)


@given(st.text(max_size=300))
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    rendered = MetricsExporter().negotiated(Exposition(0.0, "1", ()), accept)
    assert "/" in rendered.content_type
