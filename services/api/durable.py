"""Files that are whole or not there, before and after a crash.

Promise: `write_files` returns only when contents and names are on the disk. Until then, and after any failure to
write, each path holds what it held before. A crash in the moment of the renames can leave the first of several files
new and the others old; each one is whole.

Rules:
- The directory may belong to somebody else. So a file is written under a name that nobody can guess, and made by this
  process or not at all: whoever opened it before would read what is written after.
- What a crash left under such a name is removed by the next write of the same file.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import StorageUnavailable
from services.whole_files import UNFINISHED, sync_directory

_NAME_OCTETS: Final = 16
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))


@dataclass(frozen=True, slots=True)
class File:
    """What a path is to hold, with exactly the permissions `mode`."""

    path: Path
    content: bytes
    mode: int = 0o600


def write_files(files: Sequence[File]) -> None:
    """Replace the files, all in one directory. Raises OSError.

    The caller is the only writer of these paths: what is there under a name of an unfinished one is a left-over.
    """
    written: list[tuple[Path, File]] = []
    try:
        for file in files:
            _remove(_left_overs(file.path))
            temporary = file.path.with_name(f".{file.path.name}.{secrets.token_hex(_NAME_OCTETS)}{UNFINISHED}")
            with _created(temporary) as descriptor:
                written.append((temporary, file))
                _fill(descriptor, file)
        # Contents before names: the other way round, a crash in between leaves an empty file under the final name.
        for temporary, file in written:
            os.replace(temporary, file.path)
    except BaseException:
        _remove(temporary for temporary, _ in written)
        raise
    for directory in {file.path.parent for file in files}:
        sync_directory(directory)


def raise_if_no_room(error: OSError, what: str) -> None:
    """Raises StorageUnavailable if `error` is one that goes away when the disk has room or works again."""
    if error.errno in _NO_ROOM:
        raise StorageUnavailable(f"{what}: {error}") from error


def _left_overs(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        # One that stays is in nobody's way, and must not hide the error that is being raised.
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _created(path: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fill(descriptor: int, file: File) -> None:
    with open(descriptor, "wb", closefd=False) as stream:
        stream.write(file.content)
    os.fchmod(descriptor, file.mode)
    os.fsync(descriptor)
