"""What is measured from outside the block: processes and file systems (pure data).

Rule: a figure that could not be read is absent, never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """One process as the kernel accounts for it: bytes, seconds of CPU since its start, counts.

    `proportional_bytes` (PSS) shares out what several processes map together; None until it was measured.
    """

    resident_bytes: int
    cpu_seconds: float
    open_fds: int
    threads: int
    proportional_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """Room on one file system, in bytes, and its inodes; `total` is 0 when it could not be read."""

    path: str
    free: int
    total: int
    free_inodes: int = 0
    total_inodes: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """One survey of the host, taken at `taken_ns` (monotonic); processes by pid."""

    taken_ns: int
    processes: Mapping[int, ProcessStats]
    data: Disk
    shared_memory: Disk
