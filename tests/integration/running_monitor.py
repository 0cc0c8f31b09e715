"""A real monitoring process on free ports, fed by a block that the test writes as supervisor and as every worker."""

import http.client
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.inheritance import READY, Inheritance
from config.loader import load
from config.schema import Settings
from monitoring.__main__ import main
from monitoring.block import Block, ChildState, ProbeState, SlotWriter
from monitoring.metrics import WORKER_FAMILIES, Metrics, operation

SERVICES = ("monitoring", "ct", "ca", "api")
HOSTS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
START_WITHIN = 30.0


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Monitor:
    """The process, and this test in the place of its supervisor and of the other workers."""

    def __init__(self, data_dir: Path, port: int, settings: Mapping[str, object]) -> None:
        overrides = [f"{key}={json.dumps(value)}" for key, value in {"monitoring.port": port, **settings}.items()]
        self.arguments = ["--data-dir", str(data_dir), *(word for each in overrides for word in ("--set", each))]
        self.settings: Settings = load(None, "development", data_dir, overrides).settings
        self.port = port
        self._log = data_dir / "monitoring.log"
        self.block = Block.create(self.settings.paths.block_name)
        for slot, service in enumerate(SERVICES):
            self.block.assign(slot, service, 0)
        self.leash, childs_leash = socket.socketpair()
        self.leash.settimeout(START_WITHIN)
        self.process = self._started(childs_leash)
        self.writers: dict[str, SlotWriter] = {}
        self.metrics: dict[str, Metrics] = {}

    def _started(self, leash: socket.socket) -> Any:
        listeners = tuple(_listening(host, self.port) for host in HOSTS)
        inheritance = Inheritance(
            "monitoring", 0, self.settings, {"http": listeners}, leash, self.block.name, slot=0, generation=1
        )
        process = multiprocessing.get_context("forkserver").Process(target=_logged_main, args=(inheritance, self._log))
        process.start()
        self.block.record_start(0, process.pid or 0, 1, time.monotonic_ns())
        for each in (leash, *listeners):
            each.close()
        return process

    def wait_ready(self) -> None:
        """Wait for the word over the leash, as the supervisor does."""
        assert self.leash.recv(64) == READY
        self.block.record_state(0, "ready", 0)

    def start_workers(self, *services: str) -> None:
        """Be the other workers: ready, beating, probed."""
        for service in services or SERVICES[1:]:
            slot = SERVICES.index(service)
            self.block.record_start(slot, os.getpid(), 1, time.monotonic_ns())
            writer = SlotWriter.attach(self.block.name, slot, 1)
            self.writers[service] = writer
            self.metrics[service] = Metrics(
                writer, (*WORKER_FAMILIES, *operation(f"trustchain_{service}_requests", "Requests"))
            )
            self.state(service, "ready")
            self.beat()

    def beat(self) -> None:
        """Let the other workers show that they live and are well."""
        now = time.monotonic_ns()
        for writer in self.writers.values():
            writer.beat(now)
            writer.probe(ProbeState.PASS, now)

    def state(self, service: str, state: ChildState, restarts: int = 0) -> None:
        """Write a state as the supervisor."""
        self.block.record_state(SERVICES.index(service), state, restarts)

    def ask(self, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(host, self.port, timeout=10)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)
        finally:
            connection.close()

    def fresh(self, path: str = "/health") -> Answer:
        """The answer to a request that cannot be served from an evaluation made before this call."""
        self.beat()
        time.sleep(0.26)
        return self.ask(path)

    @property
    def log(self) -> str:
        """What the process has written to standard error so far."""
        return self._log.read_text()

    def close(self) -> None:
        """End everything."""
        self.leash.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        for writer in self.writers.values():
            writer.close()
        self.block.close()
        sys.stderr.write(self.log)  # pytest shows it if a test failed


@contextmanager
def running_monitor(data_dir: Path, port: int, **settings: object) -> Iterator[Monitor]:
    """A monitor that is ready; setting names with `__` for the dot."""
    monitor = Monitor(data_dir, port, {name.replace("__", "."): value for name, value in settings.items()})
    try:
        monitor.wait_ready()
        yield monitor
    finally:
        monitor.close()


def _logged_main(inheritance: Inheritance, log: Path) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    main(inheritance)


def _listening(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=HOSTS[host])
