"""From the command to the first /health 200: the first start, which makes keys and database, and a later one.

.venv/bin/python -m tests.bench.bench_start
"""

import sys

from tests.rig.recovery import figures
from tests.rig.tree import running_tree

_ROUNDS = 5


def main() -> None:
    """Prints two rows."""
    first, later = [], []
    for _ in range(_ROUNDS):
        with running_tree() as tree:
            first.append(tree.started_in)
            tree.stop()
            tree.start_healthy()
            later.append(tree.started_in)
    sys.stdout.write(f"first start to healthy   {figures(first)}\nlater start to healthy   {figures(later)}\n")


if __name__ == "__main__":
    main()
