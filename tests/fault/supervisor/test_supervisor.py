"""What happens to the supervisor itself and to what it owns: its fork server, its block, its lock, its sockets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.block import block_path
from tests.fault.supervisor.toy_tree import ToyTree, who_answers
from tests.rig import processes
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]


def test_a_stop_ends_everything_in_order_and_leaves_nothing(toys: ToyTree) -> None:
    assert toys.stop() == 0
    ended = [line.split("] ")[1].split()[0] for line in toys.log.splitlines() if " has to end " in line]
    assert ended == ["c", "b", "a"]
    assert list((toys.data_dir / "run").iterdir()) == []
    assert not block_path(toys.paths.block_name).exists()


def test_no_orphan_outlives_a_killed_supervisor_by_a_second(toys: ToyTree) -> None:
    assert len(toys.processes()) >= 5
    assert toys.kill_supervisor() < 1.0


def test_not_even_when_fork_server_and_workers_were_stopped_first(toys: ToyTree) -> None:
    for pid in (toys.process_titled("fork server"), toys.worker_pid("a"), toys.worker_pid("b")):
        os.kill(pid, signal.SIGSTOP)
    assert toys.kill_supervisor() < 1.0


def test_the_next_start_after_a_kill_finds_no_debris(toys: ToyTree) -> None:
    toys.kill_supervisor()
    toys.start_ready()
    assert not any(name.name.startswith("pymp-") for name in (toys.data_dir / "run").glob("pymp-*/../*.log"))
    assert len(list((toys.data_dir / "run").glob("pymp-*"))) == 1
    assert toys.stop() == 0


def test_a_killed_fork_server_takes_every_worker_with_it_and_all_come_back(toys: ToyTree) -> None:
    old = [toys.worker_pid(name) for name in "abc"]
    time.sleep(0.15)
    os.kill(toys.process_titled("fork server"), signal.SIGKILL)
    for name, pid in zip("abc", old, strict=True):
        toys.wait_replaced(name, pid)
    assert not any(processes.identify(pid) for pid in old)
    assert {toys.deaths(name)[0].reason for name in "abc"} == {"fork server lost"}
    assert toys.stop() == 0


def test_a_stopped_fork_server_is_woken_when_it_is_needed(toys: ToyTree) -> None:
    os.kill(toys.process_titled("fork server"), signal.SIGSTOP)
    pid = toys.worker_pid("a")
    os.kill(pid, signal.SIGKILL)
    toys.wait_replaced("a", pid, 3.0)


def test_a_supervisor_that_was_stopped_does_not_blame_its_workers(toys: ToyTree) -> None:
    """Everything is frozen for longer than heartbeat_timeout, as by a suspended machine."""
    pids = [toys.worker_pid(name) for name in "abc"]
    for pid in (toys.pid, *pids):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.2)
    for pid in (toys.pid, *pids):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.7)
    assert [toys.worker_pid(name) for name in "abc"] == pids


def test_a_second_start_on_the_same_data_directory_is_refused(toys: ToyTree, new_toys: Toys) -> None:
    second = new_toys(data_dir=toys.data_dir)
    second.start()
    assert second.wait() == 1
    assert f"refused: a supervisor (process {toys.pid}) already runs on {toys.data_dir}" in second.log
    assert all(worker.state == "ready" for worker in toys.workers())


def test_two_trees_cannot_share_a_runtime_directory(toys: ToyTree, new_toys: Toys) -> None:
    second = new_toys(sets=(f"server.runtime_dir={toys.data_dir / 'run'}",))
    second.start()
    assert second.wait() == 1
    assert "another supervisor uses the runtime directory" in second.log
    assert all(worker.state == "ready" for worker in toys.workers())


def test_a_port_in_use_names_the_port_and_the_setting(new_toys: Toys, free_port: Callable[[], int]) -> None:
    port = free_port()
    first = new_toys(services=f"a:{port}")
    first.start_ready()
    second = new_toys(services=f"a:{port}")
    second.start()
    assert second.wait() == 1
    assert f"port {port} (a.port, tcp 127.0.0.1:{port}) is in use" in second.log
    assert who_answers(port)[0] == first.worker_pid("a")


def test_a_second_sigterm_ends_at_once(new_toys: Toys) -> None:
    tree = new_toys(limits={"drain_timeout": 60.0})
    for name in "abc":
        tree.behave(name, "deaf")
    tree.start_ready()
    tree.processes()
    began = time.monotonic()
    os.kill(tree.pid, signal.SIGTERM)
    time.sleep(0.3)
    os.kill(tree.pid, signal.SIGTERM)
    assert tree.wait() == 0
    assert time.monotonic() - began < 3.0


def test_a_worker_that_ignores_sigterm_is_killed_after_the_drain_timeout(new_toys: Toys) -> None:
    tree = new_toys(limits={"drain_timeout": 0.4})
    tree.behave("b", "deaf")
    tree.start_ready()
    assert tree.stop() == 0
    assert "reason='drain timeout (shutdown)'" in tree.log


def test_a_stopped_worker_drains_all_the_same(toys: ToyTree) -> None:
    """SIGTERM alone would wait for somebody to continue it."""
    os.kill(toys.worker_pid("b"), signal.SIGSTOP)
    began = time.monotonic()
    assert toys.ask("stop", "b").ok
    assert time.monotonic() - began < 0.5
    assert toys.deaths("b")[-1].exit_code == 0


def test_sighup_says_what_to_do_instead(toys: ToyTree) -> None:
    os.kill(toys.pid, signal.SIGHUP)
    eventually("it says so", lambda: "SIGHUP: settings are not reloaded" in toys.log, 5.0)
    assert "trustchain restart SERVICE" in toys.log
    assert toys.stop() == 0


@pytest.mark.parametrize("damage", ["truncate", "overwrite", "remove"])
def test_a_damaged_block_is_rebuilt_and_every_worker_moves_to_it(toys: ToyTree, damage: str) -> None:
    path = block_path(toys.paths.block_name)
    old = [toys.worker_pid(name) for name in "abc"]
    if damage == "truncate":
        os.truncate(path, 100)
    elif damage == "overwrite":
        with path.open("r+b") as file:
            file.write(b"\xff" * 4096)
    else:
        path.unlink()
    for name, pid in zip("abc", old, strict=True):
        toys.wait_replaced(name, pid)
    assert "the metrics block is damaged" in toys.log
    time.sleep(0.7)
    rows = toys.workers()
    assert [row.state for row in rows] == ["ready"] * 3
    assert all(row.heartbeat_age_ms is not None and row.heartbeat_age_ms < 500 for row in rows)
    assert toys.stop() == 0


def test_workers_do_not_import_the_command_line(short_path: Path) -> None:
    """A console script is the parent's main module, which multiprocessing would import again in every worker."""
    code = (
        "import sys, runpy, pathlib\n"
        "assert 'supervisor.cli' not in sys.modules and 'click' not in sys.modules and 'rich' not in sys.modules, "
        "[name for name in sys.modules if 'cli' in name]\n"
        "def main(inheritance):\n"
        "    print('imported', len(sys.modules), file=sys.stderr)\n"
        "    sys.exit(78)\n"
    )
    package = short_path / "modules" / "bare"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(code)
    script = short_path / "console_script"
    script.write_text(
        "import sys\n"
        "import click, supervisor.cli\n"
        "from pathlib import Path\n"
        "from config.loader import load\n"
        "from config.topology import Service\n"
        "from supervisor.startup import run\n"
        "assert __name__ == '__main__', 'a worker runs the console script'\n"
        "settings = load(None, None, Path(sys.argv[1]), (), {}).settings\n"
        "sys.exit(run(settings, [Service(name='bare', module='bare')]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).resolve().parents[3]}:{package.parent}"}
    ran = subprocess.run(
        [sys.executable, str(script), str(short_path / "d")], env=environment, cwd="/", capture_output=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert b"bare | imported" in ran.stderr, ran.stderr.decode()
    assert b"AssertionError" not in ran.stderr


def test_the_current_directory_is_not_searched_for_modules(new_toys: Toys, short_path: Path) -> None:
    """The fork server is `python -c`, which would; a package named `services` there would win over ours."""
    for name in ("monitoring", "config", "supervisor"):
        (short_path / "elsewhere" / name).mkdir(parents=True)
        (short_path / "elsewhere" / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    tree = new_toys(prefix=("env", "-C", str(short_path / "elsewhere")), environment={"PYTHONSAFEPATH": "1"})
    tree.start_ready()
    assert tree.stop() == 0


def test_a_log_that_nobody_reads_does_not_stop_supervision(new_toys: Toys) -> None:
    tree = new_toys(prefix=("env", "TOYS=1", "bash", "-c", '"$@" 2> >(sleep 60)', "bash"))
    tree.behave("b", "noisy")
    tree.start()
    eventually("every toy is ready", lambda: all(w.state == "ready" for w in tree.workers()), 15.0)
    pid = tree.worker_pid("a")
    eventually("lines are dropped", lambda: _dropped(tree) > 0, 10.0)
    os.kill(pid, signal.SIGKILL)
    tree.wait_replaced("a", pid)
    assert tree.worker("b").restarts == 0


def _dropped(tree: ToyTree) -> int:
    status = tree.ask("status").status
    assert status is not None
    return status.supervisor.log_lines_dropped
