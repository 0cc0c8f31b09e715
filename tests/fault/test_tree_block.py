"""The metrics block damaged from outside while the tree runs: noticed, rebuilt, and service goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.load import Load
from tests.rig.tree import Tree

pytestmark = pytest.mark.fault


def _overwrite(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.write(os.urandom(segment.stat().st_size))


def _overwrite_header(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.write(bytes(256))


def _truncate(segment: Path) -> None:
    os.truncate(segment, 0)


def _remove(segment: Path) -> None:
    segment.unlink()


@pytest.mark.parametrize("damage", [_overwrite, _overwrite_header, _truncate, _remove])
def test_a_damaged_block_is_rebuilt_and_nothing_acknowledged_is_lost(
    tree: Tree, damage: Callable[[Path], None]
) -> None:
    segment = tree.segment
    size, identity = segment.stat().st_size, segment.stat().st_ino
    with Load(tree) as load:
        damage(segment)
        tree.wait_health(
            lambda status, _: status == 200 and segment.exists() and segment.stat().st_ino != identity,
            "the block is rebuilt and /health answers 200",
            within=30,
        )
    assert segment.stat().st_size == size
    assert load.outcome.refused == 0, load.outcome
    assert not load.outcome.unexpected, load.outcome.unexpected[:5]
    assert not load.outcome.acknowledged - tree.certificates().keys()
    assert "block" in tree.log, "the log tells that the block was damaged"
