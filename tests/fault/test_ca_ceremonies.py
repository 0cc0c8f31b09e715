"""Each change of the hierarchy is killed before each of its steps on the disk: it has happened whole, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fault.ceremony_process import CHANGES

pytestmark = pytest.mark.fault

STEPS = {"rotate-root": 25, "remove-root-key": 8, "encrypt": 12, "take-over": 25}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_each_step_leaves_it_as_before_or_as_after(short_path: Path, change: str) -> None:
    command = [sys.executable, "-m", "tests.fault.ceremony_process", change, str(short_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    *lines, last = done.stdout.splitlines()
    assert int(last.removeprefix("done ")) >= STEPS[change], "the kills did not reach the steps"
    states = [line.partition(" ")[2] for line in lines]
    assert states == sorted(states, reverse=True), "before, and from one step on after"
    assert set(states) == {"before", "after"}
