"""Typed errors that cross a service's edge: on the wire between two workers, or out of a worker to the supervisor.

Rules:
- A `RemoteError` is what a call can end with. `retryable` tells whether the same request may succeed later; whether it
  may be sent twice is the caller's knowledge (`idempotent=`), not the error's.
- A service may refuse with a class of its own (in its `messages`): an exception whose `counts_as` is "rejected" and
  that has `kind`, `field` and `detail` travels like `Refused` and arrives as `Refused`.
- A `ConfigurationError` ends the worker with exit code 78: its text tells the operator what to do, nothing restarts it.
"""

from typing import Final, Literal

ProbeCause = Literal["own", "dependency", "environment"]


class RemoteError(Exception):
    """What a call ended with instead of a reply. `field` names the part of the request that is at fault, if one is."""

    kind: str = "internal"
    retryable: bool = False

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{self.kind}: {detail}" if field is None else f"{self.kind}: {field}: {detail}")
        self.detail = detail
        self.field = field


class Refused(RemoteError):
    """The request is at fault and will be refused again: `kind` says why, in the terms of the service that refused."""

    counts_as: Final = "rejected"

    def __init__(self, kind: str, field: str | None, detail: str) -> None:
        self.kind = kind
        super().__init__(detail, field=field)


class Unavailable(RemoteError):
    """The service cannot do it now. Nothing was acknowledged; the request may be sent again."""

    kind = "unavailable"
    retryable = True


class StorageUnavailable(Unavailable):
    """The disk is full, read-only or failing: this write was not acknowledged, and may be tried again later."""


class DeadlineExceeded(RemoteError):
    """No reply in time. Whether the request took effect is unknown."""

    kind = "deadline-exceeded"
    retryable = True


class PeerGone(RemoteError):
    """The peer died after the request was sent. Whether the request took effect is unknown."""

    kind = "peer-gone"
    retryable = True


class Overloaded(RemoteError):
    """Too many calls at once: this one was not begun."""

    kind = "overloaded"
    retryable = True


class Internal(RemoteError):
    """The peer failed in a way that it did not foresee; its log has the traceback."""

    kind = "internal"


class ConfigurationError(Exception):
    """The worker cannot run until an operator changes something. The text says what was found and what to do."""


class DatabaseCorrupt(ConfigurationError):
    """The database is not what was written to it. Nothing was overwritten."""


class ProbeFailed(Exception):
    """A worker's probe found something wrong, and knows whose fault it is.

    "own": replacing this worker may help. "dependency": another service is at fault. "environment": disk, clock, memory
    of the host; a replacement would not help.
    """

    def __init__(self, cause: ProbeCause, text: str) -> None:
        super().__init__(text)
        self.cause: ProbeCause = cause
        self.text = text
