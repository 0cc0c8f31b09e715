"""The supervisor's own log: one event a line, in the same two forms as the workers' logs."""

import json
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from config.schema import LogFormat, LogLevel
from supervisor.output import Output

_RANK: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3}


class Log:
    """Writes events to an `Output`. No secret is ever a value here."""

    def __init__(
        self,
        output: Output,
        log_format: LogFormat,
        level: LogLevel,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` gives the time of day, for display only."""
        self._output = output
        self._format = log_format
        self._least = _RANK[level]
        self._clock = clock

    def debug(self, event: str, **facts: object) -> None:
        """Tell a developer."""
        self._write("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Tell what happened."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Tell what may need attention."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Tell what needs attention."""
        self._write("error", event, facts)

    def failure(self, event: str, error: BaseException, **facts: object) -> None:
        """Tell of an error nobody expected, with its traceback."""
        text = "".join(traceback.format_exception(error)).rstrip("\n")
        if self._format == "json":
            self._write("error", event, {**facts, "exception": text})
            return
        self._write("error", event, facts)
        for line in text.splitlines():
            self._output.write(f"{line}\n".encode())

    def _write(self, level: str, event: str, facts: dict[str, object]) -> None:
        if _RANK[level] < self._least:
            return
        time = self._clock().isoformat(timespec="microseconds").replace("+00:00", "Z")
        shown = {key: value for key, value in facts.items() if value is not None}
        if self._format == "json":
            entry = {"event": event, **shown, "service": "supervisor", "pid": os.getpid(), "level": level}
            line = json.dumps({**entry, "timestamp": time}, default=str)
        else:
            pairs = "".join(f" {key}={_shown(value)}" for key, value in shown.items())
            line = f"{time} [{level:<9}] {event:<30} service=supervisor{pairs}"
        self._output.write(line.encode("utf-8", "backslashreplace") + b"\n")


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(character.isspace() for character in text) else text
