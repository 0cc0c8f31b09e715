"""What a worker writes to its standard output and error: whole lines for the log, the end for the record. Pure."""

import json
from typing import Final

TAIL_BYTES: Final = 4096
"""How much of the end is kept for the record of the worker's death."""

LINE_BYTES: Final = 16_384
"""A longer line is cut into pieces of this length."""


class Capture:
    """Takes bytes as they come, gives back lines."""

    def __init__(self) -> None:
        self._partial = b""
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their line ends; empty ones say nothing and are left out."""
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._partial = (self._partial + data).split(b"\n")
        while len(self._partial) > LINE_BYTES:
            lines.append(self._partial[:LINE_BYTES])
            self._partial = self._partial[LINE_BYTES:]
        return [stripped for line in lines if (stripped := line.rstrip(b"\r"))]

    def close(self) -> list[bytes]:
        """Return what is left of a line that was not ended."""
        left, self._partial = self._partial, b""
        return [left] if left else []

    @property
    def tail(self) -> str:
        """The last 4 KiB, from the beginning of a line if there is one."""
        text = self._tail.decode("utf-8", "replace")
        if len(self._tail) == TAIL_BYTES and "\n" in text[:-1]:
            text = text.partition("\n")[2]
        return text.rstrip("\n")


def as_log_line(service: str, line: bytes, log_format: str) -> bytes:
    """Return a worker's line as it goes to our standard error.

    Workers write structured lines by themselves; a traceback or a library's print is brought into the same form.
    """
    if log_format != "json":
        return b"%s | %s\n" % (service.encode(), line)
    if line.startswith(b"{") and line.endswith(b"}"):
        return line + b"\n"
    text = line.decode("utf-8", "replace")
    return json.dumps({"service": service, "level": "error", "event": text}).encode() + b"\n"
