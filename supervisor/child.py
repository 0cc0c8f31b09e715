"""What is supervised, and how a process can end: words that the rest of the supervisor speaks in. Pure.

Rules: a child is a service's worker over all its processes; a generation is one of these processes, counted from 1.
Times are nanoseconds of one monotonic clock.
"""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from config.topology import RestartPolicy

SECOND: Final = 1_000_000_000
"""One second in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to run and how to treat it; never changes while the tree runs."""

    name: str
    slot: int
    module: str = ""
    depends_on: tuple[str, ...] = ()
    restart: RestartPolicy = "permanent"
    required: bool = True
    index: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by an exit code, by a signal, or (both None) in a way that nobody saw."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_exitcode(cls, exitcode: int) -> "Exit":
        """Read `multiprocessing.Process.exitcode`, in which a signal is a negative number."""
        return cls(signal=-exitcode) if exitcode < 0 else cls(code=exitcode)

    @property
    def signal_name(self) -> str | None:
        """`SIGKILL` and the like; real-time signals have only a number."""
        if self.signal is None:
            return None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"SIG{self.signal}"

    def __str__(self) -> str:
        if self.code is not None:
            return f"exit code {self.code}"
        return self.signal_name or "unknown"


class Cause(StrEnum):
    """Why a process ended or has to end."""

    CRASH = "crash"
    FINISHED = "finished"
    HANG = "hang"
    NOT_READY = "not ready in time"
    NOT_STARTED = "could not be started"
    FORK_SERVER = "fork server lost"
    CONFIGURATION = "configuration error"
    VERDICT = "verdict"
    OPERATOR = "operator"
    BLOCK = "metrics block rebuilt"
    SUPERVISOR = "error in the supervisor"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The facts of one death, as far as they are decided and not observed. Ages in nanoseconds."""

    service: str
    index: int
    generation: int
    exit: Exit
    cause: Cause
    detail: str
    drain_timed_out: bool
    uptime_ns: int
    heartbeat_age_ns: int | None
