"""Published lists as files: whole or the one before, whatever fails."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.ca.status import crl_files
from services.ca.status.crl_files import CrlFiles
from services.errors import StorageUnavailable


def refuse(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_list_is_published_for_everybody_to_read_and_found_again(tmp_path: Path) -> None:
    files = CrlFiles(tmp_path / "crl")
    files.prepare()
    files.publish("0a", 3, b"first")
    files.publish("0a", 3, b"second")
    files.publish("0b", 0, b"other")
    assert files.path("0a", 3).read_bytes() == b"second"
    assert stat.S_IMODE(files.path("0a", 3).stat().st_mode) == 0o644
    assert [(found.path.name, found.content) for found in files.found()] == [
        ("0a-3.crl", b"second"),
        ("0b-0.crl", b"other"),
    ]


@pytest.mark.parametrize("step", ["open", "fsync", "rename"])
def test_when_a_step_fails_the_list_before_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files = CrlFiles(tmp_path)
    files.publish("0a", 3, b"first")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StorageUnavailable, match=r"0a-3\.crl cannot be written: No space left"):
            files.publish("0a", 3, b"second")
    assert [found.content for found in files.found()] == [b"first"]
    files.publish("0a", 3, b"third")
    assert [path.name for path in tmp_path.iterdir()] == ["0a-3.crl"]


def test_what_a_crash_left_unfinished_is_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".0a-3.crl.unfinished").write_bytes(b"half")
    files = CrlFiles(tmp_path)
    files.prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_or_is_too_large_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crl_files, "MAX_FILE_BYTES", 8)
    monkeypatch.setattr(crl_files, "MAX_FILES", 3)
    (tmp_path / "a.crl").mkdir()
    (tmp_path / "b.crl").write_bytes(b"123456789")
    (tmp_path / "c.crl").write_bytes(b"12345678")
    (tmp_path / "d.crl").write_bytes(b"1")
    (tmp_path / "note.txt").write_bytes(b"no list")
    troubles = {found.path.name: found.trouble for found in CrlFiles(tmp_path).found()}
    assert troubles.keys() == {"a.crl", "b.crl", "c.crl", "d.crl"}
    assert "cannot be read" in troubles["a.crl"]
    assert "more than 8 bytes" in troubles["b.crl"]
    assert not troubles["c.crl"]
    assert "more than 3 files" in troubles["d.crl"]


@pytest.mark.parametrize("call", [lambda files: files.prepare(), lambda files: list(files.found())])
def test_a_directory_that_cannot_be_made_or_read_is_the_storages_fault(
    tmp_path: Path, call: Callable[[CrlFiles], object]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        call(CrlFiles(tmp_path / "file" / "crl"))
