"""The life of one child as a table: (state, event, now) -> (child, actions). Pure.

Rules, which no row of the table breaks:
- A process is started only from a state without one (stopped, backoff, failed) or by the death of the previous one, so
  a child never has two.
- `wanted` says what the operator (or the shutdown) wants after the present process. A death, a hang and a verdict never
  set it, so an operator's stop is not undone by any of them.
- A process that has to go is draining, whatever the cause: it got a signal, and a deadline after which it gets SIGKILL.
  A hung one gets SIGABRT first (its traceback goes to the log) and SIGCONT behind it, in case it was stopped: a pending
  SIGABRT is delivered before the process runs on. One that has to drain gets SIGTERM, and SIGCONT for the same reason.
- A heartbeat is asked for only when the last one known is `heartbeat_timeout` old.
- "stay" in the table is a pair that means nothing or cannot happen; it changes nothing.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from supervisor.child import SECOND, Cause, ChildSpec, Death, Exit
from supervisor.child_events import (
    Abort,
    Action,
    Beat,
    Begin,
    Died,
    Dismiss,
    Due,
    End,
    Event,
    Excuse,
    ReadBeat,
    Ready,
    RecordDeath,
    Renew,
    Signal,
    Start,
    Stuck,
    Want,
)
from supervisor.errors import CONFIGURATION_ERROR
from supervisor.restart import Fail, Finish, History, Limits, StartAgain, decide

KILL_AGAIN_NS: Final = 2 * SECOND
"""How long a SIGKILL may go without effect before it is sent again and reported."""


class State(StrEnum):
    """What `status` shows and the block carries."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    FAILED = "failed"


ALIVE: Final = frozenset({State.STARTING, State.READY, State.DRAINING})
"""The states in which a process exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits of design and settings that decide over a child's life, in nanoseconds."""

    restart: Limits
    heartbeat_timeout_ns: int
    ready_timeout_ns: int
    drain_timeout_ns: int
    abort_grace_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One child now. `deadline` is when it next needs a `Tick`; None: only an event can change it.

    `ending` is why a draining process has to go, `killed` that it got SIGKILL, `overdue` that it got it for being late.
    Heartbeats older than `trust_from` prove nothing; `watched` is False while none can be read, which is when the
    process still writes to a block that was given up.
    """

    spec: ChildSpec
    state: State = State.STOPPED
    wanted: bool = True
    generation: int = 0
    deadline: int | None = None
    started_at: int = 0
    ready_at: int | None = None
    beat_at: int = 0
    trust_from: int = 0
    watched: bool = True
    ending: Cause | None = None
    killed: bool = False
    overdue: bool = False
    detail: str = ""
    history: History = field(default_factory=History)

    @property
    def alive(self) -> bool:
        """Whether a process exists."""
        return self.state in ALIVE

    @property
    def vacant(self) -> bool:
        """Whether no process exists and none is about to: failed, stopped or finished, but not waiting to begin."""
        waits_to_begin = self.wanted and not self.generation
        return self.state is State.FAILED or (self.state is State.STOPPED and not waits_to_begin)

    @property
    def restarts(self) -> int:
        """Starts after the first."""
        return max(self.generation - 1, 0)


Result = tuple[Child, tuple[Action, ...]]
Transition = Callable[[Child, Any, int, Policy], Result]


def step(child: Child, event: Event, now: int, policy: Policy) -> Result:
    """Return the child after `event` and what has to be done for it."""
    return TABLE[child.state, type(event)](child, event, now, policy)


# -- transitions: start


def _stay(child: Child, _event: Event, _now: int, _policy: Policy) -> Result:
    return child, ()


def _launch(child: Child, _event: Event, now: int, policy: Policy) -> Result:
    launched = replace(
        child,
        state=State.STARTING,
        generation=child.generation + 1,
        deadline=now + policy.ready_timeout_ns,
        started_at=now,
        ready_at=None,
        beat_at=0,
        trust_from=0,
        watched=True,
        ending=None,
        killed=False,
        overdue=False,
        detail="",
    )
    return launched, (Start(child.spec.name, launched.generation),)


def _begin(child: Child, event: Event, now: int, policy: Policy) -> Result:
    return _launch(child, event, now, policy) if child.wanted else (child, ())


def _retry_failed(child: Child, event: Event, now: int, policy: Policy) -> Result:
    return _launch(replace(child, history=replace(child.history, on_trial=True)), event, now, policy)


def _start_afresh(child: Child, event: Event, now: int, policy: Policy) -> Result:
    return _launch(replace(child, wanted=True, history=History()), event, now, policy)


def _want(child: Child, _event: Event, _now: int, _policy: Policy) -> Result:
    return replace(child, wanted=True, detail="", history=History()), ()


def _want_after(child: Child, _event: Event, _now: int, _policy: Policy) -> Result:
    return replace(child, wanted=True), ()


# -- transitions: serve


def _serve(child: Child, _event: Ready, now: int, policy: Policy) -> Result:
    deadline = now + policy.heartbeat_timeout_ns if child.watched else None
    return replace(child, state=State.READY, ready_at=now, deadline=deadline), ()


def _ask_beat(child: Child, _event: Due, now: int, policy: Policy) -> Result:
    asked = replace(child, deadline=now + policy.heartbeat_timeout_ns)
    return asked, (ReadBeat(child.spec.name, child.generation),)


def _judge_beat(child: Child, event: Beat, now: int, policy: Policy) -> Result:
    # A heartbeat from the future is damage, not life: without this a damaged block would hide a hang for ever.
    claimed = event.at if event.at <= now else 0
    beat_at = max(claimed, child.beat_at)
    last = max(beat_at, child.ready_at or 0, child.trust_from)
    if child.watched and now - last >= policy.heartbeat_timeout_ns:
        detail = f"no heartbeat for {(now - last) / SECOND:.1f} s"
        return _abort_hung(replace(child, detail=detail), Cause.HANG, now, policy)
    deadline = last + policy.heartbeat_timeout_ns if child.watched else None
    return replace(child, beat_at=beat_at, deadline=deadline), ()


def _excuse(child: Child, event: Excuse, now: int, policy: Policy) -> Result:
    watched = event.watched and child.watched
    deadline = now + policy.heartbeat_timeout_ns if watched else None
    return replace(child, watched=watched, trust_from=now, deadline=deadline), ()


def _excuse_start(child: Child, event: Excuse, now: int, policy: Policy) -> Result:
    deadline = now + policy.ready_timeout_ns
    return replace(child, watched=event.watched and child.watched, deadline=deadline), ()


# -- transitions: end


def _not_ready(child: Child, _event: Due, now: int, policy: Policy) -> Result:
    detail = f"not ready after {(now - child.started_at) / SECOND:.1f} s"
    return _abort_hung(replace(child, detail=detail), Cause.NOT_READY, now, policy)


def _abort_hung(child: Child, cause: Cause, now: int, policy: Policy) -> Result:
    ending = replace(child, state=State.DRAINING, ending=cause, deadline=now + policy.abort_grace_ns)
    return ending, _signals(child, signal.SIGABRT, signal.SIGCONT)


def _drain(child: Child, event: End, now: int, policy: Policy) -> Result:
    ending = replace(
        child,
        state=State.DRAINING,
        wanted=child.wanted and event.again,
        ending=event.cause,
        detail=event.detail,
        deadline=now + policy.drain_timeout_ns,
    )
    return ending, _signals(child, signal.SIGTERM, signal.SIGCONT)


def _end_again(child: Child, event: End, _now: int, _policy: Policy) -> Result:
    return replace(child, wanted=child.wanted and event.again), ()


def _renew(child: Child, _event: Renew, now: int, policy: Policy) -> Result:
    return _drain(child, End(Cause.OPERATOR, again=True, detail="restart"), now, policy)


def _kill_late(child: Child, _event: Due, now: int, _policy: Policy) -> Result:
    late = replace(child, killed=True, overdue=child.overdue or not child.killed, deadline=now + KILL_AGAIN_NS)
    stuck = (Stuck(child.spec.name, child.generation),) if child.killed else ()
    return late, (*_signals(child, signal.SIGKILL), *stuck)


def _kill(child: Child, _event: Abort, now: int, _policy: Policy) -> Result:
    ending = replace(
        child,
        state=State.DRAINING,
        wanted=False,
        ending=child.ending or Cause.SHUTDOWN,
        killed=True,
        deadline=now + KILL_AGAIN_NS,
    )
    return ending, _signals(child, signal.SIGKILL)


def _dismiss(child: Child, _event: Dismiss, _now: int, _policy: Policy) -> Result:
    return replace(child, wanted=False), ()


def _forget(child: Child, event: End | Abort | Dismiss, _now: int, _policy: Policy) -> Result:
    """End a child that has no process: only whether it is wanted can change."""
    if isinstance(event, End) and event.again:
        return child, ()
    return replace(child, state=State.STOPPED, wanted=False, deadline=None, detail=_stopped_by(event)), ()


def _rest(child: Child, _event: Abort | Dismiss, _now: int, _policy: Policy) -> Result:
    """A failed child stays failed, and its reason on show, while the others end."""
    return replace(child, wanted=False, deadline=None), ()


def _stopped_by(event: End | Abort | Dismiss) -> str:
    operator = isinstance(event, End) and event.cause is Cause.OPERATOR
    return "stopped by the operator" if operator else "stopped"


# -- transitions: death


def _died(child: Child, event: Died, now: int, policy: Policy) -> Result:
    cause = event.cause or _cause(event.exit)
    record = RecordDeath(_death(child, event, cause, event.detail, now))
    if not child.wanted:
        return replace(child, state=State.STOPPED, deadline=None, detail="stopped"), (record,)
    ready_for = None if child.ready_at is None else now - child.ready_at
    after, actions = _after_death(child, event, ready_for, now, policy)
    return after, (record, *actions)


def _ended(child: Child, event: Died, now: int, policy: Policy) -> Result:
    """Death of a draining process. A hang counts like a crash; what was planned is followed by a start at once."""
    cause = child.ending or Cause.CRASH
    record = RecordDeath(_death(child, event, cause, child.detail, now))
    if not child.wanted:
        detail = "stopped by the operator" if cause is Cause.OPERATOR else "stopped"
        return replace(child, state=State.STOPPED, deadline=None, detail=detail), (record,)
    if cause in (Cause.HANG, Cause.NOT_READY, Cause.SUPERVISOR):
        ready_for = None if child.ready_at is None else now - child.ready_at
        after, actions = _after_death(child, event, ready_for, now, policy)
    else:
        after, actions = _launch(replace(child, history=History()), event, now, policy)
    return after, (record, *actions)


def _after_death(child: Child, event: Died, ready_for: int | None, now: int, policy: Policy) -> Result:
    decision = decide(policy.restart, child.spec.restart, child.history, event.exit, ready_for, now, event.luck)
    match decision:
        case StartAgain(at=at, why=why, history=history) if at > now:
            return replace(child, state=State.BACKOFF, deadline=at, history=history, detail=why), ()
        case StartAgain(history=history):
            return _launch(replace(child, history=history), event, now, policy)
        case Fail(retry_at=retry_at, why=why, history=history):
            return replace(child, state=State.FAILED, deadline=retry_at, history=history, detail=why), ()
        case Finish(why=why):
            return replace(child, state=State.STOPPED, wanted=False, deadline=None, detail=why), ()


def _cause(died: Exit) -> Cause:
    if died.code == CONFIGURATION_ERROR:
        return Cause.CONFIGURATION
    return Cause.FINISHED if died.code == 0 else Cause.CRASH


def _death(child: Child, event: Died, cause: Cause, detail: str, now: int) -> Death:
    last = max(child.beat_at, event.beat_at)
    return Death(
        service=child.spec.name,
        index=child.spec.index,
        generation=child.generation,
        exit=event.exit,
        cause=cause,
        detail=detail,
        drain_timed_out=child.overdue and cause not in (Cause.HANG, Cause.NOT_READY),
        uptime_ns=now - child.started_at,
        heartbeat_age_ns=max(now - last, 0) if last else None,
    )


def _signals(child: Child, *numbers: signal.Signals) -> tuple[Signal, ...]:
    return tuple(Signal(child.spec.name, child.generation, number) for number in numbers)


_ROWS: Final[dict[type[Event], tuple[Transition, ...]]] = {
    # event    stopped   starting       ready          draining      backoff         failed
    Begin:  (_begin,   _stay,         _stay,         _stay,        _stay,          _stay),
    Due:    (_stay,    _not_ready,    _ask_beat,     _kill_late,   _launch,        _retry_failed),
    Ready:  (_stay,    _serve,        _stay,         _stay,        _stay,          _stay),
    Died:   (_stay,    _died,         _died,         _ended,       _stay,          _stay),
    Beat:   (_stay,    _stay,         _judge_beat,   _stay,        _stay,          _stay),
    Excuse: (_stay,    _excuse_start, _excuse,       _stay,        _stay,          _stay),
    End:    (_forget,  _drain,        _drain,        _end_again,   _forget,        _forget),
    Abort:  (_forget,  _kill,         _kill,         _kill,        _forget,        _rest),
    Dismiss: (_forget, _dismiss,      _dismiss,      _dismiss,     _forget,        _rest),
    Want:   (_want,    _stay,         _stay,         _want_after,  _start_afresh,  _start_afresh),
    Renew:  (_want,    _renew,        _renew,        _want_after,  _start_afresh,  _start_afresh),
}  # fmt: skip

TABLE: Final[dict[tuple[State, type[Event]], Transition]] = {
    (state, event): transition for event, row in _ROWS.items() for state, transition in zip(State, row, strict=True)
}
