"""What happens to one child, and what is to be done for it: the rows of the lifecycle's table and its results. Pure."""

import signal
from dataclasses import dataclass

from supervisor.child import Cause, Death, Exit


@dataclass(frozen=True, slots=True)
class Begin:
    """What the child depends on is ready: start it."""


@dataclass(frozen=True, slots=True)
class Due:
    """The child's deadline has passed."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The process said that it serves."""


@dataclass(frozen=True, slots=True)
class Died:
    """The process is gone. `luck`: random, from [0, 1), for the jitter of a back-off; `beat_at`: 0 is unknown."""

    exit: Exit
    luck: float
    cause: Cause | None = None
    detail: str = ""
    beat_at: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """The latest heartbeat in the block; 0: none of this generation."""

    at: int


@dataclass(frozen=True, slots=True)
class Excuse:
    """The supervisor itself was stopped, or cannot read heartbeats (`watched` False): old ones prove nothing."""

    watched: bool


@dataclass(frozen=True, slots=True)
class End:
    """The process has to go; `again` says whether another one follows, and is the child's new `wanted`."""

    cause: Cause
    again: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """The process has to go now, without a traceback or a drain, and is not wanted again."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """The process may go on for now, but none follows it."""


@dataclass(frozen=True, slots=True)
class Want:
    """The operator starts the child."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The operator restarts the child: whatever it does now, a new process follows."""


Event = Begin | Due | Ready | Died | Beat | Excuse | End | Abort | Dismiss | Want | Renew


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process as this generation."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the process of this generation."""

    name: str
    generation: int
    number: signal.Signals


@dataclass(frozen=True, slots=True)
class ReadBeat:
    """Read the heartbeat from the block and answer with a `Beat`."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """SIGKILL had no effect in `KILL_AGAIN_NS`; it is sent again."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class RecordDeath:
    """Keep the record of this death."""

    death: Death


Action = Start | Signal | ReadBeat | Stuck | RecordDeath
