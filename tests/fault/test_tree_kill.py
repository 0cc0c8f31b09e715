"""SIGKILL on every process of a running tree: nothing refused, nothing acknowledged lost, nothing left behind."""

import signal
import statistics
from collections.abc import Callable

import pytest

from config.paths import Paths
from tests.rig import processes
from tests.rig.load import Load
from tests.rig.polling import eventually
from tests.rig.recovery import figures, kill, recovery
from tests.rig.signing_request import signing_request
from tests.rig.tree import SERVICES, Tree

pytestmark = pytest.mark.fault

_ROUNDS = 20


def test_workers_killed_under_load_refuse_and_lose_nothing(
    new_tree: Callable[..., Tree], told_at_the_end: Callable[[str], None]
) -> None:
    """Twenty times SIGKILL on each worker in turn. The bound is generous: this machine does other things meanwhile."""
    tree = new_tree()
    tree.start_healthy()
    took: dict[str, list[float]] = {service: [] for service in SERVICES}
    with Load(tree) as load:
        for _ in range(_ROUNDS):
            for service in SERVICES:
                took[service].append(recovery(tree, service, tree.worker_pid(service), kill))
    for service, seconds in took.items():
        told_at_the_end(f"under load, SIGKILL to next answer: {service:<10} {figures(seconds)}")
    told_at_the_end(f"load meanwhile: {load.outcome}")
    assert load.outcome.refused == 0, load.outcome
    assert not load.outcome.unexpected, load.outcome.unexpected[:5]
    assert len(load.outcome.acknowledged) > _ROUNDS, load.outcome
    lost = load.outcome.acknowledged - tree.certificates().keys()
    assert not lost, f"{len(lost)} acknowledged certificates are not in the list"
    assert all(statistics.median(seconds) < 1.0 for seconds in took.values()), took
    tree.wait_healthy(within=30)


def test_the_supervisor_killed_leaves_no_orphan_and_no_debris(tree: Tree) -> None:
    assert tree.issue(signing_request("orphan.example.test")).status == 201
    listed = tree.certificates().keys()
    assert tree.kill_supervisor() <= 1.0
    tree.start_healthy()
    assert tree.certificates().keys() >= listed
    segment = tree.segment
    assert segment.exists()
    assert tree.stop() == 0
    assert not segment.exists(), "the metrics block is left in /dev/shm"


def test_the_supervisor_killed_with_all_workers_frozen_leaves_no_orphan(tree: Tree) -> None:
    """A worker that runs no code cannot see the end of its leash, and must not outlive the supervisor either."""
    for service in SERVICES:
        processes.send(tree.worker_pid(service), signal.SIGSTOP)
    known = tree.processes()
    tree.kill_supervisor()
    assert not processes.alive(known)


def test_the_fork_server_killed_does_not_end_the_tree(tree: Tree) -> None:
    """Without it no worker can be started: it comes back with the next one that is needed."""
    workers = {service: tree.worker_pid(service) for service in SERVICES}
    helpers = {process.pid for process in tree.processes()} - {tree.pid, *workers.values()}
    assert helpers, "the tree has no process besides the supervisor and the workers"
    for pid in helpers:
        kill(pid)
    tree.wait_healthy(within=20)
    recovery(tree, "ca", tree.worker_pid("ca"), kill)
    tree.wait_healthy(within=20)


def test_sigterm_during_load_drains_what_was_accepted(tree: Tree) -> None:
    """Whatever was acknowledged before the stop is there after the next start."""
    with Load(tree) as load:
        eventually("some certificates are acknowledged", lambda: len(load.outcome.acknowledged) >= 20, within=20)
        assert tree.stop() == 0
    tree.start_healthy()
    assert not load.outcome.acknowledged - tree.certificates().keys()


def test_every_death_is_recorded(tree: Tree) -> None:
    pid = tree.worker_pid("ca")
    recovery(tree, "ca", pid, kill)
    records = Paths(tree.data_dir, tree.data_dir / "run").deaths.read_text().splitlines()
    assert any("SIGKILL" in record and '"ca"' in record for record in records), records
