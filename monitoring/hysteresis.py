"""Hysteresis in time: what comes and goes quickly is neither reported nor forgiven at once (pure)."""

from typing import Final

from monitoring.scoring import LEAST, SECOND, Loss

ENTER_NS: Final = 5 * SECOND
LEAVE_NS: Final = 15 * SECOND


class Latch:
    """A yes or no that follows its input only after the input has stayed changed for `enter_ns` or `leave_ns`."""

    def __init__(self, enter_ns: int, leave_ns: int) -> None:
        self._enter, self._leave = enter_ns, leave_ns
        self._on = False
        self._differs_since: int | None = None

    def follow(self, wanted: bool, now: int) -> bool:
        """Take in the input at `now` and return the latched answer."""
        if wanted == self._on:
            self._differs_since = None
            return self._on
        if self._differs_since is None:
            self._differs_since = now
        if now - self._differs_since >= (self._enter if wanted else self._leave):
            self._on, self._differs_since = wanted, None
        return self._on


class Damper:
    """Lets a loss in once it has lasted, and keeps the least of it until it has stayed away."""

    def __init__(self, enter_ns: int = ENTER_NS, leave_ns: int = LEAVE_NS) -> None:
        self._latch = Latch(enter_ns, leave_ns)
        self._remark = f"(no longer so, but not for {leave_ns / SECOND:.0f} s yet)"
        self._last = Loss("")

    def admit(self, loss: Loss, now: int) -> Loss:
        """Return what counts of `loss` at `now`."""
        if loss.amount:
            self._last = loss
        if not self._latch.follow(loss.amount > 0, now):
            return Loss(loss.factor)
        if loss.amount:
            return loss
        return Loss(loss.factor, min(LEAST, self._last.amount), f"{self._last.issue} {self._remark}", loss.cause)
