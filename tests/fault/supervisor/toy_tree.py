"""A supervised tree of toys for tests: started, asked, hurt and stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.paths import Paths
from monitoring.block import block_path
from supervisor.control_client import NotRunningError, ask
from supervisor.messages import DeathRecord, Reply, Request, WorkerStatus
from tests.rig import processes
from tests.rig.polling import eventually
from tests.rig.processes import ProcessId

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK = {
    "heartbeat_interval": 0.05,
    "heartbeat_timeout": 0.5,
    "ready_timeout": 5.0,
    "drain_timeout": 1.0,
    "abort_grace": 0.1,
    "stable_seconds": 0.1,
    "backoff_initial": 0.05,
    "backoff_max": 0.2,
    "intensity": 3,
    "period": 10.0,
    "failed_retry": 60.0,
    "replace_cooldown": 1.0,
    "verdict_max_age": 10.0,
}
"""Limits of the supervisor that let a test be short."""

SLOTS = {"a": 0, "b": 1, "c": 2}
"""Slots in the block: the order of the services."""


@dataclass
class ToyTree:
    """One tree. `services` as in `run_toys`; `limits` override QUICK; `sets` are further settings."""

    data_dir: Path
    services: str = "a,b,c"
    limits: Mapping[str, float] = field(default_factory=dict)
    sets: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    descriptors: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    _known: set[ProcessId] = field(default_factory=set)

    def start(self) -> None:
        """Start it and return at once; its output goes to `log_path`."""
        overrides = [f"supervisor.{key}={value}" for key, value in {**QUICK, **self.limits}.items()]
        command = [*self.prefix, sys.executable, "-m", "tests.fault.supervisor.run_toys", str(self.data_dir)]
        others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # As the first variable: process titles are written where it stands, and the fork server takes it away.
        environment = {"PYTHONPATH": str(REPOSITORY), **others, **self.environment}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, self.services, *overrides, *self.sets],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True,
                pass_fds=self.descriptors,
            )  # fmt: skip

    def start_ready(self) -> None:
        """Start it and wait until every worker is ready."""
        self.start()
        eventually("every toy is ready", lambda: all(w.state == "ready" for w in self.workers()), 15.0)

    def behave(self, service: str, behaviour: str) -> None:
        """Choose what `service` does from its next start on."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        (self.data_dir / f"{service}.toy").write_text(behaviour)

    # -- questions

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self.data_dir.with_name(self.data_dir.name + ".log")

    @property
    def log(self) -> str:
        """Its output so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def paths(self) -> Paths:
        """Its files."""
        return Paths(self.data_dir, self.data_dir / "run")

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None
        return self.process.pid

    def ask(self, command: str, service: str = "") -> Reply:
        """Ask over the control socket; OSError while nobody listens."""
        try:
            return ask(self.paths.control_socket, Request(command=command, service=service, deaths=True), 20.0)
        except NotRunningError as reason:
            raise ConnectionError(f"{reason}\n{self.log[-2000:]}") from None

    def workers(self) -> list[WorkerStatus]:
        """Every row of the status."""
        status = self.ask("status").status
        assert status is not None
        return status.workers

    def worker(self, service: str) -> WorkerStatus:
        """One row of the status."""
        return next(row for row in self.workers() if row.service == service)

    def worker_pid(self, service: str) -> int:
        """A worker's process id."""
        pid = self.worker(service).pid
        assert pid is not None, f"{service} has no process"
        return pid

    def deaths(self, service: str) -> list[DeathRecord]:
        """The deaths of a service, oldest first."""
        return [death for death in self.ask("status").deaths if death.service == service]

    def wait_state(self, service: str, state: str, within: float = 10.0) -> WorkerStatus:
        """Wait until a worker is in `state`."""

        def attempt() -> WorkerStatus | None:
            row = self.worker(service)
            assert row.state == state, row
            return row

        return eventually(f"{service} is {state}", attempt, within)

    def wait_replaced(self, service: str, old_pid: int, within: float = 10.0) -> WorkerStatus:
        """Wait until another process than `old_pid` is ready."""

        def attempt() -> WorkerStatus | None:
            row = self.worker(service)
            assert row.pid not in (None, old_pid), row
            assert row.state == "ready", row
            return row

        return eventually(f"{service} (was {old_pid}) is replaced", attempt, within, every=0.005)

    def process_titled(self, title: str) -> int:
        """The process of this tree with that title."""
        found = [each.pid for each in self.processes() if processes.title(each.pid).startswith(f"trustchain: {title}")]
        assert len(found) == 1, f"{title}: {found}"
        return found[0]

    def processes(self) -> set[ProcessId]:
        """Every process of the tree."""
        found = processes.family(self.pid)
        self._known |= found
        return found

    # -- the end

    def stop(self) -> int:
        """SIGTERM; return the exit code. Fails if a process is left."""
        assert self.process is not None
        self.processes()
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, within: float = 15.0) -> int:
        """Wait for the end; return the exit code. Fails if a process is left."""
        assert self.process is not None
        code = self.process.wait(within)
        left = processes.alive(self._known)
        assert not left, processes.describe(left)
        return code

    def kill_supervisor(self) -> float:
        """SIGKILL to the supervisor alone. Return the seconds until none of its processes was left."""
        assert self.process is not None
        self.processes()
        began = time.monotonic()
        self.process.kill()
        self.process.wait()
        eventually("every process is gone", lambda: not processes.alive(self._known), 10.0, every=0.005)
        return time.monotonic() - began

    def destroy(self) -> None:
        """End whatever is left, and remove its block."""
        if self.process is not None:
            known = self._known | processes.family(self.process.pid)
            self.process.kill()
            self.process.wait()
            processes.kill_all(known)
            # Its resource tracker would have done this, had it lived.
            block_path(self.paths.block_name).unlink(missing_ok=True)


def who_answers(port: int, timeout: float = 10.0) -> tuple[int, int]:
    """Connect to a toy; return its pid and generation. OSError when it refuses."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.settimeout(timeout)
        answer = b""
        while data := connection.recv(100):
            answer += data
    pid, generation = answer.split()
    return int(pid), int(generation)


def death_lines(path: Path) -> list[dict[str, object]]:
    """Read a file of death records."""
    return [json.loads(line) for line in path.read_text().splitlines()]
