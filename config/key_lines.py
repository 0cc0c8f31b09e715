"""On which line of a TOML document each key is set.

Rules: the parser in use gives lines for syntax errors only, so this scan follows a document that it has already
accepted. Keys inside an inline table are not looked for: they bear the line of the key whose value holds them.
"""

import re
from collections.abc import Mapping
from typing import Final

import tomli

KeyPath = tuple[str, ...]

_TOKEN: Final = re.compile(
    r"""
      (?P<string>
          \"\"\"(?:\\.|[^\\])*?\"\"\"\"{0,2}    # up to two quotes may precede the closing three
        | '''.*?''''{0,2}
        | "(?:\\.|[^"\\])*"
        | '[^']*'
      )
    | (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<equals>=)
    | (?P<open>[\[{])
    | (?P<close>[\]}])
    | (?P<text>[^"'\#\n=\[\]{}]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(document: str) -> dict[KeyPath, int]:
    """Return the line (from 1) on which every section and key of a valid TOML document is first said."""
    scan = _Scan()
    for token in _TOKEN.finditer(document):
        scan.take(token.lastgroup or "text", token.group())
    scan.take("newline", "\n")
    return scan.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of `path`, or of the innermost thing around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _Scan:
    """Where the scan stands: before a key, inside a section header, or inside a value."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._line = 1
        self._section: KeyPath = ()
        self._statement = ""
        self._in_value = False
        self._depth = 0

    def take(self, kind: str, text: str) -> None:
        if self._in_value:
            self._take_of_value(kind)
        elif kind == "newline":
            self._end_header()
        elif kind == "equals":
            self._record(self._section + _path(self._statement))
            self._statement = ""
            self._in_value = True
        elif kind != "comment":
            self._statement += text
        self._line += text.count("\n")

    def _take_of_value(self, kind: str) -> None:
        if kind == "open":
            self._depth += 1
        elif kind == "close":
            self._depth -= 1
        elif kind == "newline" and self._depth == 0:
            self._in_value = False

    def _end_header(self) -> None:
        header = self._statement.strip()
        self._statement = ""
        if header:
            brackets = 2 if header.startswith("[[") else 1
            self._section = _path(header[brackets:-brackets])
            self._record(self._section)

    def _record(self, path: KeyPath) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], self._line)


def _path(dotted: str) -> KeyPath:
    """Split a dotted key, whose parts may be quoted, through the parser itself."""
    parts: list[str] = []
    node: object = tomli.loads(f"{dotted} = 0")
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)
