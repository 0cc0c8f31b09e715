"""A reconciler over a journal in memory and a record on the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.metrics import Metrics
from services.ca.issuance.hold import IssuanceHold
from services.ca.reconciliation import metrics as reconciler_metrics
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.follower import LogFollower
from services.ca.reconciliation.journal import Comparisons
from services.ca.reconciliation.journal import Journal as LogJournal
from services.ca.reconciliation.messages import AcceptFindings, FindingKind, Findings, FindingState, ListFindings
from services.ca.reconciliation.metrics import ReconcilerMetrics
from services.ca.reconciliation.positions import SeenLog
from services.ca.reconciliation.reconciler import Reconciler
from services.ca.reconciliation.reconciliation import RecordRow
from services.ca.reconciliation.storage import ReconciliationStorage
from services.ca.reconciliation.sweeper import Sweeper
from services.ca.status import ocsp
from services.ca.status.storage import StatusStorage
from services.ca.storage import MIGRATIONS
from services.database import Database
from services.rpc_server import Call
from tests.rig.event_log import EventLog
from tests.unit.audit.journal import QUIET, Journal, JournalPeer, answer, authorities, issuer_name
from tests.unit.audit.rows import insert
from tests.unit.ca.authorities import NOW

CALL = Call("findings", 2**63, "")


@dataclass
class Host:
    """A reconciler over a journal and a database in a directory."""

    database: Database
    journal: Journal
    peer: JournalPeer
    follower: LogFollower
    sweeper: Sweeper
    reconciler: Reconciler
    storage: ReconciliationStorage
    hold: IssuanceHold
    log: EventLog
    consent: Path
    now: list[int]
    metrics: Metrics
    asked: list[bytes]

    async def record(self, *rows: RecordRow) -> None:
        """Put rows on record as issuance leaves them."""
        await self.database.write(lambda connection: insert(connection, rows))

    @property
    def seen(self) -> SeenLog:
        assert self.follower.seen is not None
        return self.follower.seen

    async def findings(self, state: FindingState = "open") -> Findings:
        return await self.reconciler.findings(ListFindings(state=state), CALL)

    async def kinds(self, state: FindingState = "open") -> list[str]:
        return sorted(one.kind for one in (await self.findings(state)).findings)

    async def accept(self, kind: FindingKind, subject: str | None = None, count: int = 1) -> int:
        """Raises Refusal."""
        why = {"reason": "a known loss", "requester": "an operator"}
        request = AcceptFindings(kind=kind, subject=subject, count=count, **why)
        return (await self.reconciler.accept_findings(request, CALL)).count

    async def whole_sweep(self) -> None:
        for _ in range(1000):
            await self.sweeper.step(self.seen)
            if self.sweeper.sweep.is_finished:
                return
        raise AssertionError("the sweep does not end")


@asynccontextmanager
async def hosted(
    directory: Path, journal: Journal, peer: JournalPeer | None = None, *, started: bool = True
) -> AsyncIterator[Host]:
    database = await Database.open(directory / "certificates.db", MIGRATIONS)
    peer = peer or JournalPeer(journal)
    storage, hold, log, now = ReconciliationStorage(database), IssuanceHold(), EventLog(), [NOW + 10]
    registered = Metrics.in_memory(reconciler_metrics.FAMILIES)
    metrics = ReconcilerMetrics(registered)
    asked: list[bytes] = []
    status = StatusStorage(database)

    async def ask(request: bytes) -> bytes:
        asked.append(request)
        serial = f"{ocsp.parse(request).serial:032x}"
        return answer(serial, status.status([issuer_name()], serial), now=now[0])

    register = FindingRegister(storage, metrics, log, lambda: now[0])
    read = LogJournal(peer)
    comparisons = Comparisons(read, storage, authorities, [QUIET])
    follower = LogFollower(storage, read, comparisons, register, hold, metrics, log)
    sweeper = Sweeper(storage, status, read, comparisons, register, ask, lambda: now[0])
    reconciler = Reconciler(storage, follower, sweeper, register, hold, metrics, log)
    if started:
        follower.start()
        await sweeper.start()
        await register.show()
    host = Host(
        database, journal, peer, follower, sweeper, reconciler, storage, hold, log, directory / "accept-log", now,
        registered, asked,
    )  # fmt: skip
    try:
        yield host
    finally:
        await reconciler.close()
        await database.close()


def delete(connection: sqlite3.Connection, serial: str) -> None:
    connection.execute("DELETE FROM certificates WHERE serial = ?", (serial,))


def made(count: int) -> Journal:
    journal = Journal()
    for number in range(count):
        journal.issue(f"host{number}.example.test")
    return journal


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())
