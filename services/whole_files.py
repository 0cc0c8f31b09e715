"""Writing files of which each is whole or not there, before and after a crash.

Rules:
- Content before name: a file is written and synced under another name in the same directory, then renamed. The other
  way round, a crash in between leaves half a file, or an empty one, that looks like a whole one.
- A name is durable when its directory was synced; the file's own fsync does not do that.
- What a crash left under the other name is removed by the next write of the same file: each has one writer.
- The directory belongs to the service. In one that may belong to others, `services/api/durable.py` writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.errors import StorageUnavailable

UNFINISHED: Final = ".unfinished"

_PRIVATE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet. Its name is durable after `sync_directory`. Raises OSError."""
    descriptor = os.open(path, _NEW, _PRIVATE)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def rename_whole(path: Path, content: bytes, mode: int) -> None:
    """Give a file its content at one moment, which a crash may undo. Raises OSError."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    unfinished.unlink(missing_ok=True)
    write_new(unfinished, content, mode)
    os.rename(unfinished, path)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Give a file its content at one moment, durably. Raises OSError: then, and until then, it is what it was."""
    rename_whole(path, content, mode)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the OSError of a write into StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror}") from error
