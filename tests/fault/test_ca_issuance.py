"""The certificate authority is killed at each step of issuance and of its first start; its promises hold afterwards.

Every acknowledged certificate is on record; nothing was signed that has no serial row; no serial number is used twice.
"""

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from services.ca.issuance import serial_text
from services.ca.messages import Certificate, IssueRequest
from services.errors import RemoteError
from services.rpc_client import Client
from tests.fault.ca_process import STEPS
from tests.unit.ca.applicants import dns, pem, request

pytestmark = pytest.mark.fault

CLIENTS = 8
CSR = pem(request(dns("host.example")))


@dataclass
class Authority:
    """Processes of one authority, one after the other, on one socket that outlives them."""

    directory: Path
    listener: socket.socket
    acknowledged: list[Certificate] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, step: str = "never", count: int = 0) -> None:
        descriptor = self.listener.fileno()
        arguments = ["serve", str(self.directory), str(descriptor), step, str(count)]
        command = [sys.executable, "-m", "tests.fault.ca_process", *arguments]
        self._process = subprocess.Popen(command, pass_fds=[descriptor])

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def wait(self) -> int:
        return self.process.wait(30)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def ask(self, rounds: int, reached: tuple[int, asyncio.Event] | None = None) -> None:
        """Each client asks for `rounds` certificates, one after the other, and gives up when the authority dies.

        `reached`: an event to be set when that many certificates have been acknowledged.
        """
        client = Client(self.directory / "ca.sock")

        async def one(number: int) -> None:
            asked = IssueRequest(csr=CSR, requester=f"client {number}")
            with suppress(RemoteError):
                for _ in range(rounds):
                    self.acknowledged.append(await client.call("issue", asked, Certificate, timeout=20.0))
                    if reached is not None and len(self.acknowledged) >= reached[0]:
                        reached[1].set()

        await asyncio.gather(*(one(number) for number in range(CLIENTS)))
        await client.close()

    def rows(self) -> dict[str, tuple[str, bytes | None]]:
        """What is on record for clients, read from the file alone: serial number to state and certificate."""
        path = self.directory / "data" / "ca" / "certificates.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute(
                "SELECT serial, state, certificate FROM certificates WHERE profile <> 'ocsp-responder'"
            ).fetchall()
        assert len({serial for serial, _, _ in rows}) == len(rows)
        return {serial: (state, certificate) for serial, state, certificate in rows}

    def check(self) -> dict[str, tuple[str, bytes | None]]:
        """All three promises. Returns what is on record."""
        rows = self.rows()
        signed = (self.directory / "signed").read_text().splitlines()
        assert set(signed) <= rows.keys(), "signed without a serial row"
        assert len(set(signed)) == len(signed), "a serial number was signed twice"
        assert len({certificate.serial for certificate in self.acknowledged}) == len(self.acknowledged)
        for acknowledged in self.acknowledged:
            given = x509.load_pem_x509_certificate(acknowledged.certificate.encode())
            state, stored = rows[acknowledged.serial]
            assert state == "issued"
            assert stored is not None
            assert x509.load_der_x509_certificate(stored) == given, "what is on record is what was given"
        for serial, (state, stored) in rows.items():
            assert (state == "issued") == (stored is not None)
            if stored is not None:
                assert serial_text(x509.load_der_x509_certificate(stored).serial_number) == serial
        return rows


@pytest.fixture
def authority(short_path: Path) -> Iterator[Authority]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "ca.sock"))
        listener.listen(64)
        made = Authority(short_path, listener)
        yield made
        made.end()


def states(rows: dict[str, tuple[str, bytes | None]]) -> tuple[int, int]:
    """How many are reserved, and how many issued."""
    found = [state for state, _ in rows.values()]
    return found.count("reserved"), found.count("issued")


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("step", STEPS)
def test_promises_hold_after_a_kill_at_each_step_of_issuance(authority: Authority, step: str, count: int) -> None:
    authority.start(step, count)
    asyncio.run(authority.ask(rounds=100))
    assert authority.wait() == -signal.SIGKILL
    reserved, issued = states(authority.check())
    acknowledged = len(authority.acknowledged)
    assert issued - acknowledged + reserved <= CLIENTS, "only what was in flight may be unacknowledged"
    if count == 1:
        assert acknowledged == 0
        assert (reserved + issued == 0) == (step == "before-reserve")
        assert (issued > 0) == (step == "after-store")
    else:
        assert acknowledged > 0

    authority.start()
    asyncio.run(authority.ask(rounds=2))
    authority.process.send_signal(signal.SIGTERM)
    assert authority.wait() == 0
    assert len(authority.acknowledged) == acknowledged + 2 * CLIENTS, "the next process issues at once"
    reserved_after, issued_after = states(authority.check())
    assert reserved_after == reserved, "a serial number that was reserved is never filled in later"
    assert issued_after == issued + 2 * CLIENTS


def test_promises_hold_after_kills_at_any_moment(authority: Authority) -> None:
    chance = random.Random(20)

    async def asked_and_killed() -> None:
        answering = asyncio.Event()
        reached = (len(authority.acknowledged) + 1, answering)
        asking = asyncio.ensure_future(authority.ask(rounds=10_000, reached=reached))
        await answering.wait()
        await asyncio.sleep(chance.uniform(0.0, 0.15))
        authority.process.kill()
        await asking

    for _ in range(6):
        authority.start()
        asyncio.run(asked_and_killed())
        assert authority.wait() == -signal.SIGKILL
        authority.check()
    assert len(authority.acknowledged) > 6


def test_a_stop_finishes_what_was_asked(authority: Authority) -> None:
    """SIGTERM while clients ask: what was begun is acknowledged, nothing stays reserved."""

    async def asked_and_stopped() -> None:
        busy = asyncio.Event()
        asking = asyncio.ensure_future(authority.ask(rounds=10_000, reached=(50, busy)))
        await busy.wait()
        authority.process.terminate()
        await asyncio.to_thread(authority.process.wait, 30)
        authority.listener.close()  # the clients would wait for a successor
        os.unlink(authority.directory / "ca.sock")
        await asking

    authority.start()
    asyncio.run(asked_and_stopped())
    assert authority.wait() == 0
    reserved, issued = states(authority.check())
    assert (reserved, issued) == (0, len(authority.acknowledged))


def test_a_kill_at_each_file_step_of_the_first_start_leaves_nothing_or_a_whole_hierarchy(short_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fault.ca_process", "starts", str(short_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("done ")
    assert int(lines[-1].removeprefix("done ")) >= 20, "the kills did not reach the file steps"
    assert {line.partition(" ")[2] for line in lines[:-1]} == {"began anew", "kept"}
