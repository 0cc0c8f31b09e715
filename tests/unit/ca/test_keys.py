"""The authority's files: whole or absent, never overwritten, and told apart when something is wrong with them."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from config.schema import Ca, KeyType
from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.files import HierarchyFiles, certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.keyring import Keyring
from services.ca.installation import new_hierarchy
from services.ca.keys.signing_keys import spki
from services.errors import ConfigurationError, StorageUnavailable
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of, rotated

PLACES = (
    *("root/certificate.pem", "root/key.pem"),
    *("intermediate/certificate.pem", "intermediate/key.pem", "intermediate/chain.pem"),
)


@pytest.fixture
def files(tmp_path: Path) -> HierarchyFiles:
    return HierarchyFiles(tmp_path, tmp_path / "root.pem")


@pytest.fixture
def created(files: HierarchyFiles) -> HierarchyFiles:
    files.commit(hierarchy_of())
    return files


def place(files: HierarchyFiles, name: str, of: Hierarchy | None = None) -> Path:
    """The file called "root/..." or "intermediate/..." of a hierarchy."""
    title, _, file = name.partition("/")
    made = of or hierarchy_of()
    return files.directory / (made.active_root().id if title == "root" else made.issuer.id) / file


def again(files: HierarchyFiles, **fields: Keyring) -> HierarchyFiles:
    """The same files as the next process finds them."""
    return HierarchyFiles(files.directory.parent, files.directory.parent / "root.pem", **fields)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def trouble(files: HierarchyFiles) -> str:
    """What loading says; nothing may change by it."""
    before = contents(files.directory.parent)
    with pytest.raises(ConfigurationError) as caught:
        again(files).load()
    assert contents(files.directory.parent) == before
    return str(caught.value)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_what_was_created_is_loaded(files: HierarchyFiles, key_type: KeyType) -> None:
    made = hierarchy_of(key_type)
    files.commit(made)
    loaded = again(files).load()
    assert loaded.root == made.root
    assert loaded.issuer.certificate == made.issuer.certificate
    assert spki(loaded.issuer.private_key.public_key()) == spki(made.issuer.private_key.public_key())


def test_only_the_owner_reads_the_keys_whatever_the_umask(files: HierarchyFiles) -> None:
    before = os.umask(0)
    try:
        files.commit(hierarchy_of())
    finally:
        os.umask(before)
    ca_dir = files.directory.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ca_dir.rglob("*")}
    directories = {"authorities": 0o700, hierarchy_of().active_root().id: 0o700, hierarchy_of().issuer.id: 0o700}
    public = {"certificate.pem": 0o644, "chain.pem": 0o644}
    assert modes == {"hierarchy.json": 0o600, "key.pem": 0o600, **public, **directories}


def test_an_authority_is_never_written_over(created: HierarchyFiles) -> None:
    before = contents(created.directory)
    created.commit(rotated(hierarchy_of()))
    after = contents(created.directory)
    assert {name: after[name] for name in before} == before


def test_what_was_never_committed_is_removed(created: HierarchyFiles) -> None:
    unfinished = created.directory / ".0102"
    unfinished.mkdir()
    (unfinished / "key.pem").write_bytes(b"half a k")
    assert again(created).load().root == hierarchy_of().root
    assert not unfinished.exists()


def test_what_was_committed_gets_its_name_at_the_next_start(created: HierarchyFiles) -> None:
    later = rotated(hierarchy_of())
    created.commit(later)
    named = created.directory / later.issuer.id
    named.rename(created.directory / f".{later.issuer.id}")
    assert again(created).load().issuer.id == later.issuer.id
    assert named.exists()


def test_an_authority_that_the_document_does_not_name_is_told(created: HierarchyFiles) -> None:
    document = created.document.read_bytes()
    later = rotated(hierarchy_of())
    created.commit(later)
    created.document.write_bytes(document)
    assert f"{created.directory / later.issuer.id} is not in {created.document}" in trouble(created)


def test_signatures_are_verified_when_a_file_is_not_as_it_was(
    created: HierarchyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[Hierarchy] = []
    monkeypatch.setattr(hierarchy, "verify", verified.append)
    again(created).load()
    assert verified == []
    path = place(created, "intermediate/certificate.pem")
    path.write_bytes(path.read_bytes() + b"\n")
    again(created).load()
    assert len(verified) == 1
    again(created).load()
    assert len(verified) == 1, "it is remembered"


def test_a_full_disk_does_not_keep_verified_files_from_being_used(
    created: HierarchyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(created, "root/certificate.pem")
    path.write_bytes(path.read_bytes() + b"\n")
    monkeypatch.setattr(os, "fsync", full)
    assert again(created).load().root == hierarchy_of().root


@pytest.mark.parametrize("name", PLACES)
def test_a_missing_file_is_named(created: HierarchyFiles, name: str) -> None:
    place(created, name).unlink()
    assert f"{place(created, name)} is missing: restore it from a backup" in trouble(created)


def test_a_missing_document_is_named(created: HierarchyFiles) -> None:
    created.document.unlink()
    assert created.exist()
    assert f"{created.document} is missing: restore it from a backup" in trouble(created)


@pytest.mark.parametrize("name", PLACES)
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
    path = place(created, name)
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in trouble(created)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version":1,"authorities":[]}', b"\0" * 2_000_000])
def test_a_damaged_document_is_named(created: HierarchyFiles, content: bytes) -> None:
    created.document.write_bytes(content)
    assert str(created.document) in trouble(created)


@pytest.mark.parametrize("name", ["root/key.pem", "intermediate/key.pem"])
def test_a_key_that_others_may_read_is_not_used(created: HierarchyFiles, name: str) -> None:
    path = place(created, name)
    path.chmod(0o640)
    assert f"chmod 600 {path}" in trouble(created)


@pytest.mark.parametrize("title", ["root", "intermediate"])
def test_a_key_of_another_authority_is_told(created: HierarchyFiles, tmp_path: Path, title: str) -> None:
    other, made = HierarchyFiles(tmp_path / "other", tmp_path / "other" / "root.pem"), new_hierarchy(Ca(), NOW)
    other.commit(made)
    shutil.copy(place(other, f"{title}/key.pem", made), place(created, f"{title}/key.pem"))
    assert "certificate and the" in (told := trouble(created))
    assert f"the {title} " in told
    assert "do not belong together" in told


@pytest.mark.parametrize("title", ["root", "intermediate"])
def test_a_certificate_of_another_authority_is_told(created: HierarchyFiles, tmp_path: Path, title: str) -> None:
    other, made = HierarchyFiles(tmp_path / "other", tmp_path / "other" / "root.pem"), new_hierarchy(Ca(), NOW)
    other.commit(made)
    name = f"{title}/certificate.pem"
    shutil.copy(place(other, name, made), place(created, name))
    assert f"{place(created, name)} is not the classical certificate" in trouble(created)


def test_a_key_of_a_foreign_type_is_told(created: HierarchyFiles) -> None:
    foreign = ed448.Ed448PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    place(created, "root/key.pem").write_bytes(foreign)
    assert "a key of another type" in trouble(created)


def test_an_encrypted_key_needs_its_passphrase(created: HierarchyFiles) -> None:
    path = place(created, "root/key.pem")
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert f"{path}: it is encrypted, and there is no passphrase" in trouble(created)


def test_keys_are_encrypted_with_the_passphrase_of_the_keyring(tmp_path: Path) -> None:
    files = HierarchyFiles(tmp_path, tmp_path / "root.pem", Keyring(b"secret"))
    files.commit(hierarchy_of())
    assert place(files, "root/key.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert again(files, keyring=Keyring(b"secret")).load().root == hierarchy_of().root
    with pytest.raises(ConfigurationError, match="the passphrase does not open it"):
        again(files, keyring=Keyring(b"another")).load()


def test_a_passphrase_is_shown_by_nothing() -> None:
    assert "secret" not in repr(Keyring(b"secret"))


def test_keys_that_are_not_encrypted_yet_can_be(created: HierarchyFiles) -> None:
    files = again(created, keyring=Keyring(b"secret"))
    loaded = files.load()
    assert files.encrypt_keys(loaded) == 2
    assert files.encrypt_keys(loaded) == 0
    assert b"BEGIN PRIVATE KEY" not in b"".join(contents(created.directory).values())
    assert again(files, keyring=Keyring(b"secret")).load().root == hierarchy_of().root
    assert "there is no passphrase" in trouble(created)


def test_a_root_key_that_is_kept_elsewhere_is_destroyed_here(created: HierarchyFiles) -> None:
    made = hierarchy_of()
    path = place(created, "root/key.pem")
    key = path.read_bytes()
    created.commit(made.without_root_key(made.active_root().id))
    assert not path.exists()
    assert again(created).load().active_root().private_key is None
    path.write_bytes(key)
    assert again(created).load().active_root().private_key is None
    assert not path.exists(), "a removal that a crash interrupted is brought to its end"


def test_the_clients_copy_of_the_roots_is_made_and_made_again(created: HierarchyFiles, tmp_path: Path) -> None:
    made = hierarchy_of()
    for _ in range(2):
        created.publish(made)
        assert (tmp_path / "root.pem").read_bytes() == certificate_pem(made.root)
        assert stat.S_IMODE((tmp_path / "root.pem").stat().st_mode) == 0o644
        created.publish(made)
        (tmp_path / "root.pem").unlink()


def test_the_clients_copy_holds_every_root_the_active_one_first(created: HierarchyFiles, tmp_path: Path) -> None:
    made = hierarchy_of()
    created.publish(made)
    later = rotated(made, role="root")
    created.publish(later)
    assert (tmp_path / "root.pem").read_bytes() == certificate_pem(later.root) + certificate_pem(made.root)


def test_another_root_in_the_clients_place_is_told_and_kept(created: HierarchyFiles, tmp_path: Path) -> None:
    for content in (b"something else", certificate_pem(new_hierarchy(Ca(), NOW).root)):
        (tmp_path / "root.pem").write_bytes(content)
        with pytest.raises(ConfigurationError, match="is not a copy of"):
            created.publish(hierarchy_of())
        assert (tmp_path / "root.pem").read_bytes() == content


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_creation_may_be_tried_again(files: HierarchyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left"):
            files.commit(hierarchy_of())
    assert not files.exist()
    files.commit(hierarchy_of())
    assert again(files).load().root == hierarchy_of().root


def test_a_full_disk_leaves_the_hierarchy_that_there_was(
    created: HierarchyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left"):
            created.commit(rotated(hierarchy_of()))
    assert again(created).load().issuer.id == hierarchy_of().issuer.id


def test_retired_authorities_are_loaded_with_their_state(created: HierarchyFiles) -> None:
    later = rotated(hierarchy_of(), role="root")
    created.commit(later)
    loaded = again(created).load()
    states = {each.id: (each.state, each.since) for each in later.authorities}
    assert {each.id: (each.state, each.since) for each in loaded.authorities} == states
    assert loaded.issuer.chain == later.issuer.chain
    assert replace(loaded.issuer, private_key=later.issuer.private_key) == later.issuer
