"""Files are whole or not there."""

import errno
import os
import stat
from pathlib import Path

import pytest

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


def test_a_secret_never_takes_over_the_permissions_of_a_left_over(tmp_path: Path) -> None:
    left_over = tmp_path / ".key.unfinished"
    left_over.write_bytes(b"old")
    left_over.chmod(0o666)
    write_files([File(tmp_path / "key", b"k")])
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"untouched")
    (tmp_path / ".key.unfinished").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        write_files([File(tmp_path / "key", b"secret")])
    assert (tmp_path / "elsewhere").read_bytes() == b"untouched"


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_without_room_is_something_to_wait_for(number: int) -> None:
    with pytest.raises(StorageUnavailable, match="the token cannot be stored"):
        raise_if_no_room(OSError(number, os.strerror(number)), "the token cannot be stored")


def test_other_errors_are_not() -> None:
    raise_if_no_room(PermissionError(errno.EACCES, "Permission denied"), "the token cannot be stored")
