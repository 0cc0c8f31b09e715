"""The worker processes of the tree: starts them, watches their descriptors, and tells the tree what happens to them.

Rules:
- A death is told once, when the process is gone and its last words are read. When the fork server is gone nobody
  reports exit codes any more; then the worker is killed and its end seen by its pidfd, before a successor starts.
- What goes wrong in here on behalf of one worker costs that worker, and nobody else.
"""

import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from config.inheritance import READY, Inheritance
from config.schema import Settings
from supervisor.capture import Capture, as_log_line
from supervisor.child import SECOND, Cause, ChildSpec, Exit
from supervisor.control import Registry
from supervisor.log import Log
from supervisor.output import Output
from supervisor.process import ChildProcess, ForkServer, LaunchError
from supervisor.secrets import Secrets
from supervisor.sockets import Sockets
from supervisor.tree import ChildBroken, ChildDied, ChildReady, Event

REPORT_NS: Final = 2 * SECOND
"""How long the fork server may take to report a death before it counts as hung."""

# A worker that floods its output costs one turn of the loop no more than some milliseconds.
_READ_BYTES: Final = 8192
_LAST_WORDS_BYTES: Final = 1024 * 1024


@dataclass(eq=False, slots=True)
class Worker:
    """One process with what it has said. `gone_at`: when it was seen dead, unreported."""

    process: ChildProcess
    capture: Capture = field(default_factory=Capture)
    leash_received: bytes = b""
    gone_at: int | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a process when its death is told."""

    pid: int
    log_tail: str


@dataclass(frozen=True, slots=True)
class Belongings:
    """What the supervisor keeps for the services, by their names: it outlives their workers."""

    sockets: Mapping[str, Sockets]
    secrets: Secrets


class Workers:
    """Every process of the tree, by the name of its child."""

    def __init__(
        self,
        settings: Settings,
        belongings: Belongings,
        fork_server: ForkServer,
        registry: Registry,
        output: Output,
        log: Log,
        tell: Callable[[Event], None],
    ) -> None:
        """`tell` takes events for the tree; it must not call back before it returns."""
        self._settings = settings
        self._belongings = belongings
        self._fork_server = fork_server
        self._registry = registry
        self._output = output
        self._log = log
        self._tell = tell
        self._workers: dict[str, Worker] = {}
        self._remains: dict[str, Remains] = {}
        self._watched_fork_server = -1

    def start(self, spec: ChildSpec, generation: int, block: str) -> int:
        """Start a process and return its pid. Raises LaunchError."""
        try:
            leash, theirs = socket.socketpair()
        except OSError as error:
            raise LaunchError(f"no socket for it: {error.strerror}") from error
        inheritance = Inheritance(
            service=spec.name,
            index=spec.index,
            settings=self._settings,
            sockets=dict(self._belongings.sockets.get(spec.name, {})),
            leash=theirs,
            block=block,
            slot=spec.slot,
            generation=generation,
            secrets=dict(self._belongings.secrets.get(spec.name, {})),
        )
        try:
            with theirs:
                process = self._fork_server.launch(spec.module, inheritance, leash)
        except LaunchError:
            leash.close()
            raise
        finally:
            self._watch_fork_server()
        self._watch(process)
        return process.pid

    def signal(self, name: str, generation: int, number: signal.Signals) -> None:
        """Send a signal to the process of that generation, if it is still there."""
        worker = self._workers.get(name)
        if worker is not None and worker.process.generation == generation:
            worker.process.send(number)

    def pid(self, name: str) -> int | None:
        """Return the process id of a child that has a process."""
        worker = self._workers.get(name)
        return None if worker is None else worker.process.pid

    def generations(self) -> tuple[tuple[str, int], ...]:
        """Return the name and generation of every process."""
        return tuple((name, worker.process.generation) for name, worker in self._workers.items())

    def remains(self, name: str) -> Remains:
        """Return what was left of the process whose death was told last."""
        return self._remains.pop(name, Remains(0, ""))

    def check(self, now: int) -> None:
        """Look after deaths that the fork server should have reported by now."""
        self._fork_server.resume()
        if any(w.gone_at is not None and now - w.gone_at > REPORT_NS for w in self._workers.values()):
            self._log.error("the fork server hangs: replacing it and every worker", pid=self._fork_server.pid)
            self._fork_server.kill()

    def kill_all(self) -> None:
        """SIGKILL to every process; for the end of a supervisor that cannot go on."""
        for worker in self._workers.values():
            worker.process.send(signal.SIGKILL)

    # -- watching

    def _watch_fork_server(self) -> None:
        descriptor = self._fork_server.pidfd
        if descriptor == self._watched_fork_server or descriptor < 0:
            return
        self._watched_fork_server = descriptor

        def lost(_events: int) -> None:
            self._log.error("the fork server died: every worker dies with it", pid=self._fork_server.pid)
            self._registry.forget(descriptor)

        self._registry.watch(descriptor, selectors.EVENT_READ, lost)

    def _watch(self, process: ChildProcess) -> None:
        worker = self._workers[process.name] = Worker(process)
        process.leash.setblocking(False)
        os.set_blocking(process.log.fileno(), False)
        watched = (
            (process.leash.fileno(), self._take_leash),
            (process.log.fileno(), self._take_log),
            (process.pidfd, self._take_end),
            (process.sentinel, self._take_report),
        )
        for descriptor, take in watched:
            self._registry.watch(descriptor, selectors.EVENT_READ, self._guarded(worker, descriptor, take))

    def _guarded(self, worker: Worker, descriptor: int, take: Callable[[Worker], None]) -> Callable[[int], None]:
        def guarded(_events: int) -> None:
            try:
                take(worker)
            except Exception as error:  # noqa: BLE001 - logged whole; costs this worker and not the tree
                self._log.failure("error while serving a worker", error, worker=worker.process.name)
                self._registry.forget(descriptor)
                detail = f"{type(error).__name__}: {error}"
                self._tell(ChildBroken(worker.process.name, worker.process.generation, detail))

        return guarded

    def _take_leash(self, worker: Worker) -> None:
        process = worker.process
        try:
            data = process.leash.recv(len(READY))
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        worker.leash_received += data
        if not data or len(worker.leash_received) >= len(READY):
            # Nothing else is ever said; what is there when it closes is for the sentinel to tell.
            self._registry.forget(process.leash.fileno())
        if worker.leash_received == READY:
            worker.leash_received = b""
            self._tell(ChildReady(process.name, process.generation))

    def _take_log(self, worker: Worker) -> None:
        if not self._read_log(worker):
            self._registry.forget(worker.process.log.fileno())

    def _read_log(self, worker: Worker) -> int:
        """Return how much there was to read; 0 at end of file."""
        try:
            data = os.read(worker.process.log.fileno(), _READ_BYTES)
        except BlockingIOError:
            return -1
        self._forward(worker, worker.capture.feed(data) if data else worker.capture.close())
        return len(data)

    def _forward(self, worker: Worker, lines: list[bytes]) -> None:
        for line in lines:
            self._output.write(as_log_line(worker.process.name, line, self._settings.log.format))

    # -- the end

    def _take_end(self, worker: Worker) -> None:
        """The process is dead. The fork server will say of what, unless it is dead or stopped."""
        self._registry.forget(worker.process.pidfd)
        worker.gone_at = worker.gone_at or time.monotonic_ns()
        if worker.lost:
            self._bury(worker, Exit(), Cause.FORK_SERVER)
        else:
            self._fork_server.resume()

    def _take_report(self, worker: Worker) -> None:
        process = worker.process
        exited = process.exit()
        if exited is None:
            return
        if self._fork_server.lost(exited.code):
            self._registry.forget(process.sentinel)
            worker.lost = True
            process.send(signal.SIGKILL)
            if worker.gone_at is not None:
                self._bury(worker, Exit(), Cause.FORK_SERVER)
            return
        self._bury(worker, exited, None)

    def _bury(self, worker: Worker, exited: Exit, cause: Cause | None) -> None:
        process = worker.process
        del self._workers[process.name]
        try:
            self._take_leash(worker)
            self._take_last_words(worker)
        except Exception as error:  # noqa: BLE001 - logged whole; the death must be told whatever was in the way
            self._log.failure("the last words of a worker were not read", error, worker=process.name)
        self._remains[process.name] = Remains(process.pid, worker.capture.tail)
        for descriptor in (process.leash.fileno(), process.log.fileno(), process.pidfd, process.sentinel):
            self._registry.forget(descriptor)
        process.close()
        luck = random.random()
        self._tell(ChildDied(process.name, process.generation, exited, luck, cause))

    def _take_last_words(self, worker: Worker) -> None:
        total = 0
        while total < _LAST_WORDS_BYTES and (count := self._read_log(worker)) > 0:
            total += count
        self._forward(worker, worker.capture.close())
