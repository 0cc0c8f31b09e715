"""What goes over the control socket, and `trustchain status --json` with it. Pure."""

import msgspec


class SupervisorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor itself. `state`: starting (not every required worker was ready yet), running or stopping.

    `health`, `health_score` and `health_line` (a sentence) are the monitor's; None while nothing fresh is published.
    """

    pid: int
    version: str
    mode: str
    state: str
    ready: bool
    uptime_seconds: float
    data_dir: str
    block: str
    health: str | None
    health_score: float | None
    health_line: str | None
    log_lines_dropped: int


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker. `pid`, `heartbeat_age_ms` and `uptime_seconds` are None while there is no process."""

    service: str
    index: int
    pid: int | None
    state: str
    restarts: int
    heartbeat_age_ms: float | None
    uptime_seconds: float | None
    generation: int
    required: bool
    retry_in_seconds: float | None
    note: str


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `trustchain status --json`."""

    supervisor: SupervisorStatus
    workers: list[WorkerStatus]


class DeathRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One death. Exactly one of `exit_code` and `signal` is set, if anybody saw how it ended."""

    time: str
    service: str
    index: int
    pid: int
    generation: int
    exit_code: int | None
    signal: str | None
    reason: str
    detail: str
    heartbeat_age_ms: float | None
    uptime_seconds: float
    log_tail: str


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line from `trustchain status|start|stop|restart`."""

    command: str
    service: str = ""
    deaths: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, in one line. `message` is for a person."""

    ok: bool
    message: str = ""
    status: StatusDocument | None = None
    deaths: list[DeathRecord] = []
