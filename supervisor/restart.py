"""When a dead child is started again: a pure function of what it died of and of its past deaths.

Rules:
- An early death is one before readiness, or less than `stable_ns` after it. Early deaths in a row are followed by a
  back-off of `backoff_initial_ns` * 2^n, capped and jittered; more than `intensity` of them within `period_ns` and the
  child has failed.
- A death after a stable life starts the child again at once and forgets the early deaths. A child whose stable lives
  end more than `10 * intensity` times within a period is crashing in a loop all the same: those deaths count as early.
- SIGKILL comes from outside (an operator, the kernel short of memory) and says nothing about the child. One that had
  become ready counts as stable then, however young it was.
- A failed child gets one start every `failed_retry_ns`; dying early then, it has failed again, without further tries.
- Exit code 78 is a configuration error: failed, and not tried again before the operator asks.
- A permanent child is started again after every death, a transient one unless it exited with 0, a temporary one never.
"""

from dataclasses import dataclass
from signal import SIGKILL
from typing import Final

from config.topology import RestartPolicy
from supervisor.child import Exit
from supervisor.errors import CONFIGURATION_ERROR

RAPID_FACTOR: Final = 10
"""Stable lives may end this many times more often than early deaths before they count as a crash loop."""

_MAX_DOUBLINGS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The operator's limits, in nanoseconds; `backoff_jitter` is the largest share of a delay added or taken away."""

    stable_ns: int
    backoff_initial_ns: int
    backoff_max_ns: int
    backoff_jitter: float
    intensity: int
    period_ns: int
    failed_retry_ns: int


@dataclass(frozen=True, slots=True)
class History:
    """Past deaths that still matter. `streak`: early deaths in a row; `on_trial`: a failed child is given one try."""

    streak: int = 0
    early: tuple[int, ...] = ()
    stable: tuple[int, ...] = ()
    on_trial: bool = False


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start at `at`, which may be now. `why` is told to the operator."""

    at: int
    why: str
    history: History


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up until `retry_at`; None means until the operator asks."""

    retry_at: int | None
    why: str
    history: History


@dataclass(frozen=True, slots=True)
class Finish:
    """The child did what it was for."""

    why: str


Decision = StartAgain | Fail | Finish


def decide(
    limits: Limits, restart: RestartPolicy, history: History, died: Exit, ready_for: int | None, now: int, luck: float
) -> Decision:
    """Return what follows a death nobody asked for.

    `ready_for` is how long the child had been ready (None: it never was); `luck` is a random number from [0, 1).
    """
    if died.code == CONFIGURATION_ERROR:
        return Fail(None, "configuration error (exit code 78); start it again after correcting it", History())
    if restart == "temporary" or (restart == "transient" and died.code == 0):
        return Finish(f"finished ({died})")
    if ready_for is not None and (ready_for >= limits.stable_ns or died.signal == SIGKILL):
        stable = _within_period(limits, history.stable, now)
        if len(stable) <= RAPID_FACTOR * limits.intensity:
            return StartAgain(now, "at once", History(stable=stable))
        history = History(history.streak, history.early, stable)
    return _after_early_death(limits, history, now, luck)


def _after_early_death(limits: Limits, history: History, now: int, luck: float) -> Decision:
    early = _within_period(limits, history.early, now)
    counted = History(history.streak + 1, early, history.stable)
    if history.on_trial:
        return Fail(now + limits.failed_retry_ns, "died early again after a retry", counted)
    if len(early) > limits.intensity:
        why = f"{len(early)} early deaths within {limits.period_ns / 1e9:g} s"
        return Fail(now + limits.failed_retry_ns, why, counted)
    return StartAgain(now + backoff(limits, history.streak, luck), f"early death {counted.streak} in a row", counted)


def backoff(limits: Limits, streak: int, luck: float) -> int:
    """Return the delay before the next start, `streak` early deaths having come before this one."""
    doubled = limits.backoff_initial_ns * 2 ** min(streak, _MAX_DOUBLINGS)
    delay = min(doubled, limits.backoff_max_ns)
    return int(delay * (1 + limits.backoff_jitter * (2 * luck - 1)))


def _within_period(limits: Limits, deaths: tuple[int, ...], now: int) -> tuple[int, ...]:
    recent = (*(at for at in deaths if now - at < limits.period_ns), now)
    return recent[-(RAPID_FACTOR * limits.intensity + 1) :]
