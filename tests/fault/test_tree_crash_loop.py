"""A worker that cannot stay up: backed off, then failed and shown, tried again slowly; the others go on."""

import signal
from collections.abc import Callable

import pytest

from tests.rig import processes
from tests.rig.polling import eventually
from tests.rig.tree import Tree

pytestmark = pytest.mark.fault

_INTENSITY = 3


def test_a_crash_loop_is_backed_off_then_failed_and_the_others_are_untouched(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(
        settings={
            # Dying within ten seconds of being ready counts as dying at once.
            "supervisor.stable_seconds": 10,
            "supervisor.intensity": _INTENSITY,
            "supervisor.backoff_initial": 0.5,
            "supervisor.failed_retry": 6,
            "monitoring.health_check_interval": 0.2,
        }
    )
    tree.start_healthy()
    others = {name: tree.worker_pid(name) for name in ("api", "monitoring")}
    crashed, states = _crash_at_every_start(tree, "ca")
    assert "backoff" in states
    assert crashed == _INTENSITY + 1, "more than `intensity` early deaths within `period` make it failed"
    tree.wait_health(
        lambda status, told: status == 503 and any("ca: failed" in issue for issue in told["issues"]),
        "/health answers 503 and says that ca has failed",
        within=5,
    )
    assert {name: tree.worker_pid(name) for name in others} == others
    # Failed is not forgotten: it is tried again slowly.
    tree.wait_healthy(within=30)
    assert {name: tree.worker_pid(name) for name in others} == others


def _crash_at_every_start(tree: Tree, service: str) -> tuple[int, set[str]]:
    """Crashes each process of `service` as soon as it is seen, until it is failed. Returns how many, and its states."""
    crashed: set[processes.ProcessId] = set()
    states: set[str] = set()

    def attempt() -> bool:
        row = tree.worker(service)
        process = processes.identify(row["pid"]) if row["pid"] else None
        if process is not None and process not in crashed:
            crashed.add(process)
            processes.send(process.pid, signal.SIGSEGV)
        states.add(row["state"])
        return "failed" in states

    eventually(f"{service} is failed", attempt, within=60)
    return len(crashed), states
