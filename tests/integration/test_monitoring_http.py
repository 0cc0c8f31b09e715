"""The monitoring endpoints of a real process, asked over both loopback addresses, and the commands that ask them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import RawTestServer
from click.testing import CliRunner
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus
from structlog.testing import capture_logs

from config.inheritance import READY
from config.loader import load
from monitoring import cli
from monitoring.block import RawBlock, Verdict, block_path
from monitoring.export import MetricsExporter
from monitoring.hosts import OwnNames
from monitoring.metrics import Metrics
from monitoring.server import FAMILIES, Endpoints, Server
from monitoring.system import Build, MonitoringSystem
from tests.integration.running_monitor import HOSTS, Monitor, running_monitor
from tests.rig import ports
from tests.rig.figures import READERS, assert_same_figures
from tests.rig.polling import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """One healthy tree for all tests that leave it as it was."""
    with running_monitor(tmp_path_factory.mktemp("data"), ports.free_port()) as running:
        running.start_workers()
        for _ in range(25):
            running.metrics["ca"].bound_operation("trustchain_ca_requests").record(3_000_000, "ok")
        running.beat()
        eventually("the tree is healthy", lambda: running.fresh().json()["status"] == "healthy", within=10)
        yield running


@pytest.fixture
def own_monitor(tmp_path: Path) -> Iterator[Monitor]:
    """A monitor for one test, without other workers yet."""
    with running_monitor(tmp_path, ports.free_port()) as running:
        yield running


@pytest.mark.parametrize("host", HOSTS)
def test_health_is_one_line_of_json_in_a_stable_order(monitor: Monitor, host: str) -> None:
    monitor.beat()
    answer = monitor.ask("/health", host=host)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["server"] == "TrustChain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.count("\n") == 1
    document = answer.json()
    expected = [
        "status",
        "is_healthy",
        "health_score",
        "components",
        "issues",
        "last_check",
        "version",
        "uptime_seconds",
    ]
    assert list(document)[:8] == expected
    assert (document["status"], document["is_healthy"], document["issues"]) == ("healthy", True, [])
    assert set(document["components"]) == {"monitoring", "ct", "ca", "api", "storage"}
    assert monitor.ask("/health?pretty").text.count("\n") > 20


def test_each_component_can_be_asked_for_and_an_unknown_one_is_a_problem(monitor: Monitor) -> None:
    monitor.beat()
    for name in ("monitoring", "ct", "ca", "api", "storage"):
        answer = monitor.ask(f"/health/{name}")
        assert (answer.status, answer.json()["component"]) == (200, name)
    problem = monitor.ask("/health/nobody")
    assert problem.status == 404
    assert problem.headers["content-type"].startswith("application/problem+json")
    assert problem.json()["components"] == ["monitoring", "ct", "ca", "api", "storage"]


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/health/ready", "/health/ca", "/metrics", "/alerts",
                                  "/history", "/info"])  # fmt: skip
def test_head_answers_like_get_without_a_body(monitor: Monitor, path: str) -> None:
    monitor.beat()
    got, head = monitor.ask(path), monitor.ask(path, "HEAD")
    assert (head.status, head.body) == (got.status, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/health", 405),
        ("DELETE", "/metrics", 405),
        ("PATCH", "/", 405),
        ("GET", "/nothing", 404),
        ("GET", "/health/ca/more", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/history?component=nobody", 404),
        ("GET", "/history?seconds=-5", 400),
        ("GET", "/history?seconds=1e9", 400),
        ("GET", "/history?seconds=99999999999999999999", 400),
        ("GET", "/metrics?format=xml", 400),
        ("GET", "/metrics?format=", 400),
    ],
)
def test_what_is_not_there_is_a_problem_document(monitor: Monitor, method: str, path: str, status: int) -> None:
    answer = monitor.ask(path, method)
    assert answer.status == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["title"]
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"
    if "format" in path:
        assert answer.json()["formats"] == ["csv", "json", "plaintext", "prometheus"]


def test_promtool_has_nothing_to_say(monitor: Monitor, require_peer: Callable[[str], str]) -> None:
    promtool = require_peer("promtool")
    body = monitor.ask("/metrics").body
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_both_prometheus_parsers_read_the_same(monitor: Monitor) -> None:
    plain = monitor.ask("/metrics")
    open_metrics = monitor.ask("/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    samples = [
        {sample.name: sample.value for family in parse(text) for sample in family.samples if sample.labels == labels}
        for parse, text in ((parse_prometheus, plain.text), (parse_open_metrics, open_metrics.text))
        for labels in ({"result": "ok"},)
    ]
    assert samples[0]["trustchain_ca_requests_total"] == samples[1]["trustchain_ca_requests_total"] == 25


def test_all_formats_carry_the_same_figures(monitor: Monitor) -> None:
    first = READERS["prometheus"](monitor.ask("/metrics").text)
    read = {name: reader(monitor.ask(f"/metrics?format={name}").text) for name, reader in READERS.items()}
    after = READERS["prometheus"](monitor.ask("/metrics").text)
    still = {key: value for key, value in first.items() if "_ca_" in key[0] or "build" in key[0] or "up" in key[0]}
    still = {key: value for key, value in still.items() if "uptime" not in key[0]}
    assert still["trustchain_ca_requests_seconds", (), "sum"] == pytest.approx(0.075)
    assert_same_figures(first, read, after, still)


def test_what_each_worker_is_to_the_kernel_is_told(monitor: Monitor) -> None:
    figures = READERS["prometheus"](monitor.ask("/metrics").text)
    for service in ("supervisor", "monitoring", "ct", "ca", "api"):
        labels = (("index", "0"), ("service", service))
        assert figures["trustchain_process_resident_memory_bytes", labels, "value"] > 1e6
        assert figures["trustchain_process_open_fds", labels, "value"] > 3


def test_info_history_and_index_answer(monitor: Monitor) -> None:
    info = monitor.ask("/info").json()
    assert (info["pids"]["monitoring"], info["pids"]["supervisor"]) == (monitor.process.pid, os.getpid())
    history = monitor.ask("/history?component=ca&seconds=60").json()
    assert len(history["times"]) == len(history["series"]["score"]) >= 1
    assert "/health/ready" in monitor.ask("/").text


def test_a_state_that_the_supervisor_writes_shows_on_the_next_request(monitor: Monitor) -> None:
    monitor.state("ca", "backoff")
    down = monitor.fresh()
    assert (down.status, down.json()["status"], down.json()["is_healthy"]) == (503, "critical", False)
    assert down.json()["issues"][0].startswith("ca: died and waits to be restarted")
    assert monitor.ask("/health/ca").status == monitor.ask("/health/ready").status == 503
    assert monitor.ask("/health/live").status == monitor.ask("/health/api").status == 200
    assert monitor.ask("/health/ready").json()["waiting_for"] == ["ca"]
    monitor.state("ca", "ready")
    assert monitor.fresh().status == 200


def test_not_ready_until_every_required_worker_is(own_monitor: Monitor) -> None:
    assert own_monitor.ask("/health/ready").status == 503
    own_monitor.start_workers("ct", "ca")
    assert own_monitor.fresh("/health/ready").json() == {"ready": False, "waiting_for": ["api"]}
    own_monitor.start_workers("api")
    assert own_monitor.fresh("/health/ready").status == 200
    assert own_monitor.fresh().json()["status"] == "healthy"


def test_what_is_asked_while_it_starts_is_answered_when_it_has_started(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, ports.free_port(), {})
    try:
        monitor.start_workers()
        assert monitor.leash.recv(64) == READY
        with socket.create_connection(("127.0.0.1", monitor.port), timeout=10) as early:
            early.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.1)  # the supervisor takes its time
            monitor.state("monitoring", "ready")
            assert early.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        monitor.close()


def test_the_supervisor_finds_the_board(monitor: Monitor) -> None:
    monitor.fresh()
    board = monitor.block.board()
    assert board is not None
    assert board.state == "healthy"
    assert board.status_line == "healthy 1.00, 4/4 workers ready"
    assert {slot: verdict.verdict for slot, verdict in board.verdicts.items()} == dict.fromkeys(range(4), Verdict.KEEP)


def test_a_damaged_block_is_told_with_503_until_it_is_whole_again(own_monitor: Monitor) -> None:
    own_monitor.start_workers()
    assert own_monitor.fresh().status == 200
    with block_path(own_monitor.block.name).open("r+b") as file:
        magic = file.read(8)
        file.seek(0)
        file.write(b"\0" * 8)
        file.flush()
        damaged = own_monitor.fresh()
        assert damaged.status == 503
        assert "not a TrustChain metrics block" in damaged.json()["issues"][0]
        assert own_monitor.ask("/metrics").status == own_monitor.ask("/health/live").status == 200
        file.seek(0)
        file.write(magic)
    assert own_monitor.fresh().status == 200


def test_sigterm_ends_it_cleanly(own_monitor: Monitor) -> None:
    os.kill(own_monitor.process.pid, signal.SIGTERM)
    own_monitor.process.join(10)
    assert own_monitor.process.exitcode == 0


def test_sigint_belongs_to_the_supervisor(own_monitor: Monitor) -> None:
    os.kill(own_monitor.process.pid, signal.SIGINT)
    assert own_monitor.ask("/health/live").status == 200


def test_the_end_of_the_leash_is_the_end(own_monitor: Monitor) -> None:
    own_monitor.leash.close()
    own_monitor.process.join(1)
    assert own_monitor.process.exitcode == 1


def test_its_own_failing_probe_makes_it_ask_for_its_own_replacement(tmp_path: Path) -> None:
    quick = {"probe_interval": 0.1, "unhealthy_after": 0.3, "collection_interval": 0.1, "health_check_interval": 0.1}
    settings = {f"monitoring__{name}": value for name, value in quick.items()}
    with running_monitor(tmp_path, ports.free_port(), supervisor__drills=True, **settings) as running:
        running.start_workers()
        os.kill(running.process.pid, signal.SIGUSR2)

        def advised() -> bool:
            running.beat()
            board = running.block.board()
            return board is not None and board.verdicts[0].verdict is Verdict.REPLACE

        eventually("the verdict on monitoring is REPLACE", advised, within=10)


def test_an_error_of_ours_is_a_problem_document_too(tmp_path: Path) -> None:
    def broken() -> RawBlock:
        raise RuntimeError("a bug")

    settings = load(None, "development", tmp_path, []).settings
    system = MonitoringSystem(settings, Build("1", "3"), broken)
    metrics = Metrics.in_memory(FAMILIES)

    async def refresh() -> None:
        pass

    async def work() -> tuple[int, str]:
        answers = Server(Endpoints(system, MetricsExporter(), refresh), metrics, OwnNames("localhost", ()))
        async with RawTestServer(answers.answer) as running, ClientSession() as client:
            answer = await client.get(running.make_url("/health"))
            return answer.status, answer.content_type

    with capture_logs() as lines:
        assert asyncio.run(work()) == (500, "application/problem+json")
    assert [line["event"] for line in lines] == ["a request failed"]
    assert metrics.counter("trustchain_monitoring_requests_total", result="error").value == 1


def run(command: str, monitor: Monitor, *arguments: str) -> tuple[int, str]:
    """`trustchain COMMAND` with the settings of this monitor."""
    done = CliRunner().invoke(getattr(cli, command), [*monitor.arguments, *arguments])
    return done.exit_code, done.output


class TestCommands:
    def test_health_tells_by_words_and_by_exit_code(self, monitor: Monitor) -> None:
        monitor.fresh()
        code, output = run("health", monitor)
        assert code == 0
        assert output.startswith("healthy  score 1.00")
        code, output = run("health", monitor, "--json")
        assert (code, json.loads(output)["status"]) == (0, "healthy")
        monitor.state("ca", "ready", restarts=4)
        monitor.fresh()
        assert run("health", monitor)[0] == 1
        monitor.state("ca", "stopped", restarts=4)
        monitor.fresh()
        code, output = run("health", monitor)
        assert code == 2
        assert "- ca: stopped by operator, last heartbeat 0." in output
        assert "`trustchain start ca` brings it back" in output
        assert "down since" not in output
        eventually("the alert fires", lambda: "down since 20" in run("health", monitor)[1], within=10)
        monitor.state("ca", "ready", restarts=4)
        monitor.fresh()
        assert "down since" not in run("health", monitor)[1]

    def test_metrics_prints_the_format_asked_for(self, monitor: Monitor) -> None:
        key = ("trustchain_ca_requests_total", (("result", "ok"),), "value")
        for name, reader in READERS.items():
            code, output = run("metrics", monitor, "--format", name)
            assert (code, reader(output)[key]) == (0, 25)
        assert READERS["json"](run("metrics", monitor)[1])[key] == 25  # export_format
        code, output = run("metrics", monitor, "--format", "xml")
        assert code == 2
        assert "'xml' is not one of csv, json, plaintext, prometheus" in output

    def test_nobody_there_is_unknown(self, tmp_path: Path) -> None:
        arguments = ["--data-dir", str(tmp_path), "--set", f"monitoring.port={ports.free_port()}"]
        done = CliRunner().invoke(cli.health, arguments)
        assert done.exit_code == 3
        assert "is `trustchain run` running" in done.output
        assert CliRunner().invoke(cli.metrics, arguments).exit_code == 1

    def test_another_program_on_the_port_is_unknown(self, tmp_path: Path) -> None:
        class Other(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server wants
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"Prometheus is Healthy.\n")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        other = HTTPServer(("127.0.0.1", 0), Other)
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            arguments = ["--data-dir", str(tmp_path), "--set", f"monitoring.port={other.server_port}"]
            done = CliRunner().invoke(cli.health, [*arguments, "--json"])
            assert done.exit_code == 3
            assert json.loads(done.output)["status"] == "unknown"
            assert "does another program use it?" in done.output
        finally:
            other.shutdown()
            thread.join()
            other.server_close()
