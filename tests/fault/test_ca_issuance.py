"""The certificate authority is killed at each step of issuance and of its first start; its promises hold afterwards.

Every acknowledged certificate is on record and in the log; nothing was signed or logged that has no serial row; no
serial number is used twice. The log is a fake one with a real key, in a process of its own.
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
from typing import NamedTuple

import msgspec
import pytest
from cryptography import x509

from services.ca.issuance.precertificate import embedded_scts
from services.ca.messages import Certificate, GetRoots, IssueRequest, Roots
from services.ca.serials import serial_text
from services.errors import RemoteError, Unavailable
from services.rpc_client import Client
from tests.fault.ca_process import STEPS
from tests.rig.fake_log import Promise
from tests.unit.ca.applicants import dns, pem, request

pytestmark = pytest.mark.fault

CLIENTS = 8
CSR = pem(request(dns("host.example")))


class Row(NamedTuple):
    """What is on record for one serial number."""

    state: str
    certificate: bytes | None
    sct: bytes | None
    leaf_index: int | None


@dataclass
class Authority:
    """Processes of one authority, one after the other, on one socket that outlives them."""

    directory: Path
    listener: socket.socket
    log_listener: socket.socket
    acknowledged: list[Certificate] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _log: subprocess.Popen[bytes] | None = None

    def start_log(self) -> None:
        descriptor = self.log_listener.fileno()
        command = [sys.executable, "-m", "tests.rig.fake_log", str(descriptor), str(self.directory)]
        self._log = subprocess.Popen(command, pass_fds=[descriptor])

    def kill_log(self) -> None:
        if self._log is not None:
            self._log.kill()
            self._log.wait()
            self._log = None

    def logged(self) -> dict[str, bytes]:
        """What the log has promised: serial number to timestamp."""
        path = self.directory / "promises"
        lines = path.read_bytes().splitlines() if path.exists() else []
        promises = [msgspec.json.decode(line, type=Promise) for line in lines]
        return {
            serial_text(x509.load_der_x509_certificate(entry).serial_number): promise.serialized
            for entry, promise, _ in promises
        }

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
        self.kill_log()

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

    def rows(self) -> dict[str, Row]:
        """What is on record, read from the file alone, by serial number."""
        path = self.directory / "data" / "ca" / "certificates.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute(
                "SELECT serial, state, certificate, sct, leaf_index FROM certificates WHERE profile <> 'ocsp-responder'"
            ).fetchall()
        assert len({serial for serial, *_ in rows}) == len(rows)
        return {serial: Row(*columns) for serial, *columns in rows}

    def check(self) -> dict[str, Row]:
        """All promises. Returns what is on record."""
        rows, logged = self.rows(), self.logged()
        signed = (self.directory / "signed").read_text().splitlines()
        assert {line.split()[0] for line in signed} <= rows.keys(), "signed without a serial row"
        assert len(set(signed)) == len(signed), "a serial number was signed twice"
        assert logged.keys() <= rows.keys(), "logged without a serial row"
        assert len({certificate.serial for certificate in self.acknowledged}) == len(self.acknowledged)
        for acknowledged in self.acknowledged:
            given = x509.load_pem_x509_certificate(acknowledged.certificate.encode())
            row = rows[acknowledged.serial]
            assert row.state == "issued"
            assert row.certificate is not None
            assert x509.load_der_x509_certificate(row.certificate) == given, "what is on record is what was given"
        for serial, row in rows.items():
            assert row.state in {"reserved", "issued"}
            assert (row.state == "issued") == (row.certificate is not None)
            if row.certificate is not None:
                leaf = x509.load_der_x509_certificate(row.certificate)
                assert serial_text(leaf.serial_number) == serial
                assert row.sct == logged[serial], "a timestamp on record that the log did not give"
                assert embedded_scts(leaf.tbs_certificate_bytes) == (row.sct,)
        return rows


@pytest.fixture
def authority(short_path: Path) -> Iterator[Authority]:
    (short_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as log_listener:
        listener.bind(str(short_path / "ca.sock"))
        listener.listen(64)
        log_listener.bind(str(short_path / "run" / "ct.sock"))
        log_listener.listen(64)
        made = Authority(short_path, listener, log_listener)
        made.start_log()
        yield made
        made.end()


def states(rows: dict[str, Row]) -> tuple[int, int]:
    """How many are reserved, and how many issued."""
    found = [row.state for row in rows.values()]
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
        logged = step in {"after-log", "after-certificate", "after-store"}
        assert bool(authority.logged()) == logged, "what was logged and not stored is found in the log"
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


def test_while_the_log_is_down_nothing_is_lost_and_the_record_does_not_fill(authority: Authority) -> None:
    async def refused() -> list[str]:
        client = Client(authority.directory / "ca.sock")
        kinds = []
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await client.call("issue", IssueRequest(csr=CSR, requester="a client"), Certificate, timeout=20.0)
            kinds.append(caught.value.kind)
        await client.close()
        return kinds

    authority.start()
    asyncio.run(authority.ask(rounds=2))
    authority.kill_log()
    assert asyncio.run(refused()) == ["unavailable"] * 3
    assert states(authority.check())[0] <= 1, "only what was in flight when the log went stays reserved"
    authority.start_log()
    asyncio.run(authority.ask(rounds=2))
    assert len(authority.acknowledged) == 4 * CLIENTS
    authority.check()


def test_an_authority_that_starts_before_its_log_answers_and_issues_when_the_log_is_there(authority: Authority) -> None:
    async def roots() -> int:
        client = Client(authority.directory / "ca.sock")
        found = await client.call("roots", GetRoots(), Roots, timeout=20.0)
        await client.close()
        return len(found.certificates)

    authority.kill_log()
    authority.start()
    assert asyncio.run(roots()) == 1
    authority.start_log()
    asyncio.run(authority.ask(rounds=1))
    assert len(authority.acknowledged) == CLIENTS
    authority.check()


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


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("extended_key_usage = []", "mine.toml:1: extended_key_usage: found an unknown key"),
        (
            'description = "x"\nextended_key_usages = ["serverAuth"]\n[key_usage]\nrsa = ["contentCommitment"]',
            "the profile mine cannot be used for keys of the type rsa: purposes: no key usage is consistent",
        ),
    ],
)
def test_a_profile_that_cannot_be_used_ends_the_start_and_says_why(
    authority: Authority, profile: str, said: str
) -> None:
    profiles = authority.directory / "data" / "ca" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "mine.toml").write_text(profile)
    command = [sys.executable, "-m", "tests.fault.ca_process", "serve", str(authority.directory)]
    descriptor = authority.listener.fileno()
    done = subprocess.run(
        [*command, str(descriptor), "never", "0"],
        pass_fds=[descriptor],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, "in the worker this is exit code 78"
    assert "ConfigurationError: " in done.stderr
    assert said in done.stderr


def test_a_kill_at_each_file_step_of_the_first_start_leaves_nothing_or_a_whole_hierarchy(short_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fault.ca_process", "starts", str(short_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("done ")
    assert int(lines[-1].removeprefix("done ")) >= 20, "the kills did not reach the file steps"
    assert {line.partition(" ")[2] for line in lines[:-1]} == {"began anew", "kept"}
