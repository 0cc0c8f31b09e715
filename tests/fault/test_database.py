"""What the database has promised is there, whatever happens to its process and its disk."""

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.database_file import check_whole, open_reader
from tests.fault.database_writer import numbers
from tests.rig.peers import missing, require_namespaces, require_peer

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]
WRITER = [sys.executable, "-m", "tests.fault.database_writer"]


def ran(command: list[str], within: float = 60.0) -> list[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def stored_in(path: Path) -> set[int]:
    reader = open_reader(path)
    try:
        check_whole(reader, path)
        return set(numbers(reader))
    finally:
        reader.close()


def test_after_each_of_ten_kills_every_acknowledged_write_is_there(tmp_path: Path) -> None:
    """The kills fall at any moment of the commits of sixteen writers, also into the recovery from the kill before."""
    path = tmp_path / "x.db"
    acknowledged: set[int] = set()
    for round_ in range(10):
        process = subprocess.Popen([*WRITER, "numbers", str(path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as lines:
            before = len(acknowledged)
            while len(acknowledged) < before + random.Random(round_).randrange(1, 400):
                acknowledged.add(int(next(lines)))
            time.sleep(random.Random(round_).random() * 0.02)
            process.kill()
            acknowledged.update(int(line) for line in lines)
        process.wait()
        assert acknowledged <= stored_in(path)
    assert len(acknowledged) > 500


def test_no_write_is_acknowledged_before_its_fsync(tmp_path: Path) -> None:
    """Seen from outside: between one acknowledgement and the next, the log was synced and the sync succeeded."""
    trace = tmp_path / "trace"
    strace = _strace(trace, "fdatasync,fsync,write")
    lines = ran([*strace, *WRITER, "one-by-one", str(tmp_path / "x.db"), "50"])
    assert lines == [f"stored {number}" for number in range(1, 51)]
    synced = 0
    acknowledged = 0
    for line in trace.read_text().splitlines():
        if re.search(r"f(data)?sync.*= 0", line):
            synced += 1
        elif re.search(r'write\(1, "stored \d+', line):
            assert synced > 0, line
            synced = 0
            acknowledged += 1
    assert acknowledged == 50


def test_a_failed_fsync_acknowledges_nothing_and_the_next_good_one_does(tmp_path: Path) -> None:
    strace = _strace(tmp_path / "trace", "fdatasync", "inject=fdatasync:error=EIO:when=20..29")
    outcomes = ran([*strace, *WRITER, "one-by-one", str(tmp_path / "x.db"), "60"])
    failed = {int(line.split()[1]) for line in outcomes if line.startswith("failed")}
    stored = {int(line.split()[1]) for line in outcomes if line.startswith("stored")}
    assert 1 <= len(failed) <= 10
    assert stored | failed == set(range(1, 61))
    assert max(stored) == 60
    assert stored_in(tmp_path / "x.db") == stored


@pytest.mark.needs_root
def test_a_full_disk_is_told_loses_nothing_and_is_recovered_from(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = require_namespaces("--mount")
    script = 'mount -t tmpfs -o size=3m,mode=0700 tmpfs "$0" && exec "$@"'
    assert ran([*unshare, "sh", "-c", script, str(disk), *WRITER, "full-disk", str(disk)]) == [
        "full",
        "read while full",
        "probe tells",
        "recovered without reopening",
        "opening tells",
        "all kept",
        "creating tells",
        "created after all",
    ]


def _strace(trace: Path, calls: str, *expressions: str) -> list[str]:
    command = [require_peer("strace"), "-f", "-o", str(trace), "-e", f"trace={calls}"]
    for expression in expressions:
        command += ["-e", expression]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        missing("strace may not trace here")
    return command
