"""Verdicts on the board, written by the test in the monitor's place."""

import time
from collections.abc import Callable

import pytest

from monitoring.block import Board, BoardWriter, SlotVerdict, Verdict
from tests.fault.supervisor.toy_tree import SLOTS, ToyTree

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]


def publish(tree: ToyTree, age: float = 0.0, **generations: int) -> None:
    """Publish a board that wants these generations replaced."""
    sick = {name: SlotVerdict(Verdict.REPLACE, number, "its probe fails") for name, number in generations.items()}
    wanted = {SLOTS[name]: verdict for name, verdict in sick.items()}
    writer = BoardWriter.attach(tree.paths.block_name)
    writer.publish(Board(time.monotonic_ns() - int(age * 1e9), 0.4, "unhealthy", "health 0.40: a is sick", wanted))
    writer.close()


def test_a_worker_with_a_verdict_is_drained_and_replaced(toys: ToyTree) -> None:
    pid = toys.worker_pid("a")
    publish(toys, a=1)
    toys.wait_replaced("a", pid, 3.0)
    death = toys.deaths("a")[-1]
    assert (death.reason, death.detail, death.exit_code) == ("verdict", "its probe fails", 0)
    status = toys.ask("status").status
    assert status is not None
    assert (status.supervisor.health, status.supervisor.health_score) == ("unhealthy", 0.4)


def test_a_stale_or_foreign_verdict_kills_nobody(new_toys: Toys) -> None:
    tree = new_toys(limits={"verdict_max_age": 10.0})
    tree.start_ready()
    pids = [tree.worker_pid(name) for name in "abc"]
    time.sleep(0.2)
    publish(tree, age=11, a=1)
    time.sleep(1.3)
    publish(tree, a=2, b=0)
    time.sleep(1.3)
    assert [tree.worker_pid(name) for name in "abc"] == pids


def test_replacements_come_one_at_a_time_with_a_cool_down(new_toys: Toys) -> None:
    tree = new_toys(limits={"replace_cooldown": 1.6})
    tree.start_ready()
    a, b = tree.worker_pid("a"), tree.worker_pid("b")
    publish(tree, a=1, b=1)
    tree.wait_replaced("a", a, 3.0)
    replaced_at = time.monotonic()
    assert tree.worker_pid("b") == b
    tree.wait_replaced("b", b, 6.0)
    assert time.monotonic() - replaced_at > 0.9
