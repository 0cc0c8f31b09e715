"""A secret is read once, survives the workers, reaches one of them only, and is found nowhere else."""

import os
import signal
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fault.supervisor.toy_tree import ToyTree
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

WORD = b"correct horse battery staple"
DIGEST = sha256(WORD).hexdigest()


@pytest.fixture
def descriptor() -> int:
    """The reading end of a pipe that holds the secret and then ends."""
    reading, writing = os.pipe()
    os.write(writing, WORD + b"\n")
    os.close(writing)
    return reading


def told(tree: ToyTree, times: int) -> None:
    wanted = f"secrets {{'word': '{DIGEST}'}}"
    eventually(f"the secret was had {times} times", lambda: tree.log.count(wanted) == times, 10.0)


def test_every_successor_of_a_worker_has_its_secret(short_path: Path, descriptor: int) -> None:
    tree = ToyTree(short_path / "d", f"a!fd={descriptor},b", descriptors=(descriptor,))
    try:
        for name in ("a", "b"):
            tree.behave(name, "secrets")
        tree.start_ready()
        told(tree, 1)
        for times in (2, 3):
            pid = tree.worker_pid("a")
            os.kill(pid, signal.SIGKILL)
            tree.wait_replaced("a", pid)
            told(tree, times)
        assert "secrets {}" in tree.log, "b has none"
        seen_by_others(tree)
        assert tree.stop() == 0
    finally:
        tree.destroy()
        os.close(descriptor)


def seen_by_others(tree: ToyTree) -> None:
    """Nothing that another process could read holds the secret."""
    for process in tree.processes():
        for name in ("cmdline", "environ"):
            assert WORD not in Path(f"/proc/{process.pid}/{name}").read_bytes()
    for path in (tree.log_path, *tree.data_dir.rglob("*")):
        if path.is_file():
            assert WORD not in path.read_bytes()


def test_a_worker_without_a_secret_has_no_descriptor_of_one(short_path: Path, descriptor: int) -> None:
    tree = ToyTree(short_path / "d", f"a!fd={descriptor},b", descriptors=(descriptor,))
    try:
        tree.start_ready()
        assert has_descriptor(tree.worker_pid("a"))
        assert not has_descriptor(tree.worker_pid("b"))
        assert not has_descriptor(tree.process_titled("fork server"))
        assert tree.stop() == 0
    finally:
        tree.destroy()
        os.close(descriptor)


def has_descriptor(pid: int) -> bool:
    found = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    return any("trustchain-secret" in target for target in found)


def test_a_secret_that_cannot_be_had_ends_the_start(short_path: Path) -> None:
    for source, text in (
        ("fd=77", "file descriptor 77"),
        ("prompt", "no terminal"),
        ("credential=pin", "LoadCredential"),
    ):
        tree = ToyTree(short_path / "d", f"a!{source}")
        tree.start()
        assert tree.wait() == 78
        assert text in tree.log
        tree.destroy()
