"""README's two set-up commands, exactly as printed there, on a Debian 12 with python3, python3-venv and git alone.

The machine runs the whole test suite too. What needs a program from Debian skips there by name, and with it everything
that would make a further machine, so the suite does not run itself without end.
"""

import faulthandler
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig.machine import FRESH, CommandMachine, debian, snapshot_of_repository
from tests.rig.peers import missing, peers_are_required
from tests.rig.polling import eventually
from tests.rig.ports import is_free
from tests.rig.readme import set_up
from tests.rig.tree import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.needs_root]

_SOURCE = "/src/trustchain"
_CLONE = "/root/trustchain"
_DEFAULT_PORTS = (9090, 8443, 8080)
_INSTALL_WITHIN = 600.0
_TESTS_WITHIN = 1800.0
_CLOSING_LINE = re.compile(r"^=+ (\d+ passed.*) =+$", re.MULTILINE)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandMachine]:
    """A fresh machine with a clone of this repository in /root/trustchain."""
    source = tmp_path_factory.mktemp("source") / "repository"
    with debian(FRESH) as root:
        snapshot_of_repository(REPOSITORY, source)
        machine = CommandMachine(root, {source: _SOURCE})
        log = root.with_name("clone.log")
        cloned = machine.run(f"git clone --quiet {_SOURCE} {_CLONE}", "/root", log, 60)
        assert cloned == 0, log.read_text()
        yield machine


def test_the_first_command_installs_and_starts_a_healthy_tree(machine: CommandMachine, tmp_path: Path) -> None:
    """The network is the host's, and README's command uses the default ports: they must be free here."""
    for port in _DEFAULT_PORTS:
        if not is_free(port):
            missing(f"port {port}, which README's command uses, is taken on this machine")
    log = tmp_path / "start.log"
    process = machine.start(set_up(REPOSITORY / "README.md").start, _CLONE, log)
    try:
        eventually(
            "/health answers 200 after README's first command",
            lambda: process.poll() is not None or _health() == 200,
            within=_INSTALL_WITHIN,
            every=0.5,
        )
        assert process.poll() is None, f"the command ended with {process.returncode}\n{log.read_text()[-4000:]}"
        machine.interrupt(process)
        assert process.wait(30) == 0, log.read_text()[-4000:]
    finally:
        machine.stop(process)


@pytest.mark.skipif(not peers_are_required(), reason="runs every test a second time: with TRUSTCHAIN_REQUIRE_PEERS=1")
def test_the_second_command_passes_the_tests(
    machine: CommandMachine, tmp_path: Path, told_at_the_end: Callable[[str], None]
) -> None:
    # This takes minutes in any case: no sign that something hangs.
    faulthandler.cancel_dump_traceback_later()
    log = tmp_path / "tests.log"
    began = time.monotonic()
    code = machine.run(set_up(REPOSITORY / "README.md").test, _CLONE, log, _TESTS_WITHIN)
    told = log.read_text(errors="replace")[-12_000:]
    assert code == 0, f"exit code {code} after {time.monotonic() - began:.0f} s\n{told}"
    closing = _CLOSING_LINE.search(told)
    assert closing is not None, told
    told_at_the_end(f"README's second command on a fresh machine: {closing[1]}")


def _health() -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{_DEFAULT_PORTS[0]}/health", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code
