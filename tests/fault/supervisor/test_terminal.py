"""A supervisor in the foreground of a terminal: ^C, and the terminal's end."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.supervisor.toy_tree import REPOSITORY, death_lines

pytestmark = pytest.mark.fault

ON_A_TERMINAL = """
import os, pty, sys
data_dir, how = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["PYTHONPATH"] = sys.path[0] = os.environ["REPOSITORY"]
    os.execv(sys.executable, [sys.executable, "-m", "tests.fault.supervisor.run_toys", data_dir, "a,b"])
seen = b""
while b"Try:" not in seen:
    seen += os.read(terminal, 65536)
if how == "^C":
    os.write(terminal, b"\\x03")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
else:
    os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("how", ["^C", "hang-up"])
def test_the_tree_is_drained_in_order_and_no_worker_is_hit_directly(short_path: Path, how: str) -> None:
    command = [sys.executable, "-c", ON_A_TERMINAL, str(short_path / "d"), how]
    environment = {"REPOSITORY": str(REPOSITORY), "HOME": "/"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True, cwd="/")
    assert ran.stdout == "0\n"
    deaths = death_lines(short_path / "d" / "supervisor" / "deaths.jsonl")
    assert [(death["service"], death["reason"], death["exit_code"]) for death in deaths] == [
        ("b", "shutdown", 0),
        ("a", "shutdown", 0),
    ]
