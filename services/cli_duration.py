"""Spans of time as operators write them on the command line: `90s`, `12h`, `7d`, or seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import click

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw]?)", re.ASCII)


def duration(longest: int) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """The callback of an option that takes a span of time of at most `longest` seconds, and gives it in seconds."""

    def parsed(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
        return None if text is None else seconds_of(text, longest)

    return parsed


def seconds_of(text: str, longest: int) -> int:
    """A span of time in seconds. Raises click.BadParameter for what is none, or more than `longest` seconds."""
    parts = _DURATION.fullmatch(text)
    if parts is None:
        raise click.BadParameter(f"{text!r} is not a span of time such as 90s, 12h or 7d")
    seconds = int(parts[1]) * _UNITS[parts[2]]
    if seconds > longest:
        raise click.BadParameter(f"{text!r} is more than {longest // 86_400} days")
    return seconds


def shown_span(seconds: int) -> str:
    """A span of time as people read it: `45 s`, `12 h`, `30 d`."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
