"""The data and runtime directories, and the locks that give them to one supervisor.

Rules: directories are made with mode 0700 and used only if they are ours and nobody else can write to them. A lock is
held by an open descriptor, so the kernel takes it back however the supervisor ends; its files stay where they are.
"""

import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from config.paths import Paths
from supervisor.errors import StartError

_DEBRIS: Final = "pymp-*"
"""Directories that multiprocessing makes for its sockets, and leaves behind when it is killed."""


def prepare(paths: Paths) -> None:
    """Make the directories that are missing. Raises StartError for one that cannot be used."""
    for purpose, directory in (("data", paths.data_dir), ("runtime", paths.runtime_dir)):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.stat()
        except (FileExistsError, NotADirectoryError):
            text = f"the {purpose} directory {directory} is not a directory: remove it or name another"
            raise StartError(text) from None
        except OSError as error:
            made_by = f"install -d -m 700 -o {os.geteuid()} {directory}"
            text = f"cannot make the {purpose} directory {directory}: {error.strerror}; make it with `{made_by}`"
            raise StartError(text) from error
        _check(purpose, directory, status)
    try:
        paths.deaths.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot write to the data directory {paths.data_dir}: {error.strerror}") from error


def _check(purpose: str, directory: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise StartError(
            f"the {purpose} directory {directory} belongs to user {status.st_uid}, and this is user {os.geteuid()}: "
            f"run as its owner, or `chown -R {os.geteuid()} {directory}`"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StartError(f"others may write to the {purpose} directory {directory}: run `chmod 700 {directory}`")


class Lock:
    """Both directories, for this process alone."""

    def __init__(self, paths: Paths) -> None:
        """Take them. Raises StartError, naming who has them, when they are taken."""
        self._runtime = -1
        try:
            self._file = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StartError(f"cannot open the lock {paths.lock}: {error.strerror}") from error
        try:
            if not _lock(self._file):
                raise StartError(
                    f"a supervisor (process {self._holder()}) already runs on {paths.data_dir}: "
                    "`trustchain status` shows it; for a second tree give another --data-dir"
                )
            self._runtime = os.open(paths.runtime_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not _lock(self._runtime):
                raise StartError(
                    f"another supervisor uses the runtime directory {paths.runtime_dir}: "
                    "give this one another, --set server.runtime_dir=DIR"
                )
        except BaseException:
            self.release()
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        for left in paths.runtime_dir.glob(_DEBRIS):
            shutil.rmtree(left, ignore_errors=True)

    def _holder(self) -> str:
        return os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"

    def release(self) -> None:
        """Give both back."""
        for descriptor in (self._runtime, self._file):
            if descriptor >= 0:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
