"""The operator's commands: what each one asks of the tree, and when it is done. Pure.

Rules: a command says what was done, or why nothing was; it names the valid services when it gets an unknown one. It
waits for its outcome no longer than its deadline, and then says how far it got: the work itself goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from supervisor.child import SECOND
from supervisor.lifecycle import Child, State
from supervisor.messages import Reply, Request
from supervisor.tree import Event, OperatorRestart, OperatorStart, OperatorStop, Tree

GRACE_NS: Final = 2 * SECOND
"""Allowed beyond the limits for draining and getting ready before a command is answered anyway."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A command that was given to the tree and whose outcome is awaited. `generation`: of the process it found."""

    command: str
    service: str
    generation: int
    deadline: int


_EVENTS: Final[dict[str, Callable[[str], Event]]] = {
    "start": OperatorStart,
    "stop": OperatorStop,
    "restart": OperatorRestart,
}


def accept(tree: Tree, request: Request, now: int) -> Reply | tuple[Event, Pending]:
    """Return what the tree is to be told and what to wait for, or at once the reply to a request that means nothing."""
    if request.command not in _EVENTS:
        valid = ", ".join(("status", *_EVENTS))
        return Reply(ok=False, message=f"unknown command {request.command!r}; there are: {valid}")
    child = tree.children.get(request.service)
    if child is None:
        valid = ", ".join(tree.children)
        return Reply(ok=False, message=f"unknown service {request.service!r}; there are: {valid}")
    if tree.stopping:
        return Reply(ok=False, message="the tree is shutting down")
    if request.command == "start" and child.state is State.READY:
        return Reply(ok=True, message=f"{request.service} runs already")
    if request.command == "stop" and child.state is State.STOPPED and not child.wanted:
        return Reply(ok=True, message=f"{request.service} is stopped already")
    limit = GRACE_NS
    if child.alive:
        limit += tree.policy.drain_timeout_ns
    if request.command != "stop":
        limit += tree.policy.ready_timeout_ns
    event = _EVENTS[request.command](request.service)
    return event, Pending(request.command, request.service, child.generation, now + limit)


def outcome(tree: Tree, pending: Pending, now: int) -> Reply | None:
    """Return the reply once there is one."""
    child = tree.children[pending.service]
    reply = _stopped(child, pending) if pending.command == "stop" else _started(tree, child, pending)
    if reply is None and (tree.stopping or now >= pending.deadline):
        message = f"{pending.service} is still {child.state}; `trustchain status` shows how it goes on"
        return Reply(ok=False, message=message)
    return reply


def _stopped(child: Child, pending: Pending) -> Reply | None:
    if child.wanted:
        return Reply(ok=False, message=f"{pending.service} was started again meanwhile")
    return Reply(ok=True, message=f"{pending.service} stopped") if child.state is State.STOPPED else None


def _started(tree: Tree, child: Child, pending: Pending) -> Reply | None:
    name, renewed = pending.service, pending.command == "restart" and pending.generation > 0
    newer = child.generation > pending.generation
    if child.state is State.READY and (newer or pending.command == "start"):
        return Reply(ok=True, message=f"{name} {'restarted' if renewed else 'started'} and ready")
    if child.state in (State.BACKOFF, State.FAILED) and newer:
        return Reply(ok=False, message=f"{name} was started and died: {child.state}, {child.detail}")
    if child.state is State.STOPPED and not child.wanted:
        return Reply(ok=newer, message=f"{name} {child.detail or 'was stopped meanwhile'}")
    waiting_for = tree.waiting_for(child)
    if waiting_for:
        return Reply(ok=True, message=f"{name} starts as soon as {', '.join(waiting_for)} is ready")
    return None
