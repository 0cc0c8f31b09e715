"""Files that are whole or not there, before and after a crash.

Promise: `write_files` returns only when contents and names are on the disk. Until then, and after any failure to
write, each path holds what it held before. A crash in the moment of the renames can leave the first of several files
new and the others old; each one is whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import StorageUnavailable

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))


@dataclass(frozen=True, slots=True)
class File:
    """What a path is to hold, with exactly the permissions `mode`."""

    path: Path
    content: bytes
    mode: int = 0o600


def write_files(files: Sequence[File]) -> None:
    """Replace the files, all in one directory. Raises OSError.

    The caller is the only writer of these paths: left-overs of an earlier crash are overwritten.
    """
    unfinished = {file: file.path.with_name(f".{file.path.name}.unfinished") for file in files}
    try:
        for file, temporary in unfinished.items():
            _write(temporary, file)
        # Contents before names: the other way round, a crash in between leaves an empty file under the final name.
        for file, temporary in unfinished.items():
            os.replace(temporary, file.path)
    except OSError:
        for temporary in unfinished.values():
            temporary.unlink(missing_ok=True)
        raise
    for directory in {file.path.parent for file in files}:
        _sync_directory(directory)


def raise_if_no_room(error: OSError, what: str) -> None:
    """Raises StorageUnavailable if `error` is one that goes away when the disk has room or works again."""
    if error.errno in _NO_ROOM:
        raise StorageUnavailable(f"{what}: {error}") from error


def _write(path: Path, file: File) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(file.content)
        os.fchmod(descriptor, file.mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
