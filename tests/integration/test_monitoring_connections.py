"""What strangers may send to the monitoring endpoints, and how many of them at once, without harm to anybody else."""

import asyncio
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from monitoring import connections
from monitoring.connections import FEWEST_CONNECTIONS, MAX_CONNECTIONS
from tests.integration.running_monitor import Answer, Monitor, running_monitor
from tests.rig import ports
from tests.rig.polling import eventually

pytestmark = pytest.mark.integration

SURVEY = 8
"""Files that a survey, which may be under way at any time, has open."""
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
# No tick of its own while a test lasts: what is bounded is bounded at once.
QUIET = {"monitoring__collection_interval": 600, "monitoring__health_check_interval": 600,
         "monitoring__probe_interval": 600, "supervisor__verdict_max_age": 3600}  # fmt: skip
REJECTED = re.compile(r'^trustchain_monitoring_requests_total\{result="rejected"\} (\d+)', re.MULTILINE)


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """One quiet monitor for all tests that leave it as it was."""
    with running_monitor(tmp_path_factory.mktemp("data"), ports.free_port(), **QUIET) as running:
        running.start_workers()
        yield running


def connected(monitor: Monitor) -> socket.socket:
    return socket.create_connection(("127.0.0.1", monitor.port), timeout=10)


def sent(monitor: Monitor, octets: bytes) -> Answer:
    """The answer to `octets` on a connection of their own, which the server must close."""
    with connected(monitor) as connection:
        connection.sendall(octets)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body)


def rejected(monitor: Monitor) -> int:
    found = REJECTED.search(monitor.fresh("/metrics").text)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # the first octets of TLS
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # names no host
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET http://xn--a/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost:99999/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_not_http_is_a_problem_document_and_counts(monitor: Monitor, octets: bytes) -> None:
    before, logged = rejected(monitor), monitor.log
    answer = sent(monitor, octets)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["server"] == "TrustChain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == 400
    assert rejected(monitor) == before + 1
    assert monitor.log == logged  # anybody can send such things, as often as they like


def test_only_the_version_that_knows_no_host_may_leave_it_out(monitor: Monitor) -> None:
    assert sent(monitor, b"GET /health/live HTTP/1.0\r\n\r\n").status == 200


def test_an_expectation_is_answered_like_any_request(monitor: Monitor) -> None:
    for path, status in (("/health/live", 200), ("/nothing", 404)):
        answer = monitor.ask(path, Expect="200-ok")
        assert answer.status == status
        assert answer.headers["server"] == "TrustChain"


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/info", "/nothing"])
def test_a_page_whose_name_resolves_to_this_host_learns_nothing(monitor: Monitor, path: str) -> None:
    for answer in (
        monitor.ask(path, Host=f"rebind.evil.example:{monitor.port}"),
        sent(
            monitor, f"GET http://evil.example{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        ),
    ):
        assert answer.status == 421
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert "evil.example" in answer.json()["detail"]
        assert answer.json().keys() == {"type", "title", "status", "detail"}


def test_the_names_of_this_host_are_answered(monitor: Monitor) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]:1", "trust.localhost", socket.gethostname()):
        assert monitor.ask("/health/live", Host=host).status == 200


def test_a_request_that_never_ends_keeps_nobody_waiting(monitor: Monitor) -> None:
    with connected(monitor) as half:
        half.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        assert monitor.ask("/health/live").status == 200


def test_the_connection_idle_for_longest_makes_room_at_once(monitor: Monitor) -> None:
    at_rest = open_descriptors(monitor)
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(monitor)) for _ in range(MAX_CONNECTIONS)]
        idle[0].sendall(LIVE)  # so the first is not the one idle for longest
        assert idle[0].recv(1000).startswith(b"HTTP/1.1 200")
        newest = [stack.enter_context(connected(monitor)) for _ in range(50)]
        for connection in (*newest, idle[0], idle[-1]):
            connection.sendall(LIVE)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert [connection.recv(1) for connection in idle[1:51]] == [b""] * 50
        assert open_descriptors(monitor) <= at_rest + MAX_CONNECTIONS + SURVEY
    eventually("all are closed", lambda: open_descriptors(monitor) <= at_rest + SURVEY, within=5)


def test_one_being_answered_makes_room_only_if_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "places", lambda: 3)
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def never(request: web.BaseRequest) -> web.Response:
        asked.put_nowait(request.path)
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        bounded = connections.Connections((listener,), never, lambda _: web.Response(status=400))
        bounded.start()
        clients = []

        async def come(request: bytes) -> None:
            clients.append(await asyncio.open_connection(*listener.getsockname()))
            clients[-1][1].write(request)
            if request:
                await asked.get()

        async def gone(client: int) -> None:
            assert await clients[client][0].read() == b""

        async with asyncio.timeout(10):
            for request in (LIVE, LIVE, b"", LIVE):
                await come(request)
            await gone(2)  # the idle one, although it came after two others
            await come(LIVE)
            await gone(0)  # all are being answered: a client that does not read its answer must not stay for ever
        for _, writer in clients:
            writer.close()
        await bounded.drain(0.0)
        listener.close()

    asyncio.run(work())


def test_without_descriptors_it_goes_on_and_serves_again_when_there_are_some(monitor: Monitor) -> None:
    pid = monitor.process.pid
    with connected(monitor) as known, ExitStack() as restore:
        known.sendall(LIVE)
        assert known.recv(1000).startswith(b"HTTP/1.1 200")
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft >= MAX_CONNECTIONS
        restore.callback(resource.prlimit, pid, resource.RLIMIT_NOFILE, (soft, hard))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        with connected(monitor) as waiting:
            waiting.sendall(LIVE)
            for _ in range(3):  # a survey is due after each second
                known.sendall(LIVE.replace(b"GET /health/live", b"HEAD /metrics"))
                assert known.recv(1000).startswith(b"HTTP/1.1 200")
                time.sleep(0.6)
            assert monitor.log.count("cannot accept connections") == 1
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            assert waiting.recv(1000).startswith(b"HTTP/1.1 200")
    assert monitor.process.is_alive()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((100, 4096), f"{MAX_CONNECTIONS} 320 4096"),
        ((1024, 4096), f"{MAX_CONNECTIONS} 1024 4096"),
        ((100, 200), "136 200 200"),
        ((50, 50), f"{FEWEST_CONNECTIONS} 50 50"),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed_and_allowed(limits: tuple[int, int], expected: str) -> None:
    script = (
        "import resource as r; from monitoring.connections import places; "
        f"r.setrlimit(r.RLIMIT_NOFILE, {limits}); print(places(), *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def open_descriptors(monitor: Monitor) -> int:
    return len(os.listdir(f"/proc/{monitor.process.pid}/fd"))
