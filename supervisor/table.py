"""`trustchain status` for a person: tables."""

import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from supervisor.messages import DeathRecord, StatusDocument, SupervisorStatus, WorkerStatus

PIPE_WIDTH: Final = 200

_COLOURS = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "backoff": "yellow",
    "failed": "red",
    "stopped": "dim",
}


def show_status(document: StatusDocument, console: Console | None = None) -> None:
    """Print the supervisor in a line and the workers in a table."""
    console = console or _console()
    console.print(_headline(document.supervisor), soft_wrap=True)
    if document.supervisor.health not in (None, "healthy"):
        console.print(_plain(document.supervisor.health_line or ""), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("SERVICE", "STATE", "PID", "RESTARTS", "HEARTBEAT", "UPTIME", "NOTE"):
        right = name in ("PID", "RESTARTS", "HEARTBEAT", "UPTIME")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "NOTE")
    for worker in document.workers:
        table.add_row(*_row(worker))
    console.print(table)


def show_deaths(deaths: Sequence[DeathRecord], console: Console | None = None) -> None:
    """Print each death with its last words, the latest last."""
    console = console or _console()
    console.print()
    if not deaths:
        console.print("no deaths on record")
    for death in deaths:
        ended_by = death.signal or (f"exit code {death.exit_code}" if death.exit_code is not None else "end unseen")
        parts = [f"{death.time}  {death.service} (pid {death.pid})  {ended_by}  {death.reason}"]
        parts += [death.detail] if death.detail else []
        parts += [f"after {_duration(death.uptime_seconds)}"]
        if death.heartbeat_age_ms is not None:
            parts += [f"last heartbeat {_age(death.heartbeat_age_ms)} before"]
        console.print(_plain(", ".join(parts)), soft_wrap=True)
        for line in death.log_tail.splitlines():
            console.print(f"    {_plain(line)}", style="dim", soft_wrap=True)


def _console() -> Console:
    """Standard output; where no person sees it as it comes, lines are not broken at the width of a terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _headline(supervisor: SupervisorStatus) -> str:
    health = "unknown"
    if supervisor.health is not None and supervisor.health_score is not None:
        health = f"{supervisor.health} ({supervisor.health_score:.2f})"
    parts = (
        f"TrustChain {supervisor.version} {supervisor.state}",
        f"pid {supervisor.pid}",
        f"up {_duration(supervisor.uptime_seconds)}",
        f"health {health}",
        supervisor.mode,
        supervisor.data_dir,
    )
    return escape(", ".join(parts))


def _row(worker: WorkerStatus) -> tuple[str, ...]:
    note = worker.note
    if worker.retry_in_seconds is not None:
        note = f"{note}; next try in {_duration(worker.retry_in_seconds)}"
    colour = _COLOURS.get(worker.state, "default")
    return (
        escape(worker.service if not worker.index else f"{worker.service} {worker.index}"),
        f"[{colour}]{worker.state}[/]",
        "-" if worker.pid is None else str(worker.pid),
        str(worker.restarts),
        "-" if worker.heartbeat_age_ms is None else _age(worker.heartbeat_age_ms),
        "-" if worker.uptime_seconds is None else _duration(worker.uptime_seconds),
        _plain(note),
    )


def _plain(text: str) -> str:
    """A worker's words as text: neither markup nor anything that a terminal would obey."""
    return escape("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


def _age(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else _duration(milliseconds / 1000)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"
