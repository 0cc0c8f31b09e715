"""The whole tree under the operator's commands, at its end, and when its own means fail: block, clock, code."""

import signal

import pytest

from supervisor.child import SECOND, Cause, Exit
from supervisor.child_events import ReadBeat, RecordDeath
from supervisor.lifecycle import State
from supervisor.tree import (
    BlockReplaced,
    ChildBroken,
    HeartbeatSeen,
    OperatorRestart,
    OperatorStart,
    OperatorStop,
    Shutdown,
    Stalled,
    Tick,
    VerdictSeen,
    grow,
    next_deadline,
)
from tests.unit.supervisor.play import POLICY, REPLACE, SPECS, Play

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
