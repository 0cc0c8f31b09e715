"""What `trustchain status` shows: the tree as plain data. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.child import SECOND
from supervisor.lifecycle import Child, State
from supervisor.messages import WorkerStatus
from supervisor.tree import Tree


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a child's process beside its state: its pid, and the time of its last heartbeat (0: none)."""

    pid: int
    beat_at: int


def phase(tree: Tree) -> str:
    """Return the supervisor's state in one word."""
    if tree.stopping:
        return "stopping"
    return "running" if tree.complete else "starting"


def summary(tree: Tree) -> str:
    """Return the tree in one line: how many workers are ready, and what keeps the others."""
    children = tuple(tree.children.values())
    ready = sum(child.state is State.READY for child in children)
    others = ", ".join(f"{child.spec.name} {child.state}" for child in children if child.state is not State.READY)
    return f"{phase(tree)}: {ready}/{len(children)} workers ready" + (f" ({others})" if others else "")


def workers(tree: Tree, observed: Mapping[str, Observed], now: int) -> list[WorkerStatus]:
    """Return a row for each child, in start order."""
    return [_worker(tree, child, observed.get(child.spec.name), now) for child in tree.children.values()]


def _worker(tree: Tree, child: Child, process: Observed | None, now: int) -> WorkerStatus:
    alive = child.alive and process is not None
    beat_at = process.beat_at if process is not None else 0
    waits = child.deadline if child.state in (State.BACKOFF, State.FAILED) else None
    return WorkerStatus(
        service=child.spec.name,
        index=child.spec.index,
        pid=process.pid if process is not None and alive else None,
        state=str(child.state),
        restarts=child.restarts,
        heartbeat_age_ms=round(max(now - beat_at, 0) / 1e6, 1) if alive and beat_at else None,
        uptime_seconds=round((now - child.started_at) / SECOND, 3) if alive else None,
        generation=child.generation,
        required=child.spec.required,
        retry_in_seconds=None if waits is None else round(max(waits - now, 0) / SECOND, 3),
        note=_note(tree, child),
    )


def _note(tree: Tree, child: Child) -> str:
    waiting_for = tree.waiting_for(child)
    if waiting_for:
        return f"waiting for {', '.join(waiting_for)}"
    if child.state is State.DRAINING:
        return f"ending: {child.ending}" + (f" ({child.detail})" if child.detail else "")
    return child.detail
