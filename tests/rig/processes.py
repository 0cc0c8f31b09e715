"""What is alive under a supervisor, read from /proc."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one of the same pid. `started` is in clock ticks since boot.

    Not psutil's creation time: that is a time of day, and changes when the clock is set.
    """

    pid: int
    started: int


def family(root: int) -> set[ProcessId]:
    """`root`, all that descends from it, and all of its session, which a child keeps when its parent dies."""
    found = {root} | {process.pid for process in _descendants(root)} | set(_session(root))
    return {identity for pid in found if (identity := identify(pid)) is not None}


def identify(pid: int) -> ProcessId | None:
    """The process now known as `pid`; None when there is none or only its exit status is left."""
    try:
        state, *numbers = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in ("Z", "X") else ProcessId(pid, int(numbers[18]))


def alive(processes: Iterable[ProcessId]) -> set[ProcessId]:
    """Those of `processes` that still run; an exited process that nobody has waited for does not."""
    return {process for process in processes if identify(process.pid) == process}


def send(pid: int, number: signal.Signals) -> None:
    """Signal `number` to `pid`, which must exist."""
    os.kill(pid, number)


def kill_all(processes: Iterable[ProcessId]) -> None:
    """SIGKILL to each that still runs."""
    for process in alive(processes):
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def describe(processes: Iterable[ProcessId]) -> str:
    """One line per process, for the message of a failed assertion."""
    return "\n".join(f"{process.pid}: {_command(process.pid)}" for process in processes)


def cpu_seconds(processes: Iterable[ProcessId]) -> float:
    """User and system time that `processes` have used so far."""
    total = 0
    for process in processes:
        fields = _stat(process.pid)
        total += int(fields[11]) + int(fields[12])
    return total / _CLOCK_TICKS


def proportional_memory(process: ProcessId) -> int:
    """PSS in bytes: pages shared by n processes count 1/n to each, so the sum over a tree is what the tree costs."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no Pss line for process {process.pid}")


def title(pid: int) -> str:
    """The command line, as `ps` shows it."""
    return _command(pid)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, which may hold anything: from the third, `state`, on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


def _descendants(root: int) -> list[psutil.Process]:
    try:
        return psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _session(leader: int) -> list[int]:
    members = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                members.append(pid)
        except ProcessLookupError:
            continue
    return members
