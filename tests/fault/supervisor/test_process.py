"""The fork server at its worst, and the supervisor's own errors while it works for one worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.supervisor.toy_tree import REPOSITORY, ToyTree
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]

HANGING_FORK_SERVER = """
import socket, sys
from config.inheritance import Inheritance
from config.loader import load
from pathlib import Path
from supervisor import process

process.FIRST_LAUNCH_LIMIT = 1.0
settings = load(None, None, Path(sys.argv[1]), (), {}).settings
server = process.ForkServer(["endless"], sys.argv[1])
ours, theirs = socket.socketpair()
inheritance = Inheritance(
    service="x", index=0, settings=settings, sockets={}, leash=theirs, block="b", slot=0, generation=1
)
try:
    server.launch("x", inheritance, ours)
except process.LaunchError as error:
    print(error)
print("alive" if process._readable(server.pidfd, 2000) is False else "killed")
server.close()
"""


def test_a_fork_server_that_hangs_costs_a_bounded_time_and_is_killed(short_path: Path) -> None:
    (short_path / "endless.py").write_text("while True: pass\n")
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{short_path}"}
    ran = subprocess.run(
        [sys.executable, "-c", HANGING_FORK_SERVER, str(short_path)], env=environment, capture_output=True, text=True,
        timeout=20, check=True, cwd="/",
    )  # fmt: skip
    assert ran.stdout == "the fork server did not start it: no answer within 1 s\nkilled\n"


def test_a_module_that_cannot_be_imported_costs_only_its_own_worker(short_path: Path, new_toys: Toys) -> None:
    for name, code in (("broken", "raise ValueError('broken on import')"), ("leaving", "raise SystemExit(3)")):
        (short_path / "modules" / name).mkdir(parents=True)
        (short_path / "modules" / name / "__main__.py").write_text(code)
    tree = new_toys(
        services="a,broken@broken,leaving@leaving",
        environment={"PYTHONPATH": f"{REPOSITORY}:{short_path / 'modules'}"},
    )
    tree.start()
    tree.wait_state("broken", "failed")
    tree.wait_state("leaving", "failed")
    assert tree.worker("a").state == "ready"
    assert "ValueError: broken on import" in tree.deaths("broken")[-1].log_tail
    assert tree.deaths("leaving")[-1].exit_code == 3


def test_an_error_of_the_supervisor_while_serving_one_worker_costs_that_worker(new_toys: Toys) -> None:
    """Forwarding the word "poison" raises, as a bug would."""
    tree = new_toys(sets=("poison",))
    tree.behave("a", "say poison")
    tree.start()
    eventually("a was replaced", lambda: tree.worker("a").restarts >= 1, 10.0)
    assert tree.deaths("a")[0].reason == "error in the supervisor"
    assert "ZeroDivisionError" in tree.log
    assert [tree.worker(name).restarts for name in "bc"] == [0, 0]
    tree.behave("a", "steady")
    os.kill(tree.pid, signal.SIGTERM)
    assert tree.wait() == 0
