"""What a tree costs that nobody asks anything: processor time and proportional memory of all its processes.

.venv/bin/python -m tests.bench.bench_idle [development|production]
"""

import sys
import time

from tests.rig import processes
from tests.rig.tree import running_tree

_SETTLE = 5.0
_MEASURE = 20.0


def main(mode: str = "development") -> None:
    """Prints a row for each process and the sum."""
    with running_tree(mode=mode) as tree:
        time.sleep(_SETTLE)
        members = sorted(tree.processes(), key=lambda process: process.pid)
        before = {process: processes.cpu_seconds([process]) for process in members}
        time.sleep(_MEASURE)
        used = {process: processes.cpu_seconds([process]) - before[process] for process in members}
        memory = {process: processes.proportional_memory(process) for process in members}
        for process in members:
            sys.stdout.write(_row(processes.title(process.pid)[:60], used[process], memory[process]))
        sys.stdout.write(_row(f"all, mode {mode}", sum(used.values()), sum(memory.values())))


def _row(name: str, seconds: float, memory: int) -> str:
    return f"{name:<62} {seconds / _MEASURE:7.2%} of one core   {memory / 1e6:7.1f} MB\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
