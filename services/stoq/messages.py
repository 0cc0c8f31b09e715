"""What the transport promises to those who call through it: its limits, its errors, and what a call may be named.

The only file of this service that another service may import. Rules:
- Octets are counted before encryption. Times on the wire are milliseconds.
- An `ErrorKind` is what a Failure says. Those in NOT_BEGUN promise that nothing was done and that the same request may
  succeed later: it may be sent again, after `retry_after_ms` if that is told. After `deadline-exceeded` and `internal`
  nobody knows: a state-changing request is then sent again with the same request id, never with a new one.
- A `NotAccepted` is why a signed message is not acted on. Its `kind` is what the sender is told.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

ALPN: Final = "stoq/1"
VERSION: Final = 1

MAX_BODY_OCTETS: Final = 1_048_576
MAX_AROUND_BODY_OCTETS: Final = 4_096  # everything in a frame that is not its body, and all of a frame without one
MAX_FRAME_OCTETS: Final = MAX_BODY_OCTETS + MAX_AROUND_BODY_OCTETS
MAX_STREAMS: Final = 1_000
MAX_IDLE_S: Final = 600
MAX_CAPABILITIES: Final = 32
MAX_CAPABILITY_CHARACTERS: Final = 32
MAX_SERVICE_CHARACTERS: Final = 32
MAX_METHOD_CHARACTERS: Final = 64
MAX_TRACE_CHARACTERS: Final = 55  # a traceparent of version 00 (W3C Trace Context, section 3.2.2)
MAX_FIELD_CHARACTERS: Final = 64
MAX_DETAIL_CHARACTERS: Final = 512
MAX_DEADLINE_MS: Final = 600_000
MAX_RETRY_AFTER_MS: Final = 3_600_000
MAX_TIME_MS: Final = 2**63 - 1  # of the Unix epoch; what a signed 64-bit column holds
MAX_ID_CHARACTERS: Final = 128
REQUEST_ID_OCTETS: Final = 16
DIGEST_OCTETS: Final = 32

ErrorKind = Literal[
    "malformed",  # not a frame, not the next frame, or not the type that the method takes
    "unsupported-version",  # no version is spoken by both
    "no-hello",  # something else came before the two HELLOs
    "unknown-method",  # no such service or method here
    "too-large",  # a body above the agreed limit, or a frame above any
    "unauthenticated",  # nobody knows who asks
    "forbidden",  # it is known who asks, and that it may not
    "deadline-exceeded",  # no reply in time; nobody knows whether it took effect
    "overloaded",  # too much at once: not begun
    "unavailable",  # it cannot be done now: not begun
    "conflict",  # this request id belongs to another request
    "replayed",  # this signed message came before
    "refused",  # the service refused, and will refuse the same again
    "internal",  # the peer failed in a way that it did not foresee
]
ERROR_KINDS: Final[frozenset[str]] = frozenset(get_args(ErrorKind))
NOT_BEGUN: Final[frozenset[str]] = frozenset(("overloaded", "unavailable"))

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", re.ASCII)


class NotAccepted(Exception):
    """A signed message that is not acted on. The text is for the log of whom it was for."""

    kind: ErrorKind = "malformed"


class Malformed(NotAccepted):
    """The octets are no signed message, or not written the one way it can be."""


class UnknownSigner(NotAccepted):
    """No key of this sender is known here, or not one of each algorithm that is demanded."""

    kind = "unauthenticated"


class BadSignature(NotAccepted):
    """A signature is wrong, or one that is demanded is missing."""

    kind = "unauthenticated"


class WrongRecipient(NotAccepted):
    """It was signed for somebody else."""

    kind = "forbidden"


class WrongDomain(NotAccepted):
    """It was signed for another purpose."""

    kind = "forbidden"


class TooOld(NotAccepted):
    """It was signed before the window in which it could be told from a repetition."""

    kind = "replayed"


class FromTheFuture(NotAccepted):
    """It was signed later than the clocks of two hosts may differ."""

    kind = "refused"


class Replayed(NotAccepted):
    """The same sender's message with this request id was accepted before."""

    kind = "replayed"


class WindowFull(NotAccepted):
    """The sender has as many messages in the window as can be remembered: not begun."""

    kind = "overloaded"


def is_id(text: str) -> bool:
    """Whether a host, service or domain may be called so: 1 to MAX_ID_CHARACTERS of ASCII, no spaces."""
    return len(text) <= MAX_ID_CHARACTERS and _ID.fullmatch(text) is not None
