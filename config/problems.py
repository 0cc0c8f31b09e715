"""What is wrong with a configuration, in words that tell the operator what to change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_SHOWN: Final = 50
"""More problems than these are counted, not shown."""

MAX_FOUND_LENGTH: Final = 80
"""A longer value is shortened in an error text (characters)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct: `place` is `FILE:LINE`, `FILE`, or the option or variable that the value came from."""

    place: str
    key: str
    found: str
    expected: str
    nearest: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: {self.key}" if self.key else self.place
        suggestion = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{where}: found {self.found}, expected {self.expected}{suggestion}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that was found, and `str()` one line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if len(self.problems) > MAX_SHOWN:
            lines.append(f"and {len(self.problems) - MAX_SHOWN} more")
        return "\n".join(lines)


def as_toml(value: object) -> str:
    """Return a setting's value the way a TOML file would say it; what no setting can be is described in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, str):
        # JSON escapes are TOML escapes, except that TOML wants DEL escaped too and has no surrogate pairs.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "a table"
    return str(value)


def shortened(value: object) -> str:
    """Return `as_toml` of a value, at most `MAX_FOUND_LENGTH` characters long."""
    if isinstance(value, list | tuple) and len(value) > MAX_FOUND_LENGTH:
        return f"a list of {len(value)} values"
    if isinstance(value, str) and len(value) > MAX_FOUND_LENGTH:
        return f"{as_toml(value[: MAX_FOUND_LENGTH // 2])}... ({len(value)} characters)"
    text = as_toml(value)
    return text if len(text) <= MAX_FOUND_LENGTH else f"{text[: MAX_FOUND_LENGTH - 3]}..."


def _number(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        # Python refuses to print integers of more than 4300 digits.
        return f"an integer of {value.bit_length()} bits"
    return repr(value)
