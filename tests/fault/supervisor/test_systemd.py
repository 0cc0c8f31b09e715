"""What the supervisor says to a systemd that is played by a datagram socket."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fault.supervisor.toy_tree import ToyTree
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]


@dataclass
class Systemd:
    """Listens at `address`, which a notifying process finds in NOTIFY_SOCKET."""

    address: str
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)

    def heard(self) -> list[str]:
        """Everything said so far."""
        while True:
            try:
                self.messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return self.messages

    def count(self, message: str) -> int:
        """How often that was said."""
        return self.heard().count(message)


@pytest.fixture
def systemd(short_path: Path) -> Iterator[Systemd]:
    """A systemd that listens at a path."""
    playing = Systemd(str(short_path / "notify"))
    yield playing
    playing.socket.close()


@pytest.fixture(params=["path", "abstract"])
def any_systemd(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Systemd]:
    """A systemd that listens at a path, or at an abstract address."""
    abstract = f"@tc-test-{os.getpid()}-{time.time_ns()}"
    playing = Systemd(str(short_path / "notify") if request.param == "path" else abstract)
    yield playing
    playing.socket.close()


def test_systemd_hears_the_whole_story_in_order(new_toys: Toys, any_systemd: Systemd) -> None:
    systemd = any_systemd
    tree = new_toys(environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"})
    tree.behave("c", "slow 1.0")
    tree.start()
    eventually("a and b are ready", lambda: [row.state for row in tree.workers()][:2] == ["ready", "ready"], 10.0)
    assert systemd.count("READY=1") == 0, "READY=1 before every required worker is ready"
    assert any(message.startswith("EXTEND_TIMEOUT_USEC=") for message in systemd.heard())
    eventually("READY=1", lambda: systemd.count("READY=1"), 10.0)
    assert tree.worker("c").state == "ready"
    eventually("a STATUS line", lambda: systemd.count("STATUS=running: 3/3 workers ready"), 5.0)
    before = systemd.count("WATCHDOG=1")
    time.sleep(1.0)
    assert 4 <= systemd.count("WATCHDOG=1") - before <= 7, "every 200 ms, half of what systemd wants"
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    tree.wait_state("a", "ready")
    assert tree.stop() == 0
    heard = systemd.heard()
    assert heard.count("READY=1") == 1
    assert heard.count("STOPPING=1") == 1
    assert heard.index("READY=1") < heard.index("STOPPING=1")
    assert any(message.startswith("EXTEND_TIMEOUT_USEC=6") for message in heard[heard.index("STOPPING=1") :])


def test_the_watchdog_hears_nothing_while_the_loop_stands_still(new_toys: Toys, systemd: Systemd) -> None:
    tree = new_toys(environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"})
    tree.start_ready()
    eventually("WATCHDOG=1", lambda: systemd.count("WATCHDOG=1"), 5.0)
    os.kill(tree.pid, signal.SIGSTOP)
    before = systemd.count("WATCHDOG=1")
    time.sleep(0.6)
    assert systemd.count("WATCHDOG=1") == before
    os.kill(tree.pid, signal.SIGCONT)
    eventually("WATCHDOG=1 again", lambda: systemd.count("WATCHDOG=1") > before, 5.0)


def test_a_watchdog_meant_for_another_process_is_not_fed(new_toys: Toys, systemd: Systemd) -> None:
    watched = {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}
    tree = new_toys(environment={"NOTIFY_SOCKET": systemd.address, **watched})
    tree.start_ready()
    eventually("READY=1", lambda: systemd.count("READY=1"), 5.0)
    time.sleep(0.5)
    assert systemd.count("WATCHDOG=1") == 0


def test_workers_cannot_speak_to_systemd(new_toys: Toys, systemd: Systemd) -> None:
    tree = new_toys(environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"})
    tree.start_ready()
    for pid in (tree.worker_pid("a"), tree.process_titled("fork server")):
        assert b"WATCHDOG_USEC" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_configuration_error_never_says_ready(new_toys: Toys, systemd: Systemd) -> None:
    tree = new_toys(environment={"NOTIFY_SOCKET": systemd.address})
    tree.behave("a", "exit 78")
    tree.start()
    assert tree.wait() == 78
    assert systemd.count("READY=1") == 0
    assert systemd.count("STOPPING=1") == 1


def test_a_notify_socket_that_is_not_there_is_a_clear_error(new_toys: Toys, short_path: Path) -> None:
    tree = new_toys(environment={"NOTIFY_SOCKET": str(short_path / "missing")})
    tree.start()
    assert tree.wait() == 1
    assert "NOTIFY_SOCKET names a socket that cannot be used: No such file or directory" in tree.log
