"""Programs and abilities of the machine that some tests need.

Rules: a test names what it needs; where that is missing it skips and says the name. Under `TRUSTCHAIN_REQUIRE_PEERS=1`,
which `.ci/run` sets, it fails instead, so that a green run in CI has skipped nothing for want of a program.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

# Debian installs some of these where an unprivileged PATH does not look.
_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def require_peer(program: str) -> str:
    """The path of `program`. Not installed: skips the test, or fails it under TRUSTCHAIN_REQUIRE_PEERS=1."""
    beside_python = Path(sys.executable).with_name(program)
    found = str(beside_python) if beside_python.exists() else shutil.which(program, path=_SEARCH_PATH)
    if found is None:
        missing(f"{program} is not installed")
    return found


def require_root() -> None:
    """Goes on only as root."""
    if os.geteuid() != 0:
        missing("needs root")


def require_namespaces(*kinds: str) -> list[str]:
    """The `unshare` command line for new namespaces of `kinds` ("--mount", "--net"), where this machine allows it."""
    require_root()
    command = [require_peer("unshare"), *kinds]
    if not _works((*command, "true")):
        missing(f"{' '.join(command)} is not permitted")
    return command


def peers_are_required() -> bool:
    """Whether this is a run that may skip nothing, as in CI."""
    return os.environ.get("TRUSTCHAIN_REQUIRE_PEERS") == "1"


def missing(what: str) -> NoReturn:
    """Skips for want of `what`; fails where peers are required."""
    if peers_are_required():
        pytest.fail(f"{what}, and TRUSTCHAIN_REQUIRE_PEERS=1 asks for it", pytrace=False)
    pytest.skip(what)


@cache
def _works(command: tuple[str, ...]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
