"""Spans of time as operators write them on the command line: `90s`, `12h`, `7d`, or seconds."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw]?)", re.ASCII)


class Duration(click.ParamType[int]):
    """A whole number of seconds, minutes, hours, days or weeks, as seconds; at most `longest` seconds."""

    name = "duration"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of seconds. Raises click.BadParameter."""
        parts = _DURATION.fullmatch(str(value))
        if parts is None:
            self.fail(f"{value!r} is not a span of time such as 90s, 12h or 7d", param, ctx)
        seconds = int(parts[1]) * _UNITS[parts[2]]
        if seconds > self._longest:
            self.fail(f"{value!r} is more than {self._longest // 86_400} days", param, ctx)
        return seconds


def shown(seconds: int) -> str:
    """A span of time as people read it: `45 s`, `12 h`, `30 d`."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
