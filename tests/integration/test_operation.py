"""What an operator does with a running tree: start, look, stop and start parts of it, ask twice, misconfigure."""

import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.ports import free_port
from tests.rig.signing_request import signing_request
from tests.rig.tree import SERVICES, Tree, trustchain

pytestmark = pytest.mark.integration


def test_the_first_start_asks_nothing_and_says_what_to_do_next(shared_tree: Tree) -> None:
    assert str(shared_tree.data_dir / "ca" / "root.pem") in shared_tree.log
    assert f"{shared_tree.api_port}" in shared_tree.log
    assert f"{shared_tree.monitoring_port}/health" in shared_tree.log


def test_what_it_writes_is_for_its_user_only(shared_tree: Tree) -> None:
    assert stat.S_IMODE(shared_tree.data_dir.stat().st_mode) == 0o700
    suffixes, names = (".token", ".db", ".sock"), ("key.pem", "hierarchy.json")
    secret = [path for path in shared_tree.data_dir.rglob("*") if path.suffix in suffixes or path.name in names]
    assert len(secret) >= 7, secret
    open_to_others = [path for path in secret if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not open_to_others


def test_no_secret_is_in_the_log_or_on_a_command_line(shared_tree: Tree) -> None:
    assert shared_tree.issue(signing_request("secret.example.test")).status == 201
    told = shared_tree.log + "".join(
        Path(f"/proc/{process.pid}/cmdline").read_text() for process in shared_tree.processes()
    )
    assert shared_tree.token not in told
    assert "PRIVATE KEY" not in told


def test_status_shows_every_worker(shared_tree: Tree) -> None:
    document = shared_tree.status()
    assert document["supervisor"]["pid"] == shared_tree.pid
    rows = {row["service"]: row for row in document["workers"]}
    assert rows.keys() == set(SERVICES)
    for row in rows.values():
        assert row["state"] == "ready"
        assert row["restarts"] == 0
        assert 0 <= row["heartbeat_age_ms"] < 5000
    people = shared_tree.run("status").stdout
    assert all(service in people for service in SERVICES)


def test_a_second_tree_on_the_same_directory_is_refused(shared_tree: Tree, new_tree: Callable[..., Tree]) -> None:
    second = new_tree(data_dir=shared_tree.data_dir)
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 1, done.stderr
    assert str(shared_tree.data_dir) in done.stderr
    assert "Traceback" not in done.stderr
    shared_tree.wait_healthy(within=5)


def test_a_port_in_use_is_told_by_number(shared_tree: Tree, new_tree: Callable[..., Tree]) -> None:
    other = new_tree(api_port=shared_tree.api_port)
    done = subprocess.run(other.command(), capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 1, done.stderr
    assert str(shared_tree.api_port) in done.stderr
    assert "Traceback" not in done.stderr


def test_restart_replaces_one_worker_and_refuses_no_request(tree: Tree) -> None:
    pids = {service: tree.worker_pid(service) for service in SERVICES}
    tree.run("restart", "api")
    assert tree.api("GET", "/v1/ca/roots").status == 200
    tree.wait_replaced("api", pids["api"], within=15)
    assert tree.worker_pid("ca") == pids["ca"]


def test_while_a_service_is_stopped_its_callers_say_unavailable_at_once(tree: Tree) -> None:
    tree.run("stop", "ca")
    began = time.monotonic()
    answer = tree.issue(signing_request("stopped.example.test"))
    took = time.monotonic() - began
    assert (answer.status, answer.json()["type"]) == (503, "urn:trustchain:problem:unavailable"), answer.text
    assert answer.headers["retry-after"] == "1"
    assert took < 2, "it does not wait for the 10 s of api.request_timeout"
    tree.run("start", "ca")
    assert tree.issue(signing_request("started.example.test")).status == 201


def test_commands_without_a_tree_say_so(short_path: Path) -> None:
    for command, code in (("status", 1), ("health", 3), ("stop", 1)):
        arguments = [command, "ca"] if command == "stop" else [command]
        done = subprocess.run(
            [trustchain(), *arguments, "--data-dir", str(short_path), "--set", f"monitoring.port={free_port()}"],
            capture_output=True, text=True, timeout=30, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        assert done.stderr or done.stdout
        assert "Traceback" not in done.stderr


def test_a_wrong_setting_exits_78_and_names_it(short_path: Path) -> None:
    arguments = ["run", "--data-dir", str(short_path), "--set", "monitoring.prot=1"]
    done = subprocess.run([trustchain(), *arguments], capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 78
    assert "monitoring.prot" in done.stderr
    assert "monitoring.port" in done.stderr, "the nearest valid key is told"
