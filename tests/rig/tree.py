"""A real `trustchain run`, started for one test on free ports and a data directory of its own.

Rules: nothing is reached that a user could not reach (the command, HTTP, HTTPS, files of the data directory, signals);
whatever the test does to it, `stop` leaves no process, and the tests assert that.
"""

import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.paths import Paths
from monitoring.block import block_path
from tests.rig import processes
from tests.rig.polling import eventually
from tests.rig.ports import free_port
from tests.rig.processes import ProcessId

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("monitoring", "ct", "ca", "api")
START_WITHIN = 30.0
STOP_WITHIN = 20.0
_REQUEST_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


@dataclass
class Tree:
    """One supervised tree. `settings` are `--set` overrides; it inherits `descriptors`.

    `prefix` is a command that becomes the tree by exec after it has entered other namespaces (`unshare ...`); files and
    commands then are those that the tree sees, while HTTP from here works as long as the network is not another one.
    """

    data_dir: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    mode: str = "development"
    descriptors: Sequence[int] = ()
    monitoring_port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    started_in: float = 0.0
    _known: set[ProcessId] = field(default_factory=set)

    def start(self) -> None:
        """Starts the command and returns at once. Its output is appended to `log_path`."""
        assert self.process is None, "this tree is already started"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                pass_fds=self.descriptors,
            )  # fmt: skip

    def start_healthy(self) -> None:
        """Starts and waits until `/health` answers 200. `started_in` then is the seconds that took."""
        began = time.monotonic()
        self.start()
        self.wait_healthy(START_WITHIN)
        self.started_in = time.monotonic() - began

    def command(self) -> list[str]:
        """The command line of `start`."""
        overrides = {**self._ports(), **self.settings}
        sets = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
        return [*self.prefix, trustchain(), "run", "--mode", self.mode, "--data-dir", str(self.data_dir), *sets]

    def _ports(self) -> dict[str, object]:
        return {"monitoring.port": self.monitoring_port, "api.port": self.api_port, "api.http_port": self.http_port}

    @property
    def log_path(self) -> Path:
        """Where the tree's output goes: beside the data directory, which may be a disk that the test fills."""
        return self.data_dir.with_name(self.data_dir.name + ".log")

    @property
    def log(self) -> str:
        """All output so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None, "this tree is not started"
        return self.process.pid

    # -- what it says about itself

    def wait_healthy(self, within: float) -> dict[str, Any]:
        """`/health` as soon as it answers 200."""
        return self.wait_health(lambda status, _: status == 200, "/health answers 200", within)

    def wait_health(self, wanted: Any, what: str, within: float) -> dict[str, Any]:
        """`/health` as soon as `wanted(status, document)` is true."""

        def attempt() -> dict[str, Any] | None:
            if self.process is not None and self.process.poll() is not None:
                raise TreeEndedError(f"trustchain run ended with {self.process.returncode}\n{self.log[-4000:]}")
            answer = self.monitoring("/health")
            document: dict[str, Any] = answer.json()
            assert wanted(answer.status, document), f"{answer.status} {document.get('status')} {document.get('issues')}"
            return document

        try:
            return eventually(what, attempt, within)
        except AssertionError as reason:
            raise AssertionError(f"{reason}\n--- log of the tree\n{self.log[-4000:]}") from None

    def monitoring(self, path: str, accept: str | None = None, timeout: float = _REQUEST_TIMEOUT) -> Response:
        """GET from the monitoring server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitoring_port, timeout=timeout)
        return _exchange(connection, "GET", path, None, {"Accept": accept} if accept else {})

    def metrics(self, format_name: str = "prometheus") -> str:
        """`/metrics` with at least everything that happened before this call: a reading serves for a quarter second."""
        began = datetime.now(UTC)

        def attempt() -> bool:
            return datetime.fromisoformat(self.monitoring("/health").json()["last_check"]) >= began

        eventually("health is checked anew", attempt, within=10)
        answer = self.monitoring(f"/metrics?format={format_name}")
        assert answer.status == 200, answer.text
        return answer.text

    def status(self) -> dict[str, Any]:
        """`trustchain status --json`."""
        document: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return document

    def worker(self, service: str) -> dict[str, Any]:
        """The row of `service` in the status."""
        rows: list[dict[str, Any]] = [row for row in self.status()["workers"] if row["service"] == service]
        assert len(rows) == 1, f"{service} has {len(rows)} rows in the status"
        return rows[0]

    def worker_pid(self, service: str) -> int:
        """The process id of `service`."""
        pid = self.worker(service)["pid"]
        assert isinstance(pid, int), f"{service} has no process"
        return pid

    def wait_replaced(self, service: str, old_pid: int, within: float) -> dict[str, Any]:
        """The row of `service` once another process than `old_pid` serves as it."""

        def attempt() -> dict[str, Any] | None:
            row = self.worker(service)
            return row if row["pid"] not in (None, old_pid) and row["state"] == "ready" else None

        return eventually(f"{service} (was {old_pid}) is replaced and ready", attempt, within)

    # -- what it does

    def run(self, *arguments: str, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """`trustchain ARGUMENTS --data-dir ...` with this tree's directory and ports."""
        command = [*self._enter(), trustchain(), *arguments, "--data-dir", str(self.data_dir)]
        command += [part for key, value in self._ports().items() for part in ("--set", f"{key}={value}")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, cwd="/")
        assert not check or done.returncode == 0, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def api(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        authorized: bool = True,
        timeout: float = _REQUEST_TIMEOUT,
    ) -> Response:
        """One HTTPS request to the API on a connection of its own, its certificate verified against the tree's root."""
        sent = dict(headers or {})
        if authorized:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPSConnection("127.0.0.1", self.api_port, timeout=timeout, context=self.tls())
        return _exchange(connection, method, path, body, sent)

    def issue(self, csr_pem: str, **members: object) -> Response:
        """POST /v1/certificates."""
        return self.api("POST", "/v1/certificates", {"csr": csr_pem, **members})

    def certificates(self) -> dict[str, dict[str, Any]]:
        """Every certificate in the list, by serial number, read page by page."""
        found: dict[str, dict[str, Any]] = {}
        cursor: str | None = None
        while True:
            query = "?limit=100" + (f"&cursor={cursor}" if cursor else "")
            answer = self.api("GET", f"/v1/certificates{query}")
            assert answer.status == 200, answer.text
            page = answer.json()
            found.update({row["serial"]: row for row in page["certificates"]})
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts this tree's root and nothing else."""
        return ssl.create_default_context(cafile=str(self.root_certificate))

    def seen(self, path: Path) -> Path:
        """`path` as the tree sees it, from here."""
        return Path(f"/proc/{self.pid}/root{path}") if self.prefix else path

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--mount", "--net"] if self.prefix else []

    @property
    def root_certificate(self) -> Path:
        """The root certificate file."""
        return self.seen(self.data_dir / "ca" / "root.pem")

    @property
    def token(self) -> str:
        """The administrator's bearer token."""
        return self.seen(self.data_dir / "admin.token").read_text().strip()

    # -- how it ends

    def processes(self) -> set[ProcessId]:
        """Every process of the tree, the supervisor included."""
        found = processes.family(self.pid)
        self._known |= found
        return found

    @property
    def segment(self) -> Path:
        """The metrics block."""
        return block_path(Paths(self.data_dir.resolve(), self.data_dir / "run").block_name)

    def stop(self) -> int:
        """SIGTERM, then the exit code; AssertionError when it does not end, or leaves a process behind."""
        assert self.process is not None, "this tree is not started"
        self.processes()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {STOP_WITHIN} s after SIGTERM\n{self.log[-4000:]}") from None
        finally:
            self.assert_gone()
        self.process = None
        return code

    def kill_supervisor(self) -> float:
        """SIGKILL to the supervisor alone. Returns the seconds until no process of the tree was left."""
        assert self.process is not None, "this tree is not started"
        self.processes()
        began = time.monotonic()
        self.process.kill()
        self.process.wait()
        eventually("every process of the tree is gone", lambda: not processes.alive(self._known), 10.0, every=0.005)
        self.process = None
        return time.monotonic() - began

    def assert_gone(self) -> None:
        """Fails, after killing them, when processes of this tree still run a second after their supervisor."""
        leader = self.process.pid if self.process is not None else 0
        if leader:
            self._known |= processes.family(leader)
        try:
            eventually("every process is gone", lambda: not self._left(leader), within=1.0)
        except AssertionError:
            left = self._left(leader)
            told = processes.describe(left)
            processes.kill_all(left)
            raise AssertionError(f"processes of the tree are left:\n{told}") from None

    def _left(self, leader: int) -> set[ProcessId]:
        return {process for process in processes.alive(self._known) if process.pid != leader}

    def destroy(self) -> None:
        """Ends whatever still runs, by SIGKILL, and says nothing."""
        if self.process is not None:
            known = self._known | processes.family(self.process.pid)
            self.process.kill()
            self.process.wait()
            processes.kill_all(known)
            # Its resource tracker would have done this, had it lived.
            self.segment.unlink(missing_ok=True)
            self.process = None
        processes.kill_all(self._known)


@contextmanager
def running_tree(**fields: Any) -> Iterator[Tree]:
    """A healthy tree (`fields` as of Tree) in a directory of its own; afterwards stopped cleanly, and removed."""
    directory = short_directory()
    tree = Tree(directory / "d", **fields)
    try:
        tree.start_healthy()
        yield tree
        assert tree.stop() == 0, tree.log[-4000:]
    finally:
        tree.destroy()
        remove_directory(directory)


class TreeEndedError(RuntimeError):
    """The command ended while a test waited for it to do something."""


def trustchain() -> str:
    """The installed `trustchain` command of this interpreter."""
    command = Path(sys.executable).with_name("trustchain")
    assert command.exists(), f"{command} does not exist: install the project first (README, 'Set up')"
    return str(command)


def short_directory() -> Path:
    """A new directory whose path leaves room for a Unix socket's name (107 bytes)."""
    return Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))


def remove_directory(path: Path) -> None:
    """Removes `path` and all in it."""
    shutil.rmtree(path, ignore_errors=True)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> Response:
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    except http.client.HTTPException as reason:
        raise ConnectionError(f"{method} {path}: {reason!r}") from reason
    finally:
        connection.close()
