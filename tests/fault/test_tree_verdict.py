"""What health does to workers: its own failure gets a worker replaced, the failure of another never does."""

import signal
from collections.abc import Callable

import pytest

from tests.rig import processes
from tests.rig.polling import eventually
from tests.rig.tree import SERVICES, Tree

pytestmark = pytest.mark.fault

_UNHEALTHY_AFTER = 0.5
_SETTINGS = {
    "supervisor.drills": "true",
    "supervisor.replace_cooldown": 0.5,
    "monitoring.collection_interval": 0.1,
    "monitoring.health_check_interval": 0.1,
    "monitoring.probe_interval": 0.1,
    "monitoring.unhealthy_after": _UNHEALTHY_AFTER,
}


@pytest.fixture
def drilled(new_tree: Callable[..., Tree]) -> Tree:
    tree = new_tree(settings=_SETTINGS)
    tree.start_healthy()
    return tree


@pytest.mark.parametrize("service", SERVICES)
def test_a_worker_that_lives_but_fails_its_probe_is_replaced(drilled: Tree, service: str) -> None:
    others = {name: drilled.worker_pid(name) for name in SERVICES if name != service}
    pid = drilled.worker_pid(service)
    processes.send(pid, signal.SIGUSR2)
    drilled.wait_replaced(service, pid, within=15)
    drilled.wait_healthy(within=15)
    assert {name: drilled.worker_pid(name) for name in others} == others, "another worker was replaced too"


def test_a_dependency_that_is_stopped_never_gets_its_client_killed(drilled: Tree) -> None:
    api = drilled.worker_pid("api")
    drilled.run("stop", "ca")
    told = drilled.wait_health(lambda status, _: status == 503, "/health answers 503", within=10)
    assert any("ca" in issue for issue in told["issues"]), told["issues"]
    _health_checks_pass(drilled, 30)
    assert drilled.worker("ca")["state"] == "stopped", "an operator's stop is undone"
    assert drilled.worker_pid("api") == api
    drilled.run("start", "ca")
    drilled.wait_healthy(within=15)
    assert drilled.worker_pid("api") == api


def test_a_dependency_that_keeps_hanging_never_gets_its_client_killed(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(settings=_SETTINGS | {"supervisor.heartbeat_interval": 0.1, "supervisor.heartbeat_timeout": 1.5})
    tree.start_healthy()
    api, monitoring = tree.worker_pid("api"), tree.worker_pid("monitoring")
    for _ in range(3):
        pid = tree.worker_pid("ca")
        processes.send(pid, signal.SIGSTOP)
        tree.wait_replaced("ca", pid, within=10)
    tree.wait_healthy(within=15)
    assert (tree.worker_pid("api"), tree.worker_pid("monitoring")) == (api, monitoring)


def _health_checks_pass(tree: Tree, count: int) -> None:
    """Returns after `count` further health checks: more than enough for a verdict, were there one."""
    seen: set[object] = set()

    def attempt() -> bool:
        seen.add(tree.monitoring("/health").json()["last_check"])
        return len(seen) >= count

    eventually(f"{count} health checks pass", attempt, within=_UNHEALTHY_AFTER * 10 + count)
