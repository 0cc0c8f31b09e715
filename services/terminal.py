"""What may be shown on a terminal. Pure."""

from __future__ import annotations


def printable(line: str) -> str:
    """`line` with everything escaped that a terminal would take for a command: names and reasons come from others."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
