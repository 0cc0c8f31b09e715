"""What the original system promised, each promise under its own name, shown on a running tree."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from tests.rig.figures import READERS
from tests.rig.peers import require_namespaces
from tests.rig.polling import eventually
from tests.rig.recovery import kill
from tests.rig.signing_request import signing_request
from tests.rig.tree import SERVICES, START_WITHIN, Tree

pytestmark = pytest.mark.integration

_PACKAGES = ("config", "monitoring", "services", "supervisor")
# Import names of products that measure, trace, log remotely or watch processes for others.
_MONITORING_PRODUCTS = frozenset(
    {
        *("prometheus_client", "opentelemetry", "opencensus", "jaeger_client", "zipkin", "py_zipkin", "statsd"),
        *("datadog", "ddtrace", "newrelic", "sentry_sdk", "elasticapm", "influxdb", "influxdb_client", "graphyte"),
        *("grafana_client", "pcp", "circus", "supervisord", "healthcheck"),
    }
)
_PRODUCT_PROCESSES = ("prometheus", "grafana", "jaeger", "alertmanager", "node_exporter", "pushgateway", "otelcol")


def test_native_monitoring(tree: Tree) -> None:
    """Every worker writes what it does into one block of shared memory; one process of the tree reads and serves it."""
    segment = tree.segment
    assert segment.exists()
    mapped = {service: str(segment) in _maps(tree.worker_pid(service)) for service in SERVICES}
    assert all(mapped.values()), f"the block is not mapped by: {[name for name, found in mapped.items() if not found]}"

    counted = _issued(tree)
    assert tree.issue(signing_request("native.example.test")).status == 201
    assert _issued(tree) == counted + 1
    names = {name for name, _, _ in READERS["prometheus"](tree.monitoring("/metrics").text)}
    assert {"trustchain_ca_requests_seconds", "trustchain_worker_event_loop_lag_seconds"} <= names
    assert all(name.startswith("trustchain_") for name in names)

    # The command reads the block itself: it needs no server, and no monitoring process.
    tree.run("stop", "monitoring")
    dumped = tree.run("block", "dump").stdout
    assert "trustchain_ca_requests" in dumped
    tree.run("start", "monitoring")


def test_health_check_system(tree: Tree) -> None:
    """Scores, states, reasons and codes: 200 while healthy, 503 with the reason when a required part is not."""
    told = tree.wait_healthy(within=10)
    assert told["status"] == "healthy"
    assert told["is_healthy"] is True
    assert 0.9 <= told["health_score"] <= 1.0
    assert set(SERVICES) <= told["components"].keys()
    assert told.keys() >= {"issues", "last_check", "version", "uptime_seconds"}
    assert [tree.monitoring(f"/health/{path}").status for path in ("live", "ready", *SERVICES)] == [200] * (
        2 + len(SERVICES)
    )
    assert tree.monitoring("/health/nothing-of-that-name").status == 404
    assert tree.run("health").returncode == 0

    tree.run("stop", "ca")
    told = tree.wait_health(lambda status, _: status == 503, "/health answers 503", within=15)
    assert told["is_healthy"] is False
    assert told["health_score"] < 0.7, "the whole cannot be better than its worst required part allows"
    assert any("ca" in issue for issue in told["issues"]), told["issues"]
    assert tree.monitoring("/health/live").status == 200
    assert tree.monitoring("/health/ready").status == 503
    assert tree.run("health", check=False).returncode == 2
    tree.run("start", "ca")
    tree.wait_healthy(within=15)


def test_metrics_export_formats(tree: Tree) -> None:
    """JSON, Prometheus, plain text and CSV, over HTTP and from the command, with the figures of what was done."""
    for _ in range(2):
        assert tree.issue(signing_request("formats.example.test")).status == 201
    key = ("trustchain_ca_requests_total", (("result", "ok"),), "value")
    wanted = READERS["prometheus"](tree.metrics())[key]
    assert wanted >= 2
    for name, reader in READERS.items():
        assert reader(tree.monitoring(f"/metrics?format={name}").text)[key] == wanted, f"{name} over HTTP"
        assert reader(tree.run("metrics", "--format", name).stdout)[key] == wanted, f"{name} from the command"


def test_no_external_dependencies(new_tree: Callable[..., Tree], require_peer: Callable[[str], str]) -> None:
    """No monitoring product is imported or run, nothing outside the host is needed: it works where only loopback is."""
    assert not _import_closure() & _MONITORING_PRODUCTS
    ip = require_peer("ip")
    shell_line = f'{ip} link set lo up && exec "$@"'
    tree = new_tree(prefix=[*require_namespaces("--mount", "--net"), "sh", "-c", shell_line, "sh"])
    tree.start()
    _healthy_by_command(tree)
    out = tree.data_dir.with_name("issued")
    for service in SERVICES:
        kill(tree.worker_pid(service))
        _healthy_by_command(tree)
        tree.run("issue", "--dns", f"{service}.example.test", "--out", str(out / service))
    for process in tree.processes():
        command = psutil.Process(process.pid).name().lower()
        assert not any(product in command for product in _PRODUCT_PROCESSES), command
        loaded = _maps(process.pid)
        assert not [name for name in _MONITORING_PRODUCTS if f"/site-packages/{name}/" in loaded]
    openssl = require_peer("openssl")
    chain = sorted(str(path) for path in (out / "ca").glob("*.pem"))
    leaf = next(path for path in chain if "cert" in Path(path).name)
    verify = [openssl, "verify", "-CAfile", str(tree.root_certificate)]
    for intermediate in chain:
        if "chain" in Path(intermediate).name:
            verify += ["-untrusted", intermediate]
    checked = subprocess.run([*verify, leaf], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _healthy_by_command(tree: Tree) -> None:
    def attempt() -> bool:
        assert tree.process is not None
        assert tree.process.poll() is None, tree.log[-3000:]
        return tree.run("health", check=False).returncode == 0

    eventually("`trustchain health` exits 0", attempt, within=START_WITHIN)


def _import_closure() -> frozenset[str]:
    """Top-level names of all modules that are loaded once every module of the four packages is imported."""
    program = (
        "import importlib, json, pkgutil, sys\n"
        f"for package in {_PACKAGES!r}:\n"
        "    found = importlib.import_module(package)\n"
        "    for module in pkgutil.walk_packages(found.__path__, package + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    names: Iterable[str] = json.loads(done.stdout)
    return frozenset(names)


def _issued(tree: Tree) -> float:
    figures = READERS["prometheus"](tree.metrics())
    return figures["trustchain_ca_requests_total", (("result", "ok"),), "value"]


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()
