"""Disks and shared memory that are full: issuance says 503, health says why, nothing acknowledged is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.peers import require_namespaces
from tests.rig.polling import eventually
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Tree

pytestmark = [pytest.mark.fault, pytest.mark.needs_root]

_DISK_MIB = 8
_QUICK = {
    "monitoring.collection_interval": 0.2,
    "monitoring.health_check_interval": 0.2,
    "monitoring.probe_interval": 0.2,
}
_KEY = new_key()


@pytest.fixture
def small_disk(new_tree: Callable[..., Tree], short_path: Path) -> Tree:
    """A healthy tree whose data directory is a disk of its own, which nobody outside the tree can see."""
    data_dir = short_path / "disk"
    data_dir.mkdir(mode=0o700)
    mount = f'mount -t tmpfs -o size={_DISK_MIB}m,mode=0700 tmpfs {data_dir} && exec "$@"'
    tree = new_tree(data_dir=data_dir, prefix=_under(mount), settings=_QUICK)
    tree.start_healthy()
    return tree


def test_a_full_disk_stops_issuance_and_nothing_else(small_disk: Tree) -> None:
    tree = small_disk
    acknowledged = {_issue(tree) for _ in range(5)}
    pids = {row["service"]: row["pid"] for row in tree.status()["workers"]}
    ballast = _fill(tree)

    def refused() -> bool:
        answer = tree.issue(signing_request("full.example.test", key=_KEY))
        if answer.status == 201:
            acknowledged.add(answer.json()["serial"])
        else:
            assert answer.status == 503, f"a full disk is answered with {answer.status} {answer.text}"
            assert answer.headers["content-type"] == "application/problem+json"
        return answer.status == 503

    eventually("issuance answers 503", refused, within=30, every=0.0)
    told = tree.wait_health(_names_storage, "/health says that the disk is full", within=15)
    assert told["is_healthy"] is False
    assert tree.certificates().keys() >= acknowledged, "what was acknowledged can still be read"
    # What helps is space, not another process.
    assert {row["service"]: row["pid"] for row in tree.status()["workers"]} == pids

    ballast.unlink()
    eventually("issuance works again", lambda: tree.issue(_csr()).status == 201, within=20)
    tree.wait_healthy(within=20)
    assert tree.certificates().keys() >= acknowledged


def test_workers_killed_on_a_full_disk_lose_nothing_and_recover(small_disk: Tree) -> None:
    tree = small_disk
    acknowledged = {_issue(tree) for _ in range(5)}
    ballast = _fill(tree)
    tree.run("restart", "ca", check=False)
    ballast.unlink()
    tree.wait_healthy(within=60)
    assert tree.certificates().keys() >= acknowledged
    _issue(tree)


def test_a_full_dev_shm_is_a_clear_error_at_start(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(prefix=_under('mount -t tmpfs -o size=16k tmpfs /dev/shm && exec "$@"'))
    tree.start()
    assert tree.process is not None
    assert tree.process.wait(30) == 1, "not a configuration error: it may be tried again"
    assert "/dev/shm" in tree.log, tree.log
    assert "Traceback" not in tree.log, tree.log


def test_a_dev_shm_that_fills_up_later_hurts_nobody(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(prefix=_under('mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'), settings=_QUICK)
    tree.start_healthy()
    ballast = tree.seen(Path("/dev/shm/ballast"))
    _write_until_full(ballast)
    pid = tree.worker_pid("ca")
    tree.run("restart", "ca")
    tree.wait_replaced("ca", pid, within=15)
    _issue(tree)
    told = tree.wait_health(lambda _, document: "/dev/shm" in str(document["issues"]), "/health says it", within=10)
    assert all(told["components"][name]["issues"] == [] for name in ("api", "monitoring")), told
    ballast.unlink()
    tree.wait_healthy(within=15)


def _under(shell_line: str) -> list[str]:
    """A private mount namespace in which `shell_line` runs first; its "$@" is the tree."""
    return [*require_namespaces("--mount"), "sh", "-c", shell_line, "sh"]


def _names_storage(status: int, document: dict[str, object]) -> bool:
    return status == 503 and "storage" in str(document["issues"])


def _fill(tree: Tree) -> Path:
    ballast = tree.seen(tree.data_dir / "ballast")
    _write_until_full(ballast)
    return ballast


def _write_until_full(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _issue(tree: Tree) -> str:
    answer = tree.issue(_csr())
    assert answer.status == 201, answer.text
    serial: str = answer.json()["serial"]
    return serial


def _csr() -> str:
    return signing_request("disk.example.test", key=_KEY)
