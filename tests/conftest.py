"""Fixtures that more than one folder of tests needs. What they are made of is in tests/rig."""

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.rig import peers, ports
from tests.rig.tree import Tree, remove_directory, running_tree, short_directory

# A run says whether the code is right, not whether it had luck: the same code always meets the same examples. Searching
# for new ones is for those who then have the time to mend: HYPOTHESIS_PROFILE=search.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_LOG_TAIL = 6000
_report_key = pytest.StashKey[pytest.TestReport]()
_told_key = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps the outcome of the test's body, so that a fixture can tell more when it failed."""
    report = yield
    if report.when == "call":
        item.stash[_report_key] = report
    return report


@pytest.fixture
def told_at_the_end(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`told_at_the_end(text)`: a line for the summary of the run, for figures that a test found."""
    lines = request.config.stash.setdefault(_told_key, [])
    return lines.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints what tests told."""
    lines = config.stash.get(_told_key, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def require_peer() -> Callable[[str], str]:
    """`require_peer("openssl")`: its path. Missing: skips, or fails under TRUSTCHAIN_REQUIRE_PEERS=1."""
    return peers.require_peer


@pytest.fixture
def free_port() -> Callable[[], int]:
    """`free_port()`: a TCP and UDP port that nothing on the loopback addresses uses."""
    return ports.free_port


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A new directory short enough for Unix sockets, removed afterwards."""
    directory = short_directory()
    yield directory
    remove_directory(directory)


@pytest.fixture
def new_tree(short_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tree]]:
    """`new_tree(**fields)`: a tree, not started yet. Afterwards it is stopped and must have left no process."""
    made: list[Tree] = []

    def make(data_dir: Path | None = None, **fields: Any) -> Tree:
        tree = Tree(data_dir or short_path / f"d{len(made)}", **fields)
        made.append(tree)
        return tree

    yield make
    for tree in made:
        with _told_when_failed(request, tree):
            if tree.process is not None and tree.process.poll() is None:
                assert tree.stop() == 0, "a clean stop exits 0"
            tree.assert_gone()


@pytest.fixture
def tree(new_tree: Callable[..., Tree]) -> Tree:
    """A healthy tree with default settings on free ports."""
    started = new_tree()
    started.start_healthy()
    return started


@pytest.fixture(scope="module")
def shared_tree() -> Iterator[Tree]:
    """As `tree`, one for all tests of a file that use it: for those that only add certificates."""
    with running_tree() as started:
        yield started


@contextmanager
def _told_when_failed(request: pytest.FixtureRequest, tree: Tree) -> Iterator[None]:
    """Prints the end of the tree's log when the test or its stop failed; leaves nothing running either way."""
    report = request.node.stash.get(_report_key, None)
    failed = report is None or report.failed
    try:
        yield
    except BaseException:
        failed = True
        raise
    finally:
        tree.destroy()
        if failed:
            sys.stderr.write(f"--- the last of {tree.log_path}\n{tree.log[-_LOG_TAIL:]}\n")
