"""The whole tree, with a clock that the tests move: order, dependencies, verdicts, blocks, shutdown."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from supervisor.child import SECOND, Cause, ChildSpec, Exit
from supervisor.lifecycle import Action, Policy, ReadBeat, RecordDeath, Signal, Start, State
from supervisor.restart import Limits
from supervisor.tree import (
    BlockReplaced,
    ChildBroken,
    ChildDied,
    ChildReady,
    Event,
    HeartbeatSeen,
    OperatorRestart,
    OperatorStart,
    OperatorStop,
    ReplacePolicy,
    Shutdown,
    Stalled,
    Tick,
    Tree,
    VerdictSeen,
    grow,
    next_deadline,
    step,
)

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
REPLACE = ReplacePolicy(cooldown_ns=30 * SECOND, verdict_max_age_ns=60 * SECOND)
SPECS = (
    ChildSpec(name="monitoring", slot=0),
    ChildSpec(name="ca", slot=1),
    ChildSpec(name="api", slot=2, depends_on=("ca",)),
)


@dataclass
class Play:
    """A tree, the time, and all that was asked of the shell since the last `take`."""

    tree: Tree = field(default_factory=lambda: grow(SPECS, POLICY, REPLACE))
    now: int = 100 * SECOND
    actions: list[Action] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self.tree, actions = step(self.tree, event, self.now)
        self.actions += actions

    def take(self) -> list[Action]:
        taken, self.actions = self.actions, []
        return taken

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.tell(Tick())

    def state(self, name: str) -> State:
        return self.tree.children[name].state

    def generation(self, name: str) -> int:
        return self.tree.children[name].generation

    def ready(self, name: str) -> None:
        self.tell(ChildReady(name, self.generation(name)))

    def dies(self, name: str, died: Exit = Exit(signal=9)) -> None:  # noqa: B008 - a frozen value
        self.tell(ChildDied(name, self.generation(name), died, 0.5))

    def verdict(self, name: str, age: float = 0.0, generation: int | None = None) -> None:
        published = self.now - int(age * SECOND)
        self.tell(VerdictSeen(name, generation or self.generation(name), published, "probe fails"))

    def replace_block(self) -> None:
        self.tell(BlockReplaced(tuple((child.spec.name, child.generation) for child in self.tree.children.values())))

    def starts(self) -> list[str]:
        return [action.name for action in self.take() if isinstance(action, Start)]

    def signals(self) -> list[tuple[str, signal.Signals]]:
        return [(action.name, action.number) for action in self.take() if isinstance(action, Signal)]


@pytest.fixture
def play() -> Play:
    """A tree in which nothing runs yet."""
    return Play()


@pytest.fixture
def running() -> Play:
    """A tree whose children have been ready for ten seconds."""
    play = Play()
    play.tell(Tick())
    for name in play.tree.children:
        play.ready(name)
    play.now += 10 * SECOND
    for name in play.tree.children:
        play.tell(HeartbeatSeen(name, 1, play.now))
    play.take()
    return play


def test_a_child_first_starts_when_all_that_it_depends_on_is_ready(play: Play) -> None:
    play.tell(Tick())
    assert play.starts() == ["monitoring", "ca"]
    assert play.tree.waiting_for(play.tree.children["api"]) == ("ca",)
    play.ready("monitoring")
    assert play.starts() == []
    play.ready("ca")
    assert play.starts() == ["api"]


def test_a_child_whose_dependency_dies_before_it_was_ready_goes_on_waiting(play: Play) -> None:
    play.tell(Tick())
    play.dies("ca")
    assert (play.state("ca"), play.state("api")) == (State.BACKOFF, State.STOPPED)


def test_the_tree_is_complete_once_every_required_child_is_ready(play: Play) -> None:
    play.tell(Tick())
    for name in ("monitoring", "ca"):
        play.ready(name)
        assert not play.tree.complete
    play.ready("api")
    assert play.tree.complete


def test_a_child_that_is_not_required_does_not_hold_up_the_tree() -> None:
    play = Play(grow((SPECS[1], ChildSpec(name="extra", slot=3, required=False)), POLICY, REPLACE))
    play.tell(Tick())
    play.ready("ca")
    assert play.tree.complete


def test_the_death_of_a_dependency_leaves_its_clients_alone(running: Play) -> None:
    running.dies("ca")
    assert running.starts() == ["ca"]
    assert running.state("api") is State.READY


def test_a_client_is_restarted_without_waiting_for_its_dependency(running: Play) -> None:
    running.dies("ca")
    running.dies("api")
    assert running.starts() == ["ca", "api"]


def test_one_child_in_a_crash_loop_fails_and_the_others_never_notice(running: Play) -> None:
    running.dies("ca")
    for _ in range(20):
        running.wait(1.7)
        if running.state("ca") is State.STARTING:
            running.dies("ca", Exit(code=1))
        for name in ("monitoring", "api"):
            running.tell(HeartbeatSeen(name, 1, running.now))
    assert running.state("ca") is State.FAILED
    assert [running.generation(name) for name in ("monitoring", "api")] == [1, 1]
    assert running.tree.complete
    assert not running.tree.stopping


def test_a_failed_child_is_tried_again_after_the_retry_time(running: Play) -> None:
    while running.state("ca") is not State.FAILED:
        running.wait(2)
        if running.state("ca") in (State.STARTING, State.READY):
            running.dies("ca", Exit(code=1))
    running.take()
    running.wait(299)
    assert "ca" not in running.starts()
    running.wait(1)
    assert "ca" in running.starts()


def test_a_stopped_process_that_stops_beating_is_replaced_within_the_promise(running: Play) -> None:
    """Half a second beyond the timeout, at the clock times that the tree itself asks for."""
    frozen_at = running.now
    while running.generation("ca") == 1:
        due = next_deadline(running.tree)
        assert due is not None
        running.now = max(due, running.now)
        running.tell(Tick())
        for action in running.take():
            if isinstance(action, ReadBeat):
                beat = frozen_at if action.name == "ca" else running.now
                running.tell(HeartbeatSeen(action.name, action.generation, beat))
            if isinstance(action, Signal) and action.number is signal.SIGKILL:
                running.dies(action.name)
    assert running.now - frozen_at <= 5.5 * SECOND


def test_news_of_an_older_generation_is_ignored(running: Play) -> None:
    running.dies("ca")
    running.take()
    before = running.tree
    running.tell(ChildDied("ca", 1, Exit(signal=9), 0.5))
    running.tell(ChildReady("ca", 1))
    running.tell(HeartbeatSeen("ca", 1, 0))
    running.tell(VerdictSeen("ca", 1, running.now, "late"))
    assert running.tree == before
    assert running.take() == []


# -- verdicts


def test_a_fresh_verdict_drains_the_worker_and_starts_another(running: Play) -> None:
    running.verdict("ca")
    assert running.signals() == [("ca", signal.SIGTERM), ("ca", signal.SIGCONT)]
    running.dies("ca", Exit(code=0))
    assert running.starts() == ["ca"]


@pytest.mark.parametrize(
    "verdict",
    [
        lambda play: play.verdict("ca", age=60.1),
        lambda play: play.verdict("ca", age=-1),
        lambda play: play.verdict("ca", age=10.5),
        lambda play: play.verdict("ca", generation=7),
    ],
    ids=["stale", "from the future", "from before it was ready", "about another generation"],
)
def test_a_verdict_that_proves_nothing_does_nothing(running: Play, verdict: Callable[[Play], None]) -> None:
    before = running.tree
    verdict(running)
    assert running.tree == before


def test_only_one_worker_at_a_time_is_replaced_for_a_verdict(running: Play) -> None:
    running.verdict("ca")
    running.take()
    running.now += 40 * SECOND
    running.verdict("api")
    assert running.signals() == []
    running.dies("ca")
    running.ready("ca")
    running.verdict("api")
    assert [name for name, _ in running.signals()] == ["api", "api"]


def test_replacements_keep_the_cool_down(running: Play) -> None:
    running.verdict("ca")
    running.dies("ca")
    running.ready("ca")
    running.take()
    running.now += 29 * SECOND
    running.verdict("api")
    assert running.signals() == []
    running.now += SECOND
    running.verdict("api")
    assert len(running.signals()) == 2


def test_a_replacement_that_fails_by_itself_does_not_block_the_next_one(running: Play) -> None:
    running.verdict("ca")
    running.dies("ca")
    running.dies("ca", Exit(code=78))
    assert running.state("ca") is State.FAILED
    running.now += 40 * SECOND
    running.take()
    running.verdict("api")
    assert len(running.signals()) == 2


# -- the operator


def test_an_operators_stop_is_undone_by_nothing(running: Play) -> None:
    running.tell(OperatorStop("ca"))
    running.dies("ca", Exit(code=1))
    running.take()
    running.tell(VerdictSeen("ca", 1, running.now, "unhealthy"))
    running.replace_block()
    running.tell(Stalled())
    for _ in range(10):
        running.wait(100)
    assert "ca" not in running.starts()
    assert running.state("ca") is State.STOPPED


@pytest.mark.parametrize("state", [State.BACKOFF, State.FAILED])
def test_an_operators_stop_ends_retries(running: Play, state: State) -> None:
    while running.state("ca") is not state:
        running.wait(3)
        if running.state("ca") in (State.STARTING, State.READY):
            running.dies("ca", Exit(code=1))
            if running.state("ca") is State.STARTING:
                running.dies("ca", Exit(code=1))
    running.tell(OperatorStop("ca"))
    running.take()
    running.wait(1000)
    assert "ca" not in running.starts()


def test_an_operators_start_brings_back_what_the_operator_stopped(running: Play) -> None:
    running.tell(OperatorStop("ca"))
    running.dies("ca", Exit(code=0))
    running.take()
    running.tell(OperatorStart("ca"))
    assert running.starts() == ["ca"]


def test_an_operators_restart_drains_first(running: Play) -> None:
    running.tell(OperatorRestart("ca"))
    assert running.signals() == [("ca", signal.SIGTERM), ("ca", signal.SIGCONT)]
    running.dies("ca", Exit(code=0))
    assert running.starts() == ["ca"]


def test_an_operators_restart_of_a_stopped_or_failed_child_starts_it(running: Play) -> None:
    running.tell(OperatorStop("ca"))
    running.dies("ca", Exit(code=0))
    running.dies("api")
    running.dies("api", Exit(code=78))
    running.take()
    running.tell(OperatorRestart("ca"))
    running.tell(OperatorRestart("api"))
    assert running.starts() == ["ca", "api"]


# -- shutdown


def test_shutdown_drains_one_after_the_other_in_reverse_order(running: Play) -> None:
    running.tell(Shutdown())
    for name in ("api", "ca", "monitoring"):
        assert running.signals() == [(name, signal.SIGTERM), (name, signal.SIGCONT)]
        assert not running.tree.ended
        running.dies(name, Exit(code=0))
    assert running.tree.ended
    assert running.tree.exit_code == 0


def test_nothing_is_started_during_a_shutdown(running: Play) -> None:
    running.dies("ca")
    running.tell(Shutdown())
    running.dies("ca", Exit(code=1))
    running.dies("monitoring", Exit(code=1))
    running.take()
    running.tell(OperatorStart("ca"))
    running.replace_block()
    running.wait(1000)
    assert running.starts() == []
    running.dies("api", Exit(code=0))
    assert running.tree.ended


def test_a_second_signal_kills_at_once(running: Play) -> None:
    running.tell(Shutdown())
    running.take()
    running.tell(Shutdown(immediately=True))
    assert running.signals() == [(name, signal.SIGKILL) for name in ("monitoring", "ca", "api")]
    for name in ("monitoring", "ca", "api"):
        running.dies(name)
    assert running.tree.ended


def test_a_worker_that_does_not_drain_holds_the_shutdown_up_no_longer_than_allowed(running: Play) -> None:
    running.tell(Shutdown())
    running.take()
    running.wait(10)
    assert running.signals() == [("api", signal.SIGKILL)]


def test_a_shutdown_before_anything_is_ready_ends_too(play: Play) -> None:
    play.tell(Tick())
    play.tell(Shutdown())
    play.dies("ca", Exit(signal=15))
    play.dies("monitoring", Exit(signal=15))
    assert play.tree.ended


# -- configuration errors


def test_a_configuration_error_before_the_tree_was_complete_ends_it_with_78(play: Play) -> None:
    play.tell(Tick())
    play.ready("monitoring")
    play.dies("ca", Exit(code=78))
    assert play.signals() == [("monitoring", signal.SIGTERM), ("monitoring", signal.SIGCONT)]
    play.dies("monitoring", Exit(code=0))
    assert play.tree.ended
    assert play.tree.exit_code == 78


def test_a_configuration_error_later_fails_that_child_only(running: Play) -> None:
    running.dies("ca")
    running.dies("ca", Exit(code=78))
    assert running.state("ca") is State.FAILED
    assert not running.tree.stopping
    running.take()
    running.wait(10_000)
    assert "ca" not in running.starts()


# -- the block, the supervisor's own troubles


def test_a_new_block_replaces_every_worker_one_after_the_other_in_start_order(running: Play) -> None:
    running.replace_block()
    for name in ("monitoring", "ca", "api"):
        assert running.signals() == [(name, signal.SIGTERM), (name, signal.SIGCONT)]
        running.dies(name, Exit(code=0))
        assert running.starts() == [name]
        running.ready(name)
    running.tell(Tick())
    assert running.take() == []
    causes = {child.history for child in running.tree.children.values()}
    assert len(causes) == 1


def test_a_worker_that_waits_for_its_replacement_is_not_taken_for_hung(running: Play) -> None:
    running.replace_block()
    running.take()
    running.wait(9)
    assert not [action for action in running.take() if isinstance(action, ReadBeat)]
    assert running.state("api") is State.READY


def test_a_worker_that_died_of_the_damage_is_not_replaced_twice(running: Play) -> None:
    running.replace_block()
    running.dies("api", Exit(signal=7))
    running.ready("api")
    for name in ("monitoring", "ca"):
        running.dies(name, Exit(code=0))
        running.ready(name)
    assert [running.generation(name) for name in ("monitoring", "ca", "api")] == [2, 2, 2]
    assert running.tree.rolling == ()
    assert running.tree.replacing is None


def test_a_process_that_was_started_on_the_new_block_stays(running: Play) -> None:
    running.dies("ca")
    running.take()
    running.tell(BlockReplaced((("monitoring", 1), ("ca", 1), ("api", 1))))
    running.dies("monitoring", Exit(code=0))
    running.ready("monitoring")
    assert [name for name, _ in running.signals()] == ["monitoring", "monitoring", "api", "api"]
    assert running.tree.children["ca"].watched


def test_a_supervisor_that_was_stopped_itself_does_not_blame_its_workers(running: Play) -> None:
    slept_from = running.now
    running.now += 3600 * SECOND
    running.tell(Stalled())
    running.tell(Tick())
    for name in running.tree.children:
        running.tell(HeartbeatSeen(name, 1, slept_from))
    assert all(child.state is State.READY for child in running.tree.children.values())


def test_an_error_of_the_supervisor_costs_the_child_it_was_working_for(running: Play) -> None:
    running.tell(ChildBroken("ca", 1, "ValueError: x"))
    running.dies("ca", Exit(code=0))
    deaths = [action.death for action in running.take() if isinstance(action, RecordDeath)]
    assert [(death.service, death.cause) for death in deaths] == [("ca", Cause.SUPERVISOR)]
    assert running.state("ca") is State.STARTING
    assert running.state("api") is State.READY


def test_a_dependency_that_does_not_come_first_is_an_error_of_the_topology() -> None:
    with pytest.raises(ValueError, match="api depends on ca, which does not come before it"):
        grow((SPECS[2], SPECS[1]), POLICY, REPLACE)
    with pytest.raises(ValueError, match="two children are named 'ca'"):
        grow((SPECS[1], SPECS[1]), POLICY, REPLACE)


def test_an_idle_tree_asks_for_nothing_but_heartbeats(running: Play) -> None:
    assert next_deadline(running.tree) == running.now + 5 * SECOND
