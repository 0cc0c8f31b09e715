"""The operator's commands over the control socket of a running tree."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from psutil import Process

from tests.fault.supervisor.toy_tree import ToyTree, who_answers
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]


def test_a_restart_waits_until_the_new_process_is_ready_and_says_so(toys: ToyTree) -> None:
    pid = toys.worker_pid("a")
    reply = toys.ask("restart", "a")
    assert (reply.ok, reply.message) == (True, "a restarted and ready")
    assert toys.worker("a").state == "ready"
    assert toys.worker_pid("a") != pid
    assert [(death.reason, death.exit_code) for death in toys.deaths("a")] == [("operator", 0)]


def test_an_operators_stop_is_not_undone(toys: ToyTree) -> None:
    assert toys.ask("stop", "a").message == "a stopped"
    assert toys.ask("stop", "a").message == "a is stopped already"
    time.sleep(1.5)
    row = toys.worker("a")
    assert (row.state, row.pid, row.note) == ("stopped", None, "stopped by the operator")
    assert toys.ask("start", "a").message == "a started and ready"
    assert toys.ask("start", "a").message == "a runs already"


def test_a_connection_during_a_restart_is_not_refused(new_toys: Toys, free_port: Callable[[], int]) -> None:
    port = free_port()
    tree = new_toys(services=f"a:{port}")
    tree.start_ready()
    assert tree.ask("stop", "a").ok
    with socket.create_connection(("127.0.0.1", port)) as waiting:
        assert tree.ask("start", "a").ok
        assert waiting.recv(100).split()[1] == b"2"
    assert who_answers(port)[1] == 2


def test_a_dependency_is_started_first_and_its_client_left_alone_later(new_toys: Toys) -> None:
    tree = new_toys(services="a,b:0:a,c:0:a+b")
    tree.behave("a", "slow 0.5")
    tree.start()
    waiting = eventually("c waits", lambda: tree.worker("c").note, 5.0)
    assert waiting == "waiting for a, b"
    eventually("all are ready", lambda: all(row.state == "ready" for row in tree.workers()), 10.0)
    began = [tree.log.index(f"] {name} starts") for name in "abc"]
    ready = [tree.log.index(f"] {name} is ready") for name in "abc"]
    assert ready[0] < began[1]
    assert ready[1] < began[2]
    pids = [tree.worker_pid(name) for name in "bc"]
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    tree.wait_state("a", "ready")
    assert [tree.worker_pid(name) for name in "bc"] == pids


def test_a_restart_of_a_worker_that_dies_says_so(toys: ToyTree) -> None:
    toys.behave("a", "crash")
    reply = toys.ask("restart", "a")
    assert not reply.ok
    assert reply.message.startswith("a was started and died: backoff")


def test_an_unknown_service_or_command_names_the_valid_ones(toys: ToyTree) -> None:
    assert toys.ask("restart", "x").message == "unknown service 'x'; there are: a, b, c"
    assert toys.ask("burn", "a").message == "unknown command 'burn'; there are: status, start, stop, restart"


def test_status_has_what_the_interface_promises(toys: ToyTree) -> None:
    status = toys.ask("status").status
    assert status is not None
    assert (status.supervisor.pid, status.supervisor.state, status.supervisor.ready) == (toys.pid, "running", True)
    assert [(row.service, row.index, row.state, row.restarts) for row in status.workers] == [
        ("a", 0, "ready", 0),
        ("b", 0, "ready", 0),
        ("c", 0, "ready", 0),
    ]
    assert all(row.pid and row.heartbeat_age_ms is not None and row.heartbeat_age_ms < 500 for row in status.workers)


@pytest.mark.parametrize(
    "sent", [b"\n", b"{}\n", b"\xff\xfe\n", b'{"command": 1}\n', b"[" * 4000 + b"\n", b'{"command":"status","x":1}\n']
)
def test_what_is_no_request_is_answered_as_such(toys: ToyTree, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(toys.paths.control_socket))
        client.sendall(sent)
        assert client.makefile("rb").readline().startswith(b'{"ok":false,"message":"not a request: ')
    assert toys.worker("a").state == "ready"


def test_who_sends_too_much_is_cut_off(toys: ToyTree) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(toys.paths.control_socket))
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            client.sendall(b"x" * 4_000_000)
    assert toys.worker("a").state == "ready"


@pytest.mark.parametrize("line", [b"\n", b'{"command":"x"}\n'])
def test_any_number_of_lines_at_once_costs_the_tree_nothing(toys: ToyTree, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(toys.paths.control_socket))
        client.sendall(line * (4096 // len(line)))
        assert client.makefile("rb").readline().startswith(b'{"ok":false')
    assert toys.worker("a").state == "ready"


def test_a_client_that_takes_no_answers_gets_no_further_ones(toys: ToyTree) -> None:
    memory = Process(toys.pid).memory_info
    before = memory().rss
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        client.connect(str(toys.paths.control_socket))
        with suppress(TimeoutError):
            for _ in range(20_000):
                client.sendall(b'{"command":"status"}\n' * 10)
        assert toys.worker("a").state == "ready"
        assert memory().rss - before < 16_000_000


def test_clients_that_say_nothing_do_not_lock_the_operator_out(toys: ToyTree) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        for client in idle:
            client.connect(str(toys.paths.control_socket))
        assert toys.worker("a").state == "ready"
        pid = toys.worker_pid("a")
        os.kill(pid, signal.SIGKILL)
        toys.wait_replaced("a", pid)
    finally:
        for client in idle:
            client.close()


def test_several_requests_on_one_connection_are_answered_in_order(toys: ToyTree) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(toys.paths.control_socket))
        client.sendall(b'{"command":"restart","service":"a"}\n{"command":"restart","service":"b"}\n{"command":"x"}\n')
        lines = client.makefile("rb")
        assert [lines.readline()[:30] for _ in range(3)] == [
            b'{"ok":true,"message":"a restar',
            b'{"ok":true,"message":"b restar',
            b'{"ok":false,"message":"unknown',
        ]


def test_files_and_sockets_are_for_the_owner_alone(toys: ToyTree) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in [toys.data_dir, *toys.data_dir.rglob("*")]}
    toys_files = {name for name in modes if name.endswith(".toy")}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077 and name not in toys_files} == {}
    assert modes["control.sock"] == 0o600
    assert modes["supervisor.lock"] == 0o600
