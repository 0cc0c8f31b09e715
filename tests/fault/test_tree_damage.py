"""Keys, certificates and database damaged on disk: exit 78 at once, the file is named, nothing is lost by it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.rig.polling import eventually
from tests.rig.recovery import kill
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = pytest.mark.fault

_DATABASE = "certificates.db"
_FILES = ("root/key.pem", "intermediate/key.pem", "intermediate/certificate.pem", "hierarchy.json", _DATABASE)


@pytest.mark.parametrize("name", _FILES)
def test_a_worker_that_finds_damage_fails_at_once_and_the_rest_goes_on(
    new_tree: Callable[..., Tree], name: str
) -> None:
    tree = new_tree(settings={"api.request_timeout": 1, "api.body_timeout": 1})
    tree.start_healthy()
    serial = tree.issue(signing_request("damage.example.test")).json()["serial"]
    api = tree.worker_pid("api")
    place = _place(tree, name)
    with _damaged(tree, name):
        kill(tree.worker_pid("ca"))
        eventually("ca is failed", lambda: tree.worker("ca")["state"] == "failed", within=15)
        restarts = tree.worker("ca")["restarts"]
        told = tree.wait_health(lambda status, _: status == 503, "/health answers 503", within=10)
        assert any("ca" in issue for issue in told["issues"]), told["issues"]
        # The socket is there and nobody answers on it: unavailable, or not in time.
        assert tree.issue(signing_request("damage.example.test")).status in (503, 504)
        assert tree.worker("ca")["restarts"] == restarts, "a configuration error is restarted"
        assert tree.worker_pid("api") == api
        assert str(place) in tree.log, "the log names the file"
    # Repaired, as the operator is told to: everything is as it was.
    tree.run("start", "ca")
    tree.wait_healthy(within=15)
    assert serial in tree.certificates()


@pytest.mark.parametrize("name", _FILES)
def test_a_tree_does_not_start_on_damage(new_tree: Callable[..., Tree], name: str) -> None:
    tree = new_tree()
    tree.start_healthy()
    serial = tree.issue(signing_request("damage.example.test")).json()["serial"]
    assert tree.stop() == 0
    place = _place(tree, name)
    with _damaged(tree, name):
        tree.start()
        assert tree.process is not None
        assert tree.process.wait(30) == 78, tree.log[-2000:]
        assert str(place) in tree.log, "the log names the file"
    tree.process = None
    tree.start_healthy()
    assert serial in tree.certificates()


@contextmanager
def _damaged(tree: Tree, name: str) -> Iterator[None]:
    """Overwrites the beginning of the file, and puts it back; what was there meanwhile must have stayed as it was."""
    directory = tree.data_dir / "ca"
    path = _place(tree, name)
    original = path.read_bytes()[:128]
    _overwrite(path, (b"damaged " * 16)[: len(original)])
    before = _hashes(directory, name)
    yield
    after = _hashes(directory, name)
    assert {path: after.get(path) for path in before} == before, "something was overwritten"
    _overwrite(path, original)


def _place(tree: Tree, name: str) -> Path:
    """Where a file is; those of an authority are named by its role here, and by its serial number there."""
    directory = tree.data_dir / "ca"
    role, _, file = name.rpartition("/")
    if not role:
        return directory / name
    return next(
        path
        for path in directory.glob(f"authorities/*/{file}")
        if (path.parent / "chain.pem").exists() == (role == "intermediate")
    )


def _overwrite(path: Path, start: bytes) -> None:
    with path.open("r+b") as file:
        file.write(start)


def _hashes(directory: Path, damaged: str) -> dict[Path, str]:
    """What must not change: every file, but an intact database, which a start may bring up to date from its log."""
    watched = (path for path in directory.rglob("*") if path.is_file())
    journals = (_DATABASE + "-wal", _DATABASE + "-shm")
    kept = [path for path in watched if path.name not in journals and (path.name != _DATABASE or damaged == _DATABASE)]
    return {path: sha256(path.read_bytes()).hexdigest() for path in kept}
