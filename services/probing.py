"""Whose fault a failed probe is: pure.

The supervisor replaces a worker only for a fault of its own. A dependency that is down and a full disk are not cured by
a replacement, so everything that points at one of them must end up there; what nobody foresaw is the worker's own.
"""

import errno
from dataclasses import dataclass
from typing import Final

from monitoring.block import ProbeState
from services.errors import ProbeFailed, Refused, RemoteError, StorageUnavailable

_HOST_ERRORS: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.ENFILE))
_CAUSES: Final = {
    "own": ProbeState.FAIL_OWN,
    "dependency": ProbeState.FAIL_DEPENDENCY,
    "environment": ProbeState.FAIL_ENVIRONMENT,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found. `result` is the label value of its counter; `error` is kept where a traceback helps."""

    state: ProbeState
    note: str = ""
    error: Exception | None = None

    @property
    def result(self) -> str:
        return self.state.name.lower()


def passed() -> Finding:
    """All is well."""
    return Finding(ProbeState.PASS)


def finding_of(error: Exception) -> Finding:
    """What the exception that ended a probe says."""
    state, note = _judge(error)
    return Finding(state, note or type(error).__name__, error if state is ProbeState.FAIL_OWN else None)


def _judge(error: Exception) -> tuple[ProbeState, str]:
    if isinstance(error, ProbeFailed):
        return _CAUSES[error.cause], error.text
    if isinstance(error, StorageUnavailable):
        return ProbeState.FAIL_ENVIRONMENT, error.detail
    if isinstance(error, RemoteError) and not isinstance(error, Refused):
        return ProbeState.FAIL_DEPENDENCY, str(error)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _HOST_ERRORS):
        return ProbeState.FAIL_ENVIRONMENT, str(error)
    if isinstance(error, TimeoutError):
        return ProbeState.FAIL_OWN, "the probe did not finish in time"
    return ProbeState.FAIL_OWN, f"{type(error).__name__}: {error}"
