"""The table of one child's life: every pair of state and event, and what each transition promises."""

import itertools
import signal
from dataclasses import replace

import pytest

from config.inheritance import EXIT_CONFIG
from monitoring.block import CHILD_STATES
from supervisor.child import SECOND, Cause, ChildSpec, Exit
from supervisor.child_events import (
    Abort,
    Beat,
    Begin,
    Died,
    Dismiss,
    Due,
    End,
    Event,
    Excuse,
    ReadBeat,
    Ready,
    RecordDeath,
    Renew,
    Signal,
    Start,
    Stuck,
    Want,
)
from supervisor.errors import CONFIGURATION_ERROR
from supervisor.lifecycle import ALIVE, KILL_AGAIN_NS, TABLE, Child, Policy, Result, State, step
from supervisor.restart import History, Limits

NOW = 1_000 * SECOND
POLICY = Policy(
    restart=Limits(
        stable_ns=SECOND // 2,
        backoff_initial_ns=SECOND // 10,
        backoff_max_ns=30 * SECOND,
        backoff_jitter=0.0,
        intensity=5,
        period_ns=60 * SECOND,
        failed_retry_ns=300 * SECOND,
    ),
    heartbeat_timeout_ns=5 * SECOND,
    ready_timeout_ns=30 * SECOND,
    drain_timeout_ns=10 * SECOND,
    abort_grace_ns=SECOND // 5,
)
EVENTS: tuple[Event, ...] = (
    Begin(),
    Due(),
    Ready(),
    Died(Exit(code=1), 0.5),
    Beat(NOW - SECOND),
    Excuse(watched=True),
    End(Cause.VERDICT, again=True),
    End(Cause.OPERATOR, again=False),
    Abort(),
    Dismiss(),
    Want(),
    Renew(),
)

PAIRS = list(itertools.product(State, EVENTS))


def child(state: State, **fields: object) -> Child:
    """A child that has been in `state` for longer than any limit, with a process where the state has one."""
    spec = ChildSpec(name="ca", slot=1)
    usual = {
        State.STOPPED: Child(spec=spec),
        State.STARTING: Child(spec=spec, generation=1, started_at=NOW - 40 * SECOND, deadline=NOW - 10 * SECOND),
        State.READY: Child(
            spec=spec, generation=1, started_at=NOW - 40 * SECOND, ready_at=NOW - 39 * SECOND, deadline=NOW - SECOND
        ),
        State.DRAINING: Child(spec=spec, generation=1, ending=Cause.OPERATOR, deadline=NOW - SECOND),
        State.BACKOFF: Child(spec=spec, generation=1, deadline=NOW - SECOND, history=History(1, (NOW - SECOND,))),
        State.FAILED: Child(spec=spec, generation=6, deadline=NOW - SECOND, history=History(6, (NOW - SECOND,))),
    }[state]
    return replace(usual, state=state, **fields)  # type: ignore[arg-type] # tests name real fields


def signals(result: Result) -> list[signal.Signals]:
    return [action.number for action in result[1] if isinstance(action, Signal)]


def starts(result: Result) -> list[int]:
    return [action.generation for action in result[1] if isinstance(action, Start)]


NEXT_STATES = {
    #                stopped    starting    ready       draining    backoff     failed
    "Begin":        "starting   starting    ready       draining    backoff     failed",
    "Due":          "stopped    draining    ready       draining    starting    starting",
    "Ready":        "stopped    ready       ready       draining    backoff     failed",
    "Died":         "stopped    backoff     starting    starting    backoff     failed",
    "Beat":         "stopped    starting    ready       draining    backoff     failed",
    "Excuse":       "stopped    starting    ready       draining    backoff     failed",
    "End again":    "stopped    draining    draining    draining    backoff     failed",
    "End":          "stopped    draining    draining    draining    stopped     stopped",
    "Abort":        "stopped    draining    draining    draining    stopped     failed",
    "Dismiss":      "stopped    starting    ready       draining    stopped     failed",
    "Want":         "stopped    starting    ready       draining    starting    starting",
    "Renew":        "stopped    draining    draining    draining    starting    starting",
}  # fmt: skip


def test_a_child_is_vacant_when_no_process_is_about_to_answer_its_callers() -> None:
    assert [state for state in State if child(state, generation=1).vacant] == [State.STOPPED, State.FAILED]
    assert not child(State.STOPPED, generation=0).vacant, "it waits for what it depends on"
    assert child(State.STOPPED, generation=0, wanted=False).vacant, "stopped by the operator before it began"


def named(event: Event) -> str:
    return "End again" if isinstance(event, End) and event.again else type(event).__name__


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_every_pair_of_state_and_event_leads_where_the_table_says(state: State, event: Event) -> None:
    expected = dict(zip(State, NEXT_STATES[named(event)].split(), strict=True))[state]
    assert step(child(state), event, NOW, POLICY)[0].state == expected


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_a_process_is_started_only_where_none_exists(state: State, event: Event) -> None:
    before = child(state)
    after, actions = step(before, event, NOW, POLICY)
    started = [action for action in actions if isinstance(action, Start)]
    if started:
        assert state not in ALIVE or isinstance(event, Died)
        assert [action.generation for action in started] == [before.generation + 1] == [after.generation]
    assert (after.generation > before.generation) == bool(started)


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_a_process_disappears_from_the_table_only_by_its_death(state: State, event: Event) -> None:
    after, actions = step(child(state), event, NOW, POLICY)
    recorded = any(isinstance(action, RecordDeath) for action in actions)
    assert recorded == (state in ALIVE and isinstance(event, Died))
    if state in ALIVE and not recorded:
        assert after.state in ALIVE


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_only_the_operator_makes_an_unwanted_child_wanted(state: State, event: Event) -> None:
    after, actions = step(child(state, wanted=False), event, NOW, POLICY)
    if not isinstance(event, Want | Renew) and state not in (State.BACKOFF, State.FAILED):
        assert not after.wanted
        assert not any(isinstance(action, Start) for action in actions)


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair[0] in ALIVE], ids=str)
def test_whatever_has_to_end_has_a_deadline(state: State, event: Event) -> None:
    after, _ = step(child(state), event, NOW, POLICY)
    if after.state in (State.STARTING, State.DRAINING):
        assert after.deadline is not None


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(itertools.product(State, {type(event) for event in EVENTS}))


def test_states_are_those_of_the_metrics_block() -> None:
    assert tuple(State) == CHILD_STATES


def test_the_exit_code_of_a_configuration_error_is_that_of_the_workers() -> None:
    assert CONFIGURATION_ERROR == EXIT_CONFIG


def test_readiness_starts_the_heartbeat_clock() -> None:
    after, actions = step(child(State.STARTING), Ready(), NOW, POLICY)
    assert (after.ready_at, after.deadline, actions) == (NOW, NOW + 5 * SECOND, ())


def test_a_heartbeat_is_read_only_when_the_last_one_is_as_old_as_the_limit() -> None:
    after, actions = step(child(State.READY), Due(), NOW, POLICY)
    assert actions == (ReadBeat("ca", 1),)
    after, actions = step(after, Beat(NOW - SECOND), NOW, POLICY)
    assert (after.deadline, actions) == (NOW + 4 * SECOND, ())


def test_a_silent_process_is_aborted_with_a_traceback_even_if_it_is_stopped() -> None:
    result = step(child(State.READY), Beat(NOW - 5 * SECOND), NOW, POLICY)
    assert signals(result) == [signal.SIGABRT, signal.SIGCONT]
    assert (result[0].ending, result[0].deadline) == (Cause.HANG, NOW + SECOND // 5)


def test_a_heartbeat_from_the_future_is_none() -> None:
    result = step(child(State.READY), Beat(NOW + SECOND), NOW, POLICY)
    assert result[0].ending is Cause.HANG


def test_a_process_that_is_not_ready_in_time_is_aborted() -> None:
    result = step(child(State.STARTING), Due(), NOW, POLICY)
    assert signals(result) == [signal.SIGABRT, signal.SIGCONT]
    assert result[0].ending is Cause.NOT_READY


def test_no_heartbeat_is_expected_of_a_process_that_drains() -> None:
    after, actions = step(child(State.DRAINING), Beat(0), NOW, POLICY)
    assert (after, actions) == (child(State.DRAINING), ())


def test_a_drain_begins_with_sigterm_that_reaches_a_stopped_process_too() -> None:
    result = step(child(State.READY), End(Cause.OPERATOR, again=False), NOW, POLICY)
    assert signals(result) == [signal.SIGTERM, signal.SIGCONT]
    assert result[0].deadline == NOW + 10 * SECOND


def test_a_drain_that_takes_too_long_ends_with_sigkill_and_is_recorded_as_such() -> None:
    result = step(child(State.DRAINING, wanted=False), Due(), NOW, POLICY)
    assert signals(result) == [signal.SIGKILL]
    after, actions = step(result[0], Died(Exit(signal=9), 0.5), NOW, POLICY)
    assert after.state is State.STOPPED
    assert [action.death.drain_timed_out for action in actions if isinstance(action, RecordDeath)] == [True]


def test_sigkill_without_effect_is_repeated_and_reported() -> None:
    first = step(child(State.DRAINING), Due(), NOW, POLICY)
    assert not any(isinstance(action, Stuck) for action in first[1])
    second = step(first[0], Due(), NOW + KILL_AGAIN_NS, POLICY)
    assert signals(second) == [signal.SIGKILL]
    assert any(isinstance(action, Stuck) for action in second[1])


def test_a_second_request_to_end_does_not_prolong_the_drain() -> None:
    before = child(State.DRAINING, deadline=NOW + SECOND)
    after, actions = step(before, End(Cause.OPERATOR, again=False), NOW, POLICY)
    assert (after.deadline, after.wanted, actions) == (NOW + SECOND, False, ())


def test_a_planned_replacement_starts_at_once_and_is_not_counted() -> None:
    before = child(State.DRAINING, ending=Cause.VERDICT, history=History(3, (NOW,)))
    result = step(before, Died(Exit(code=0), 0.5), NOW, POLICY)
    assert starts(result) == [2]
    assert result[0].history == History()


def test_a_hang_of_a_young_process_counts_as_early_death() -> None:
    before = child(State.DRAINING, ending=Cause.NOT_READY)
    after, actions = step(before, Died(Exit(signal=6), 0.5), NOW, POLICY)
    assert (after.state, after.deadline) == (State.BACKOFF, NOW + SECOND // 10)
    assert [action.death.cause for action in actions if isinstance(action, RecordDeath)] == [Cause.NOT_READY]


def test_the_operator_takes_a_stop_back_while_the_process_still_drains() -> None:
    stopping, _ = step(child(State.READY), End(Cause.OPERATOR, again=False), NOW, POLICY)
    wanted, _ = step(stopping, Want(), NOW, POLICY)
    assert starts(step(wanted, Died(Exit(code=0), 0.5), NOW, POLICY)) == [2]


def test_the_operators_start_forgets_earlier_deaths() -> None:
    result = step(child(State.FAILED), Want(), NOW, POLICY)
    assert starts(result) == [7]
    assert result[0].history == History()


def test_a_retry_of_a_failed_child_is_on_trial() -> None:
    after, _ = step(child(State.FAILED), Due(), NOW, POLICY)
    assert after.history.on_trial
    again, _ = step(after, Died(Exit(code=1), 0.5), NOW + SECOND, POLICY)
    assert (again.state, again.deadline) == (State.FAILED, NOW + 301 * SECOND)


def test_a_configuration_error_is_kept_and_never_retried() -> None:
    after, actions = step(child(State.STARTING), Died(Exit(code=78), 0.5), NOW, POLICY)
    assert (after.state, after.deadline) == (State.FAILED, None)
    assert "configuration error" in after.detail
    assert [action.death.cause for action in actions if isinstance(action, RecordDeath)] == [Cause.CONFIGURATION]


def test_a_permanent_child_that_exits_with_0_unasked_is_started_again() -> None:
    result = step(child(State.READY), Died(Exit(code=0), 0.5), NOW, POLICY)
    assert starts(result) == [2]


def test_an_excused_child_gets_a_whole_timeout_again() -> None:
    excused, _ = step(child(State.READY), Excuse(watched=True), NOW, POLICY)
    assert excused.deadline == NOW + 5 * SECOND
    late = step(excused, Beat(NOW - 20 * SECOND), NOW + 4 * SECOND, POLICY)
    assert late[0].state is State.READY
    assert step(late[0], Beat(NOW - 20 * SECOND), NOW + 5 * SECOND, POLICY)[0].ending is Cause.HANG


def test_a_process_on_a_discarded_block_is_not_watched_until_it_is_replaced() -> None:
    blind, _ = step(child(State.READY), Excuse(watched=False), NOW, POLICY)
    assert (blind.watched, blind.deadline) == (False, None)
    assert step(blind, Excuse(watched=True), NOW, POLICY)[0].deadline is None
    assert step(blind, Died(Exit(signal=7), 0.5), NOW, POLICY)[0].watched


def test_a_death_tells_how_old_the_last_heartbeat_was() -> None:
    _, actions = step(child(State.READY), Died(Exit(signal=9), 0.5, beat_at=NOW - SECOND), NOW, POLICY)
    deaths = [action.death for action in actions if isinstance(action, RecordDeath)]
    assert [death.heartbeat_age_ns for death in deaths] == [SECOND]
    assert [death.uptime_ns for death in deaths] == [40 * SECOND]
