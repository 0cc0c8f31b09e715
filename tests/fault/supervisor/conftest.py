"""Trees of toys that leave nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.supervisor.toy_tree import ToyTree


@pytest.fixture
def new_toys(short_path: Path) -> Iterator[Callable[..., ToyTree]]:
    """`new_toys(**ToyTree fields)`: a tree that is not started yet; its log is shown when the test fails."""
    made: list[ToyTree] = []

    def make(**fields: Any) -> ToyTree:
        made.append(ToyTree(fields.pop("data_dir", short_path / f"d{len(made)}"), **fields))
        return made[-1]

    yield make
    for tree in made:
        tree.destroy()
        print(f"--- {tree.log_path}\n{tree.log[-8000:]}")  # noqa: T201 - pytest shows it with a failure


@pytest.fixture
def toys(new_toys: Callable[..., ToyTree]) -> ToyTree:
    """Three toys, ready."""
    tree = new_toys()
    tree.start_ready()
    return tree
