"""The whole tree, with a clock that the tests move: order, dependencies, heartbeats, verdicts."""

import signal
from collections.abc import Callable

import pytest

from supervisor.child import SECOND, ChildSpec, Exit
from supervisor.child_events import ReadBeat, Signal
from supervisor.lifecycle import State
from supervisor.tree import (
    ChildDied,
    ChildReady,
    HeartbeatSeen,
    Tick,
    VerdictSeen,
    grow,
    next_deadline,
)
from tests.unit.supervisor.play import POLICY, REPLACE, SPECS, Play


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
