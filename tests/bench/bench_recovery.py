"""From SIGKILL on a worker to the next successful answer of its service, without load and with it.

.venv/bin/python -m tests.bench.bench_recovery [ROUNDS]
"""

import sys
from contextlib import nullcontext

from tests.rig.load import Load
from tests.rig.recovery import figures, kill, recovery
from tests.rig.tree import SERVICES, running_tree


def main(rounds: int = 20) -> None:
    """Prints a row for each service, twice."""
    with running_tree() as tree:
        for name, load in (("idle", nullcontext()), ("under load", Load(tree))):
            took: dict[str, list[float]] = {service: [] for service in SERVICES}
            with load:
                for _ in range(rounds):
                    for service in SERVICES:
                        took[service].append(recovery(tree, service, tree.worker_pid(service), kill))
            for service, seconds in took.items():
                sys.stdout.write(f"{name:<11} {service:<11} {figures(seconds)}\n")
            if isinstance(load, Load):
                sys.stdout.write(f"{load.outcome}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
