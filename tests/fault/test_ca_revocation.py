"""The certificate authority is killed at each step of a revocation; its promises hold afterwards.

An acknowledged revocation is on record, on the published list and in OCSP answers; nothing that a published list says
is ever taken back, also when the database is restored from a backup; the numbers of lists only go forward.
"""

import asyncio
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from services.ca.messages import Certificate, CertificatePage, IssueRequest, ListCertificates
from services.ca.serials import serial_text
from services.ca.status import crl, ocsp
from services.ca.status.messages import CrlDocument, GetCrl, OcspAnswer, OcspQuery, Revoke, Revoked
from services.errors import RemoteError
from services.rpc_client import Client
from tests.fault.status_process import STEPS
from tests.unit.ca.applicants import dns, pem, request

pytestmark = pytest.mark.fault

CSR = pem(request(dns("host.example")))
UNLOGGED = """
description = "Servers whose certificates are not logged: no log runs here."
extended_key_usages = ["serverAuth"]
transparency = false
"""
PARTITIONS = 8
CLIENTS = 4


@dataclass
class Revoking:
    """Processes of one authority, one after the other, and what it acknowledged."""

    directory: Path
    listener: socket.socket
    issued: list[Certificate] = field(default_factory=list)
    acknowledged: list[Revoked] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data" / "ca"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def start(self, step: str = "never", count: int = 0) -> None:
        profiles = self.data / "profiles"
        profiles.mkdir(parents=True, exist_ok=True)
        (profiles / "unlogged.toml").write_text(UNLOGGED)
        descriptor = self.listener.fileno()
        arguments = [str(self.directory), str(descriptor), step, str(count)]
        command = [sys.executable, "-m", "tests.fault.status_process", *arguments]
        self._process = subprocess.Popen(command, pass_fds=[descriptor])

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) == 0

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def issue(self, count: int) -> None:
        client = Client(self.directory / "ca.sock")
        asked = IssueRequest(csr=CSR, profile="unlogged", requester="a client")
        calls = (client.call("issue", asked, Certificate, timeout=20.0) for _ in range(count))
        self.issued += await asyncio.gather(*calls)
        await client.close()

    async def revoke(self, serials: list[str]) -> None:
        """Ask by CLIENTS clients, each for one after the other, until the authority dies."""
        client = Client(self.directory / "ca.sock")

        async def one(share: list[str]) -> None:
            with suppress(RemoteError):
                for serial in share:
                    wanted = Revoke(serial=serial, reason="keyCompromise", requester="a client")
                    self.acknowledged.append(await client.call("revoke", wanted, Revoked, timeout=20.0))
                    self.answering.set()

        await asyncio.gather(*(one(serials[number::CLIENTS]) for number in range(CLIENTS)))
        await client.close()

    async def revoke_and_be_killed(self, serials: list[str], delay: float) -> None:
        """SIGKILL `delay` seconds after the first revocation was acknowledged."""
        self.answering = asyncio.Event()  # one belongs to the event loop it was first waited for in
        asking = asyncio.ensure_future(self.revoke(serials))
        await self.answering.wait()
        await asyncio.sleep(delay)
        self.process.kill()
        await asking

    def published(self) -> dict[int, set[int]]:
        """What the files of the lists say, by partition; their numbers may not be below those seen before."""
        issuer = self.issuer()
        found: dict[int, set[int]] = {}
        name = serial_text(issuer.serial_number)
        for partition in range(PARTITIONS):
            path = self.data / "crl" / f"{name}-{partition}.crl"
            published, said = crl.read(path.read_bytes(), issuer)
            assert said == partition
            assert published.number >= self.seen.get(partition, 0), "the number of a list went back"
            self.seen[partition] = published.number
            found[partition] = {entry.serial for entry in crl.entries(published.der)}
        return found

    def issuer(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.issued[0].chain[0].encode("ascii"))

    async def on_record(self, client: Client) -> set[str]:
        """The serial numbers of all pages of what is revoked: a page is bound by its octets too."""
        serials: set[str] = set()
        cursor: str | None = None
        while True:
            asked = ListCertificates(status="revoked", limit=1000, cursor=cursor)
            page = await client.call("list", asked, CertificatePage, timeout=20.0)
            serials |= {certificate.serial for certificate in page.certificates}
            cursor = page.next_cursor
            if cursor is None:
                return serials

    async def check(self) -> None:
        """All promises, as the running authority and its files tell them."""
        client = Client(self.directory / "ca.sock")
        issuer = self.issuer()
        named = ocsp.hashes_of(issuer)[1]
        listed: dict[int, set[int]] = {}
        numbers: dict[int, int] = {}
        for partition in range(PARTITIONS):
            asked = GetCrl(issuer=serial_text(issuer.serial_number), partition=partition)
            found = await client.call("crl", asked, CrlDocument, timeout=20.0)
            crl.read(found.der, issuer)
            listed[partition] = {entry.serial for entry in crl.entries(found.der)}
            numbers[partition] = found.number
        assert listed == self.published(), "what is served is what is published"
        for revoked in self.acknowledged:
            serial = int(revoked.serial, 16)
            (partition,) = (place for place, serials in listed.items() if serial in serials)
            assert revoked.crl_number is None or numbers[partition] >= revoked.crl_number
            query = OcspQuery(request=ocsp.request_for(named, serial))
            answer = await client.call("ocsp", query, OcspAnswer, timeout=20.0)
            status = ocsp.verify(answer.der, ocsp.parse(query.request), issuer, answer.produced_at)
            assert status == "revoked"
        on_record = await self.on_record(client)
        assert {revoked.serial for revoked in self.acknowledged} <= on_record
        assert {serial_text(serial) for serials in listed.values() for serial in serials} >= on_record
        await client.close()


@pytest.fixture
def authority(short_path: Path) -> Iterator[Revoking]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "ca.sock"))
        listener.listen(64)
        made = Revoking(short_path, listener)
        yield made
        made.end()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_promises_hold_after_a_kill_at_each_step_of_a_revocation(authority: Revoking, step: str, count: int) -> None:
    authority.start()
    asyncio.run(authority.issue(12))
    authority.stop()
    authority.published()
    serials = [certificate.serial for certificate in authority.issued]
    authority.start(step, count)
    for serial in serials[:count]:
        asyncio.run(authority.revoke([serial]))
    assert authority.process.wait(30) == -signal.SIGKILL
    assert len(authority.acknowledged) == count - 1, "one after the other, until the death"
    before = {serial for serials in authority.published().values() for serial in serials}

    authority.start()
    asyncio.run(authority.check())
    after = {serial for serials in authority.published().values() for serial in serials}
    assert before <= after, "what was published stays revoked"
    interrupted = int(serials[count - 1], 16)
    assert (interrupted in after) == (step != "before-revoke"), "durable is for ever, told or not"
    asyncio.run(authority.revoke(serials[8:]))
    assert len(authority.acknowledged) == count - 1 + 4
    asyncio.run(authority.check())
    authority.stop()


def test_promises_hold_after_kills_at_any_moment_and_restored_backups(authority: Revoking) -> None:
    """Each round ends with a SIGKILL in the middle of revocations; every other one restores the first database."""
    chance = random.Random(3)
    authority.start()
    asyncio.run(authority.issue(120))
    authority.stop()
    backup = authority.directory / "backup.db"
    shutil.copy(authority.data / "certificates.db", backup)
    left = [certificate.serial for certificate in authority.issued]
    for number in range(6):
        authority.start()
        batch, left = left[:20], left[20:]
        asyncio.run(authority.revoke_and_be_killed(batch, chance.uniform(0.0, 0.06)))
        assert authority.process.wait(30) == -signal.SIGKILL
        told = {int(revoked.serial, 16) for revoked in authority.acknowledged if revoked.crl_number is not None}
        published = {serial for serials in authority.published().values() for serial in serials}
        assert told <= published, "who was told a number can find it"
        if number % 2:
            for name in ("certificates.db", "certificates.db-wal", "certificates.db-shm"):
                (authority.data / name).unlink(missing_ok=True)
            shutil.copy(backup, authority.data / "certificates.db")
        authority.start()
        asyncio.run(authority.check())
        after = {serial for serials in authority.published().values() for serial in serials}
        assert published <= after
        authority.stop()
    assert len(authority.acknowledged) >= 6


def test_a_planned_replacement_loses_no_revocation_and_keeps_none_waiting_for_its_list(authority: Revoking) -> None:
    authority.start()
    asyncio.run(authority.issue(20))

    async def revoked_and_replaced() -> None:
        asking = asyncio.ensure_future(authority.revoke([certificate.serial for certificate in authority.issued]))
        await authority.answering.wait()
        authority.process.terminate()
        assert await asyncio.to_thread(authority.process.wait, 30) == 0
        authority.start()
        await asking

    asyncio.run(revoked_and_replaced())
    asyncio.run(authority.check())  # the successor has begun to answer: only then can it be told to stop
    authority.stop()
    assert len(authority.acknowledged) == 20
    assert all(revoked.crl_number is not None for revoked in authority.acknowledged)
    published = {serial for serials in authority.published().values() for serial in serials}
    assert published == {int(revoked.serial, 16) for revoked in authority.acknowledged}
