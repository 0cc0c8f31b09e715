"""The survey of the host: processes through psutil, file systems through statvfs.

Rules: a process that has ended meanwhile or cannot be looked at, or a file system that cannot be read, is missing from
the result; it is no error. PSS costs the kernel a walk over all pages of a process, so only a deep survey measures it;
others repeat it.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from monitoring.facts import Disk, Facts, ProcessStats

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - looked at, never written to


class Survey:
    """Measures on demand. May block as long as a file system does, so it belongs in a thread."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self._processes: dict[int, psutil.Process] = {}
        self._proportional: dict[int, int | None] = {}

    def take(self, pids: Iterable[int], *, deep: bool) -> Facts:
        """Measure these processes and the two file systems; `deep` also measures proportional memory (PSS)."""
        wanted = [pid for pid in pids if pid > 0]
        self._processes = {pid: known for pid, known in self._processes.items() if pid in wanted}
        self._proportional = {pid: known for pid, known in self._proportional.items() if pid in self._processes}
        found = {pid: stats for pid in wanted if (stats := self._process(pid, deep)) is not None}
        return Facts(time.monotonic_ns(), found, disk(self._data_dir), disk(SHARED_MEMORY))

    def _process(self, pid: int, deep: bool) -> ProcessStats | None:
        try:
            process = self._processes.get(pid)
            if process is None or not process.is_running():  # the pid may be another process's by now
                process = self._processes[pid] = psutil.Process(pid)
                deep = True
            if deep:
                self._proportional[pid] = _proportional(pid)
            with process.oneshot():
                cpu = process.cpu_times()
                return ProcessStats(
                    resident_bytes=process.memory_info().rss,
                    cpu_seconds=round(cpu.user + cpu.system, 2),
                    open_fds=process.num_fds(),
                    threads=process.num_threads(),
                    proportional_bytes=self._proportional[pid],
                )
        except (psutil.Error, OSError):  # OSError: no descriptor or no memory left to look with
            self._processes.pop(pid, None)
            return None


def _proportional(pid: int) -> int | None:
    """PSS in bytes; None where the kernel does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), None)


def disk(path: str) -> Disk:
    """Measure the file system that holds `path`, as an unprivileged user finds it."""
    try:
        found = os.statvfs(path)
    except OSError:
        return Disk(path, 0, 0)
    return Disk(
        path,
        free=found.f_bavail * found.f_frsize,
        total=found.f_blocks * found.f_frsize,
        free_inodes=found.f_favail,
        total_inodes=found.f_files,
    )
