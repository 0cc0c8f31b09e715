"""Evidence as the authority composes it: whole and true, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.audit.verification import passed, verify
from services.ca.evidence import evidence
from services.ca.evidence.composer import EvidenceComposer, Sealer
from services.ca.evidence.messages import GetEvidence
from services.ca.messages import Refusal
from services.ca.status import ocsp
from services.ca.status.messages import OcspAnswer, OcspQuery
from services.ca.status.ocsp import Status
from services.ca.storage import MIGRATIONS, Storage
from services.database import Database
from services.errors import PeerGone, Refused, Unavailable
from services.rpc_server import Call
from tests.unit.audit.journal import Journal, JournalPeer, anchors, answer, issuer, issuer_name, root
from tests.unit.audit.rows import insert
from tests.unit.ca.authorities import NOW

CALL = Call("evidence", 2**63, "")


@dataclass
class Host:
    """A composer over a journal, whose certificates are on record."""

    journal: Journal
    peer: JournalPeer
    composer: EvidenceComposer
    signs_answers: bool = True
    names: list[str] = field(default_factory=lambda: [issuer_name()])

    async def compose(self, serial: str) -> bytes:
        return evidence.encode(await self.composer.evidence(GetEvidence(serial=serial), CALL))


@asynccontextmanager
async def hosted(directory: Path) -> AsyncIterator[Host]:
    journal = Journal()
    for number in range(3):
        journal.issue(f"host{number}.example.test")
    journal.issue("quiet.example.test", logged=False)
    database = await Database.open(directory / "certificates.db", MIGRATIONS)

    def put(connection: sqlite3.Connection) -> None:
        insert(connection, journal.rows)

    await database.write(put)

    async def status(query: OcspQuery, _call: Call) -> OcspAnswer:
        if not host.signs_answers:
            return OcspAnswer(der=ocsp.failure("try_later"), this_update=0, next_update=0, produced_at=0)
        der = answer(f"{ocsp.parse(query.request).serial:032x}", Status("good"))
        return OcspAnswer(der=der, this_update=NOW, next_update=NOW + 3600, produced_at=NOW)

    def sealer(name: str) -> Sealer | None:
        return Sealer(issuer().private_key, (*issuer().chain, root())) if name in host.names else None

    peer = JournalPeer(journal)
    composer = EvidenceComposer(
        storage=Storage(database),
        sealer=sealer,
        peer=peer,
        answer=status,
        counting_refusals=_uncounted,
        now=lambda: NOW + 1,
    )
    host = Host(journal, peer, composer)
    try:
        yield host
    finally:
        await database.close()


@contextmanager
def _uncounted() -> Iterator[None]:
    yield


def run(work: Callable[[Host], Coroutine[Any, Any, None]], directory: Path) -> None:
    async def whole() -> None:
        async with hosted(directory) as host:
            await work(host)

    asyncio.run(whole())


def test_what_is_composed_verifies_for_logged_certificates_and_for_others(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        for row in host.journal.rows:
            assert passed(verify(await host.compose(row.serial), anchors(), NOW + 2)), row.serial

    run(work, tmp_path)


def test_serial_numbers_are_understood_as_programs_print_them(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        serial = host.journal.rows[0].serial
        assert await host.compose(serial.upper())
        for text, kind in (("zz", "malformed"), ("0123", "not-found")):
            with pytest.raises(Refusal) as refused:
                await host.compose(text)
            assert refused.value.kind == kind

    run(work, tmp_path)


def test_evidence_with_a_hole_is_not_given(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        serial = host.journal.rows[0].serial
        host.peer.trouble = PeerGone("the log died")
        with pytest.raises(Unavailable, match="log cannot be asked"):
            await host.compose(serial)
        host.peer.trouble = None
        host.signs_answers = False
        with pytest.raises(Unavailable, match="OCSP"):
            await host.compose(serial)
        host.signs_answers = True
        host.names.clear()
        with pytest.raises(Unavailable, match="not here"):
            await host.compose(serial)

    run(work, tmp_path)


def test_of_a_log_without_the_entry_no_evidence_can_be_had_and_the_audit_is_named(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        host.peer.trouble = Refused("out-of-range", "leaf_index", "there is no such entry")
        with pytest.raises(Unavailable, match="trustchain audit"):
            await host.compose(host.journal.rows[0].serial)

    run(work, tmp_path)


def test_of_a_log_that_answers_nonsense_or_has_another_key_no_evidence_can_be_had(tmp_path: Path) -> None:
    async def work(host: Host) -> None:
        host.peer.note = b"no checkpoint"
        with pytest.raises(Unavailable, match=r"proves nothing.*trustchain audit"):
            await host.compose(host.journal.rows[0].serial)

    run(work, tmp_path)
