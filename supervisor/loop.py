"""The supervising loop: one thread that waits for descriptors, signals and deadlines, and obeys the pure tree.

Rules:
- Whatever happens becomes an event for the tree, in the order in which it happened; the actions that come back are
  carried out before the next event is given to it.
- The clock is read when a turn begins, and what a turn finds is judged by that time. If the whole machine stands still
  in the middle of a turn, the next one notices before any heartbeat is called old.
- Nothing waits except the selector, and that until the tree's next deadline: an idle tree wakes it once a second, to
  look at the block, the board and the control socket's clients.
- WATCHDOG=1 is sent from here and nowhere else, so systemd hears of a loop that is stuck.
- An error while working for one child costs that child. Any other error ends the process: systemd starts it anew.
"""

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from config.schema import Settings
from monitoring.block import Board, Verdict
from supervisor.blocks import Blocks
from supervisor.child import SECOND, Cause, Exit
from supervisor.child_events import Action, ReadBeat, RecordDeath, Signal, Start, Stuck
from supervisor.commands import Pending, accept, outcome
from supervisor.control import Connection
from supervisor.deaths import DeathLog
from supervisor.descriptors import Descriptors, Signals
from supervisor.errors import CONFIGURATION_ERROR
from supervisor.lifecycle import Child, State
from supervisor.log import Log
from supervisor.messages import Reply, Request, StatusDocument, SupervisorStatus
from supervisor.output import Output
from supervisor.process import LaunchError
from supervisor.status import Observed, phase, summary, workers
from supervisor.systemd import Notifier
from supervisor.tree import (
    BlockReplaced,
    ChildDied,
    Event,
    HeartbeatSeen,
    Shutdown,
    Stalled,
    Tick,
    Tree,
    VerdictSeen,
    next_deadline,
    step,
)
from supervisor.vacancies import Vacancies
from supervisor.workers import Workers

MAINTENANCE_NS: Final = SECOND
DEATHS_SHOWN: Final = 100
"""A reply holds at most so many death records."""

_EXTEND_BEYOND: Final = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop works with."""

    settings: Settings
    version: str
    descriptors: Descriptors
    output: Output
    log: Log
    blocks: Blocks
    deaths: DeathLog
    notifier: Notifier
    announce: Callable[[], None]


class Supervisor:
    """Runs one tree from its first start to its end. `attach` it to its workers and control socket, then `run` it."""

    def __init__(self, tree: Tree, around: Surroundings) -> None:
        """`tree` is freshly grown."""
        self.tree = tree
        self._around = around
        self._log = around.log
        self._events: deque[Event] = deque([Tick()])
        self._pending: list[tuple[Connection, Pending]] = []
        self._reply: Callable[[Connection, Reply], None] = lambda _connection, _reply: None
        self._expire: Callable[[int], None] = lambda _now: None
        self._workers: Workers
        self._vacancies: Vacancies
        self._started_at = now = time.monotonic_ns()
        self._next_maintenance = now + MAINTENANCE_NS
        self._next_watchdog = now if around.notifier.watchdog_ns else None
        self._stall_ns = tree.policy.heartbeat_timeout_ns // 2
        self._on_terminal = os.isatty(2)
        self._now = now

    def attach(
        self,
        workers: Workers,
        vacancies: Vacancies,
        reply: Callable[[Connection, Reply], None],
        expire: Callable[[int], None],
    ) -> None:
        """Give it its hands: processes, sockets without one, and the control socket's way to answer and to expire."""
        self._workers = workers
        self._vacancies = vacancies
        self._reply = reply
        self._expire = expire

    def tell(self, event: Event) -> None:
        """Take an event for the tree; it is handled in its turn."""
        self._events.append(event)

    def run(self) -> int:
        """Supervise until the tree has ended. Return the exit code of the command."""
        with Signals(self._around.descriptors, self._take_signal):
            self._handle_events()
            while not self.tree.ended:
                self._turn()
        return self.tree.exit_code

    # -- one turn

    def _turn(self) -> None:
        due = self._next_due()
        ready = self._around.descriptors.wait(max(due - time.monotonic_ns(), 0) / SECOND)
        now = time.monotonic_ns()
        self._notice_stall(now, due)
        self._now = now
        for key, events in ready:
            self._around.descriptors.call(key, events)
        self.tell(Tick())
        if now >= self._next_maintenance:
            self._maintain(now)
        self._handle_events()
        self._feed_watchdog(now)
        self._watch_output()

    def _notice_stall(self, now: int, due: int) -> None:
        """Compare with when this turn should have begun: when it was due, or after what the last one had to do."""
        late = now - max(due, self._now)
        if late > self._stall_ns:
            self._log.warning("the supervisor was stopped or starved", seconds=round(late / SECOND, 1))
            self.tell(Stalled())

    def _next_due(self) -> int:
        deadlines = (next_deadline(self.tree), self._next_maintenance, self._next_watchdog)
        return min(deadline for deadline in deadlines if deadline is not None)

    def _feed_watchdog(self, now: int) -> None:
        if self._next_watchdog is not None and now >= self._next_watchdog and self._around.notifier.watchdog_ns:
            self._around.notifier.watchdog()
            self._next_watchdog = now + self._around.notifier.watchdog_ns

    def _watch_output(self) -> None:
        output, descriptors = self._around.output, self._around.descriptors
        if output.waiting:
            descriptors.watch(output.descriptor, selectors.EVENT_WRITE, lambda _events: output.flush())
        else:
            descriptors.forget(output.descriptor)

    def _take_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            again = self.tree.stopping or any(isinstance(event, Shutdown) for event in self._events)
            self._log.info("killing every worker" if again else "shutting down", signal=signal.Signals(number).name)
            self.tell(Shutdown(immediately=again))
        elif number == signal.SIGHUP and self._on_terminal and not os.isatty(2):
            self._log.info("shutting down: the terminal is gone")
            self.tell(Shutdown())
        elif number == signal.SIGHUP:
            services = ", ".join(self.tree.children)
            self._log.warning(
                "SIGHUP: settings are not reloaded while the tree runs; to apply changed files to one service without "
                f"losing a connection use `trustchain restart SERVICE` ({services}), to apply changed settings restart "
                "the supervisor"
            )

    # -- events and actions

    def _handle_events(self) -> None:
        # An answer lets its client's next request be read, which may be a command.
        while self._events:
            while self._events:
                self._handle(self._events.popleft())
            self._answer_pending(self._now)

    def _handle(self, event: Event) -> None:
        before, now = self.tree, self._now
        if isinstance(event, ChildDied) and event.cause is not Cause.NOT_STARTED:
            beat_at = self._around.blocks.heartbeat_ns(before.children[event.name].spec) or 0
            event = replace(event, beat_at=beat_at)
        self.tree, actions = step(before, event, now)
        for action in actions:
            self._perform(action, now)
        self._tell_changes(before, now)

    def _perform(self, action: Action, now: int) -> None:
        match action:
            case Start():
                self._start(action, now)
            case Signal(name=name, generation=generation, number=number):
                self._workers.signal(name, generation, number)
            case ReadBeat():
                self._read_beat(action, now)
            case RecordDeath(death=death):
                remains = self._workers.remains(death.service)
                record = self._around.deaths.add(death, remains.pid, remains.log_tail)
                unasked = death.cause not in (Cause.OPERATOR, Cause.SHUTDOWN)
                tell = self._log.warning if unasked or death.drain_timed_out else self._log.info
                tell(
                    f"{death.service} ended",
                    worker_pid=record.pid,
                    ended_by=str(death.exit),
                    reason=record.reason,
                    detail=record.detail or None,
                    uptime=record.uptime_seconds,
                )
            case Stuck(name=name):
                self._log.error(f"{name} is not gone after SIGKILL", worker_pid=self._workers.pid(name))

    def _start(self, action: Start, now: int) -> None:
        child = self.tree.children[action.name]
        # A process that was killed by the damage of the block would die again on the same one.
        self._repair_block(now)
        try:
            pid = self._workers.start(child.spec, action.generation, self._around.blocks.name)
        except LaunchError as error:
            self.tell(ChildDied(action.name, action.generation, Exit(), 0.5, Cause.NOT_STARTED, str(error)))
            return
        finally:
            # The first launch by a fork server takes a second, in which nobody was asleep.
            self._now = time.monotonic_ns()
        self._around.blocks.record_start(child.spec, pid, action.generation, child.restarts, now)

    def _read_beat(self, action: ReadBeat, now: int) -> None:
        # A damaged block says nothing about anybody: look at it before believing in a hang.
        self._repair_block(now)
        beat = self._around.blocks.heartbeat_ns(self.tree.children[action.name].spec)
        if beat is None or now < beat <= time.monotonic_ns():
            beat = now
        self.tell(HeartbeatSeen(action.name, action.generation, beat))

    def _tell_changes(self, before: Tree, now: int) -> None:
        for name, child in self.tree.children.items():
            if child.state is not before.children[name].state or child.generation != before.children[name].generation:
                self._around.blocks.record_state(child.spec, child.state, child.restarts)
                self._vacancies.show(name, vacant=child.vacant and not self.tree.stopping)
                self._tell_state(child, now)
                self._extend(child)
        if self.tree.stopping and not before.stopping:
            if self.tree.exit_code == CONFIGURATION_ERROR:
                self._log.error("the tree is not started: a worker that it needs has a configuration error, told above")
            self._around.notifier.stopping()
            self._around.notifier.status(summary(self.tree))
        if self.tree.complete and not before.complete:
            self._around.notifier.ready()
            self._tell_status(now)
            self._log.info("every required worker is ready", seconds=round((now - self._started_at) / SECOND, 3))
            self._around.announce()

    def _tell_state(self, child: Child, now: int) -> None:
        name = child.spec.name
        match child.state:
            case State.STARTING:
                self._log.info(f"{name} starts", worker_pid=self._workers.pid(name), generation=child.generation)
            case State.READY:
                self._log.info(f"{name} is ready", seconds=round((now - child.started_at) / SECOND, 3))
            case State.DRAINING:
                self._log.info(f"{name} has to end", reason=str(child.ending), detail=child.detail or None)
            case State.BACKOFF:
                wait = round(((child.deadline or now) - now) / SECOND, 3)
                self._log.warning(f"{name} is started again after a pause", seconds=wait, detail=child.detail)
            case State.FAILED:
                retry = None if child.deadline is None else round((child.deadline - now) / SECOND)
                self._log.error(f"{name} has failed", detail=child.detail, retry_seconds=retry)
            case State.STOPPED:
                self._log.info(f"{name} is stopped", detail=child.detail or None)

    def _extend(self, child: Child) -> None:
        """Ask systemd for the time that a slow start or stop may take."""
        limits = self._around.settings.supervisor
        if child.state is State.STARTING and not self.tree.complete:
            self._around.notifier.extend(limits.ready_timeout + _EXTEND_BEYOND)
        elif child.state is State.DRAINING and self.tree.stopping:
            self._around.notifier.extend(limits.drain_timeout + _EXTEND_BEYOND)

    # -- every second

    def _maintain(self, now: int) -> None:
        self._next_maintenance = now + MAINTENANCE_NS
        self._workers.check(now)
        self._expire(now)
        self._repair_block(now)
        board = self._around.blocks.board()
        if board is not None:
            self._read_verdicts(board)
        self._tell_status(now)

    def _repair_block(self, now: int) -> None:
        if self._around.blocks.repair(now):
            for child in self.tree.children.values():
                self._around.blocks.record_state(child.spec, child.state, child.restarts)
            # In front: what else was seen meanwhile is judged in the knowledge that the block is new.
            self._events.appendleft(BlockReplaced(self._workers.generations()))

    def _read_verdicts(self, board: Board) -> None:
        slots = {child.spec.slot: name for name, child in self.tree.children.items()}
        for slot, verdict in board.verdicts.items():
            if verdict.verdict is Verdict.REPLACE and slot in slots:
                self.tell(VerdictSeen(slots[slot], verdict.generation, board.published_ns, verdict.reason))

    def _fresh_board(self, now: int) -> Board | None:
        board = self._around.blocks.board()
        limit = self.tree.replace_policy.verdict_max_age_ns
        return board if board is not None and 0 <= now - board.published_ns <= limit else None

    def _tell_status(self, now: int) -> None:
        board = self._fresh_board(now)
        settled = self.tree.complete and not self.tree.stopping
        self._around.notifier.status(board.status_line if board and settled else summary(self.tree))

    # -- the operator

    def answer(self, connection: Connection, request: Request) -> None:
        """Carry out a request from the control socket; the reply may come later."""
        now = time.monotonic_ns()
        if request.command == "status":
            deaths = list(self._around.deaths.records[-DEATHS_SHOWN:]) if request.deaths else []
            self._reply(connection, Reply(ok=True, status=self._status(now), deaths=deaths))
            return
        accepted = accept(self.tree, request, now)
        if isinstance(accepted, Reply):
            self._reply(connection, accepted)
            return
        event, pending = accepted
        self._log.info(f"operator: {request.command} {request.service}")
        self.tell(event)
        self._pending.append((connection, pending))

    def _answer_pending(self, now: int) -> None:
        waiting, self._pending = self._pending, []
        for connection, pending in waiting:
            reply = outcome(self.tree, pending, now)
            if reply is None:
                self._pending.append((connection, pending))
            else:
                self._reply(connection, reply)

    def _status(self, now: int) -> StatusDocument:
        observed = {}
        for name, child in self.tree.children.items():
            pid = self._workers.pid(name)
            if pid is not None:
                observed[name] = Observed(pid, self._around.blocks.heartbeat_ns(child.spec) or 0)
        board = self._fresh_board(now)
        supervisor = SupervisorStatus(
            pid=os.getpid(),
            version=self._around.version,
            mode=self._around.settings.mode,
            state=phase(self.tree),
            ready=self.tree.ready,
            uptime_seconds=round((now - self._started_at) / SECOND, 3),
            data_dir=self._around.settings.server.data_dir,
            block=self._around.blocks.name,
            health=board.state if board else None,
            health_score=board.score if board else None,
            health_line=board.status_line if board else None,
            log_lines_dropped=self._around.output.dropped,
        )
        return StatusDocument(supervisor=supervisor, workers=workers(self.tree, observed, now))
