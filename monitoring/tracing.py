"""W3C trace context: the `traceparent` header, carried in HTTP requests and in calls between workers. Pure.

https://www.w3.org/TR/trace-context-2/: `00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>`, lower case, ids not all
zero. Of a higher version the first four fields count. Whoever passes a request on puts its own span id in the place of
the one it received.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

RandomBytes = Callable[[int], bytes]
"""Returns that many random bytes; `os.urandom` outside of tests."""

SAMPLED = 0x01
RANDOM_TRACE_ID = 0x02
_KNOWN_FLAGS = SAMPLED | RANDOM_TRACE_ID
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_MAX_LENGTH = 512


class TraceparentInvalid(ValueError):
    """The text is not a traceparent header; the receiver starts a trace of its own."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of a trace. Raises TraceparentInvalid for a malformed id, one of zeros, or flags over one byte."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED

    def __post_init__(self) -> None:
        if not _TRACEPARENT.fullmatch(f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"):
            raise TraceparentInvalid("a trace id has 32, a span id 16 lower-case hexadecimal digits, the flags 2")
        if not self.trace_id.strip("0") or not self.span_id.strip("0"):
            raise TraceparentInvalid("a trace or span id of zeros is invalid")

    @classmethod
    def start(cls, random: RandomBytes, *, sampled: bool = True) -> "TraceContext":
        """The first span of a new trace."""
        flags = RANDOM_TRACE_ID | (SAMPLED if sampled else 0)
        return cls(_fresh(random, 16), _fresh(random, 8), flags)

    @classmethod
    def parse(cls, header: str) -> "TraceContext":
        """The caller's span. Raises TraceparentInvalid, and nothing else, for any other text."""
        found = _TRACEPARENT.fullmatch(header) if len(header) <= _MAX_LENGTH else None
        if found is None:
            raise TraceparentInvalid("not of the form 00-<32 hex>-<16 hex>-<2 hex>")
        version, trace_id, span_id, flags, rest = found.groups()
        if version == "ff" or (version == "00" and rest is not None):
            raise TraceparentInvalid(f"version {version} of traceparent has no such form")
        return cls(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS)

    @classmethod
    def continued(cls, header: str | None, random: RandomBytes) -> "TraceContext":
        """A new span below the caller's; of a new trace if the header is missing or invalid."""
        if header is None:
            return cls.start(random)
        try:
            return cls.parse(header.strip(" \t")).child(random)
        except TraceparentInvalid:
            return cls.start(random)

    def child(self, random: RandomBytes) -> "TraceContext":
        """A new span of the same trace."""
        return TraceContext(self.trace_id, _fresh(random, 8), self.flags)

    def format(self) -> str:
        """The header to send to whoever is called next."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded the trace."""
        return bool(self.flags & SAMPLED)


def _fresh(random: RandomBytes, size: int) -> str:
    identifier = random(size)
    while not any(identifier):
        identifier = random(size)
    return identifier.hex()
