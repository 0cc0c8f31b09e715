"""Keys that are encrypted on the disk: from the first start or later, through restarts, and with a wrong passphrase."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_ca_cli import must
from tests.rig.recovery import kill
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = pytest.mark.integration

PASSPHRASE = b"correct horse battery staple"
CREDENTIAL = {"ca.key_passphrase": "credential:ca-keys"}


@pytest.fixture
def credential(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a credential, as systemd makes it for a service."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_path))
    path = short_path / "ca-keys"
    path.write_bytes(PASSPHRASE + b"\n")
    return path


def keys(tree: Tree) -> list[bytes]:
    return [path.read_bytes() for path in tree.data_dir.glob("ca/authorities/*/key.pem")]


def issues(tree: Tree) -> None:
    answer = tree.issue(signing_request("www.example.test"))
    assert answer.status == 201, answer.text


def test_keys_are_encrypted_from_the_first_start_and_every_worker_opens_them(
    new_tree: Callable[..., Tree],
) -> None:
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE)
    os.close(writing)
    tree = new_tree(settings={"ca.key_passphrase": f"fd:{reading}"}, descriptors=(reading,))
    tree.start_healthy()
    os.close(reading)
    assert all(content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") for content in keys(tree))
    assert len(keys(tree)) == 2
    pid = tree.worker_pid("ca")
    kill(pid)
    issues(tree)
    must(tree, "rotate", "root")
    assert all(content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") for content in keys(tree))
    assert PASSPHRASE not in tree.log_path.read_bytes()
    for path in tree.data_dir.rglob("*"):
        assert not path.is_file() or PASSPHRASE not in path.read_bytes()


@pytest.mark.usefixtures("credential")
def test_keys_are_encrypted_later(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(settings={})
    tree.start_healthy()
    assert tree.stop() == 0
    tree.settings = CREDENTIAL
    tree.start_healthy()
    assert b"BEGIN PRIVATE KEY" in keys(tree)[0], "an existing key is not touched by a setting"
    assert must(tree, "encrypt-keys") == "2 keys were encrypted\n"
    assert not any(b"BEGIN PRIVATE KEY" in content for content in keys(tree))
    kill(tree.worker_pid("ca"))
    issues(tree)


@pytest.mark.parametrize("settings", [CREDENTIAL, {}], ids=["another", "none"])
def test_with_a_wrong_passphrase_the_tree_does_not_start_and_says_why(
    new_tree: Callable[..., Tree], credential: Path, settings: dict[str, object]
) -> None:
    tree = new_tree(settings=CREDENTIAL)
    tree.start_healthy()
    assert tree.stop() == 0
    before = keys(tree)
    tree.settings = settings
    credential.write_bytes(b"hush")
    tree.start()
    assert tree.process is not None
    assert tree.process.wait(30) == 78, tree.log[-2000:]
    tree.process = None
    assert "give the passphrase with which it was encrypted (ca.key_passphrase)" in tree.log
    assert "hush" not in tree.log
    assert keys(tree) == before
