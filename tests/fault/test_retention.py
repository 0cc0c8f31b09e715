"""Retention is killed at any moment, between issuing and revoking: what is counted still is what is on record."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from services.ca.storage import MIGRATIONS
from services.database import Database
from tests.unit.ca.recount import counted, recounted

pytestmark = pytest.mark.fault

ROUNDS = 5


def live_and_die(path: Path, moment: random.Random) -> None:
    """One process that is killed at some moment after deletions have begun."""
    command = [sys.executable, "-m", "tests.fault.retention_process", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "going\n"
            time.sleep(moment.uniform(0.0, 0.1))  # which moment it is is what the test is about
        finally:
            process.kill()


def recover(path: Path) -> None:
    async def reopened() -> None:
        await (await Database.open(path, MIGRATIONS)).close()

    asyncio.run(reopened())


def test_counts_and_record_agree_after_every_kill_and_no_certificate_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "certificates.db"
    moment = random.Random(7)
    deleted = 0
    for _ in range(ROUNDS):
        live_and_die(path, moment)
        recover(path)
        with closing(sqlite3.connect(path)) as connection:
            assert counted(connection) == recounted(connection)
            (issued,) = connection.execute("SELECT sum(certificates) FROM issue_days").fetchone()
            (present,) = connection.execute("SELECT count(*) FROM certificates WHERE state = 'issued'").fetchone()
            (gone, complete_from) = connection.execute("SELECT deleted, complete_from FROM retention").fetchone()
            assert present + gone == issued
            assert gone >= deleted + 30
            assert complete_from > 0
            deleted = gone
