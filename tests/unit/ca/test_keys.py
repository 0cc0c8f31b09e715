"""The authority's files: whole or absent, never overwritten, and told apart when something is wrong with them."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from config.schema import Ca, KeyType
from services.ca import keys
from services.ca.hierarchy import spki
from services.ca.installation import new_hierarchy
from services.ca.keys import HierarchyFiles
from services.errors import ConfigurationError, StorageUnavailable
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of

NAMES = ("root.key", "root.pem", "intermediate.key", "intermediate.pem")


@pytest.fixture
def files(tmp_path: Path) -> HierarchyFiles:
    return HierarchyFiles(tmp_path, tmp_path / "root.pem")


@pytest.fixture
def created(files: HierarchyFiles) -> HierarchyFiles:
    files.create(hierarchy_of())
    return files


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def trouble(files: HierarchyFiles) -> str:
    """What loading says; nothing may change by it."""
    before = contents(files.directory.parent)
    with pytest.raises(ConfigurationError) as caught:
        files.load()
    assert contents(files.directory.parent) == before
    return str(caught.value)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_what_was_created_is_loaded(files: HierarchyFiles, key_type: KeyType) -> None:
    made = hierarchy_of(key_type)
    files.create(made)
    loaded = files.load()
    assert loaded.root == made.root
    assert loaded.issuer.certificate == made.issuer.certificate
    assert spki(loaded.issuer.private_key.public_key()) == spki(made.issuer.private_key.public_key())


def test_only_the_owner_reads_the_keys_whatever_the_umask(files: HierarchyFiles) -> None:
    before = os.umask(0)
    try:
        files.create(hierarchy_of())
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()}
    assert modes == {
        "root.key": 0o600,
        "root.pem": 0o644,
        "intermediate.key": 0o600,
        "intermediate.pem": 0o644,
    }
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700


def test_an_existing_hierarchy_is_not_written_over(created: HierarchyFiles) -> None:
    before = contents(created.directory)
    with pytest.raises(ConfigurationError, match="exists"):
        created.create(new_hierarchy(Ca(), NOW))
    assert contents(created.directory) == before


def test_what_an_interrupted_creation_left_is_replaced(files: HierarchyFiles) -> None:
    unfinished = files.directory.with_name(".hierarchy.unfinished")
    unfinished.mkdir()
    (unfinished / "root.key").write_bytes(b"half a k")
    files.create(hierarchy_of())
    assert not unfinished.exists()
    assert files.load().root == hierarchy_of().root


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(created: HierarchyFiles, name: str) -> None:
    (created.directory / name).unlink()
    assert f"{created.directory / name} is missing: restore it from a backup" in trouble(created)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"M", b"N"),
        lambda _: b"\0" * 70_000,
    ],
)
def test_a_damaged_file_is_named(created: HierarchyFiles, name: str, damage: Callable[[bytes], bytes]) -> None:
    path = created.directory / name
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in trouble(created)


@pytest.mark.parametrize("name", ["root.key", "intermediate.key"])
def test_a_key_that_others_may_read_is_not_used(created: HierarchyFiles, name: str) -> None:
    path = created.directory / name
    path.chmod(0o640)
    assert f"chmod 600 {path}" in trouble(created)


@pytest.mark.parametrize("title", ["root", "intermediate"])
def test_a_key_of_another_authority_is_told(created: HierarchyFiles, tmp_path: Path, title: str) -> None:
    other = HierarchyFiles(tmp_path / "other", tmp_path / "other" / "root.pem")
    (tmp_path / "other").mkdir()
    other.create(new_hierarchy(Ca(), NOW))
    shutil.copy(other.directory / f"{title}.key", created.directory / f"{title}.key")
    assert f"the {title} certificate and the {title} key do not belong together" in trouble(created)


def test_an_encrypted_key_and_a_key_of_a_foreign_type_are_told(created: HierarchyFiles) -> None:
    path = created.directory / "root.key"
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    path.write_bytes(encrypted)
    assert "is not a private key in PEM" in trouble(created)
    foreign = ed448.Ed448PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(foreign)
    assert "a key of another type" in trouble(created)


def test_the_clients_copy_of_the_root_is_made_and_made_again(created: HierarchyFiles, tmp_path: Path) -> None:
    root = hierarchy_of().root
    for _ in range(2):
        created.publish_root(root)
        assert (tmp_path / "root.pem").read_bytes() == keys.pem(root)
        assert stat.S_IMODE((tmp_path / "root.pem").stat().st_mode) == 0o644
        created.publish_root(root)
        (tmp_path / "root.pem").unlink()


def test_another_root_in_the_clients_place_is_told_and_kept(created: HierarchyFiles, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match="is not a copy of"):
        created.publish_root(hierarchy_of().root)
    assert (tmp_path / "root.pem").read_bytes() == b"something else"


def test_a_full_disk_at_creation_may_be_tried_again(files: HierarchyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left"):
            files.create(hierarchy_of())
    assert not files.exist()
    files.create(hierarchy_of())
    assert files.load().root == hierarchy_of().root
