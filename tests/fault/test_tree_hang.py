"""Workers that live but do nothing: frozen by SIGSTOP, or with an event loop that is blocked."""

import signal
from collections.abc import Callable

import pytest

from tests.rig import processes
from tests.rig.recovery import recovery
from tests.rig.tree import SERVICES, Tree

pytestmark = pytest.mark.fault

_HEARTBEAT_TIMEOUT = 2.0
_ALLOWANCE = 0.5
_SETTINGS = {
    "supervisor.heartbeat_interval": 0.2,
    "supervisor.heartbeat_timeout": _HEARTBEAT_TIMEOUT,
    "supervisor.drills": "true",
}


@pytest.fixture
def drilled(new_tree: Callable[..., Tree]) -> Tree:
    tree = new_tree(settings=_SETTINGS)
    tree.start_healthy()
    return tree


def test_frozen_workers_are_replaced_in_time(drilled: Tree) -> None:
    for service in SERVICES:
        _is_replaced_in_time(drilled, service, signal.SIGSTOP)
    drilled.wait_healthy(within=30)


def test_workers_with_a_blocked_event_loop_are_replaced_in_time_and_tell_where_they_hung(drilled: Tree) -> None:
    for service in SERVICES:
        _is_replaced_in_time(drilled, service, signal.SIGUSR1)
    assert "Current thread" in drilled.log, "SIGABRT leaves a traceback in the log"
    drilled.wait_healthy(within=30)


def test_without_drills_the_test_switches_do_nothing(tree: Tree) -> None:
    pids = {service: tree.worker_pid(service) for service in SERVICES}
    for pid in pids.values():
        processes.send(pid, signal.SIGUSR1)
        processes.send(pid, signal.SIGUSR2)
    tree.wait_healthy(within=10)
    assert {service: tree.worker_pid(service) for service in SERVICES} == pids


def test_a_freeze_shorter_than_the_timeout_kills_nobody(drilled: Tree) -> None:
    pid = drilled.worker_pid("ca")
    processes.send(pid, signal.SIGSTOP)
    # The status command takes about as long as a freeze that must be survived; it is answered by the supervisor.
    drilled.status()
    processes.send(pid, signal.SIGCONT)
    drilled.wait_healthy(within=10)
    assert drilled.worker_pid("ca") == pid


def _is_replaced_in_time(tree: Tree, service: str, harm: signal.Signals) -> None:
    took = recovery(tree, service, tree.worker_pid(service), lambda pid: processes.send(pid, harm))
    assert took <= _HEARTBEAT_TIMEOUT + _ALLOWANCE, f"{service} answers {took:.2f} s after {harm.name}"
