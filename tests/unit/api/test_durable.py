"""Files are whole or not there."""

import errno
import os
import secrets
import stat
from pathlib import Path

import pytest

from services.api import durable
from services.api.durable import File, raise_if_no_room, write_files
from services.errors import StorageUnavailable


def test_contents_and_permissions_are_exactly_as_given(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        write_files([File(tmp_path / "key", b"k", 0o600), File(tmp_path / "certificate", b"c", 0o644)])
    finally:
        os.umask(previous)
    assert (tmp_path / "key").read_bytes() == b"k"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"key": 0o600, "certificate": 0o644}


def test_whoever_lies_in_wait_with_an_open_file_does_not_read_the_secret(tmp_path: Path) -> None:
    """The directory may belong to somebody else, who made files under every name that can be guessed."""
    waiting = [tmp_path / name for name in (".key.unfinished", ".key.tmp", "key")]
    for path in waiting:
        path.write_bytes(b"old")
        path.chmod(0o666)
    opened = [path.open("rb") for path in waiting]
    write_files([File(tmp_path / "key", b"secret")])
    for stream in opened:
        assert stream.read() == b"old"
        stream.close()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_name_that_was_guessed_all_the_same_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    monkeypatch.setattr(durable, "_left_overs", lambda _: [])
    elsewhere, guessed = tmp_path / "elsewhere", tmp_path / ".key.guessed.unfinished"
    elsewhere.write_bytes(b"untouched")
    if kind == "link":
        guessed.symlink_to(elsewhere)
    else:
        guessed.write_bytes(b"untouched")
    with pytest.raises(FileExistsError):
        write_files([File(tmp_path / "key", b"secret")])
    assert guessed.read_bytes() == elsewhere.read_bytes() == b"untouched"


def test_each_unfinished_file_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        names.append(source.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    for _ in range(3):
        write_files([File(tmp_path / "key", b"k")])
    assert len(set(names)) == 3


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".key.0123.unfinished", ".key2.0123.unfinished", ".key.other"):
        (tmp_path / name).write_bytes(b"old")
    write_files([File(tmp_path / "key", b"k")])
    assert sorted(os.listdir(tmp_path)) == [".key.other", ".key2.0123.unfinished", "key"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_to_store_leaves_every_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """fsync fails at the first or second file: neither is replaced and nothing else stays behind."""
    for name in ("key", "certificate"):
        (tmp_path / name).write_bytes(b"old")
    calls = 0
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_files([File(tmp_path / "key", b"new"), File(tmp_path / "certificate", b"new")])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"old", "certificate": b"old"}


def test_an_interruption_leaves_no_secret_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_files([File(tmp_path / "key", b"secret")])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_without_room_is_something_to_wait_for(number: int) -> None:
    with pytest.raises(StorageUnavailable, match="the token cannot be stored"):
        raise_if_no_room(OSError(number, os.strerror(number)), "the token cannot be stored")


def test_other_errors_are_not() -> None:
    raise_if_no_room(PermissionError(errno.EACCES, "Permission denied"), "the token cannot be stored")
