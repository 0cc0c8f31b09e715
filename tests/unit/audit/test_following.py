"""The log continues what was seen of it, or contradicts: what stops issuing, and what lets it go on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from monitoring.metrics import Metrics
from services.ca import ocsp, reconciler_metrics
from services.ca.contradictions import Finding
from services.ca.finding_register import FindingRegister
from services.ca.follower import LogFollower
from services.ca.hold import IssuanceHold
from services.ca.journal import Comparisons
from services.ca.journal import Journal as LogJournal
from services.ca.messages import Findings, ListFindings
from services.ca.positions import SeenLog
from services.ca.reconciler import Reconciler
from services.ca.reconciler_metrics import ReconcilerMetrics
from services.ca.reconciliation import RecordRow
from services.ca.reconciliation_storage import MAX_KEPT, ReconciliationStorage
from services.ca.status_storage import StatusStorage
from services.ca.storage import MIGRATIONS
from services.ca.sweeper import SWEEP_SECONDS, Sweeper
from services.ct.signing import LogSigner
from services.database import Database
from services.errors import PeerGone, Unavailable
from services.rpc_server import Call
from tests.unit.audit.journal import QUIET, Journal, JournalPeer, answer, authorities, issuer_name
from tests.unit.audit.rows import insert
from tests.unit.ca.authorities import NOW

CALL = Call("findings", 2**63, "")


class Log:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    warning = error = info


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
    log: Log
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

    async def findings(self) -> Findings:
        return await self.reconciler.findings(ListFindings(), CALL)

    async def kinds(self) -> list[str]:
        return sorted(one.kind for one in (await self.findings()).findings)

    async def whole_sweep(self) -> None:
        for _ in range(1000):
            await self.sweeper.step(self.seen)
            if self.sweeper.sweep.is_finished:
                return
        raise AssertionError("the sweep does not end")


@asynccontextmanager
async def hosted(directory: Path, journal: Journal, peer: JournalPeer | None = None) -> AsyncIterator[Host]:
    database = await Database.open(directory / "certificates.db", MIGRATIONS)
    peer = peer or JournalPeer(journal)
    storage, hold, log, now = ReconciliationStorage(database), IssuanceHold(), Log(), [NOW + 10]
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
    await follower.start()
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


def _delete(connection: sqlite3.Connection, serial: str) -> None:
    connection.execute("DELETE FROM certificates WHERE serial = ?", (serial,))


def made(count: int) -> Journal:
    journal = Journal()
    for number in range(count):
        journal.issue(f"host{number}.example.test")
    return journal


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def test_the_log_is_followed_as_it_grows_and_nothing_is_found(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            await host.hold.passed()
            await host.record(host.journal.issue("later.example.test"))
            await host.follower.follow()
            found = await host.findings()
            assert (found.count, found.log_position, found.log_size, found.swept_at) == (0, 4, 4, None)
            assert host.peer.calls.count("consistency") == 1

    run(work)


def test_more_entries_than_one_call_gives_are_all_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(70)) as host:
            await host.record(*host.journal.rows[:69])
            await host.follower.follow()
            assert await host.kinds() == ["unrecorded"]
            assert host.seen.position == 70

    run(work)


def test_the_position_outlives_a_restart(tmp_path: Path) -> None:
    journal = made(3)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()

    async def second() -> None:
        async with hosted(tmp_path, journal) as host:
            assert host.seen.position == 3
            await host.follower.follow()
            assert "entries" not in host.peer.calls

    run(first)
    run(second)


def test_an_entry_that_nobody_recorded_is_found_told_once_and_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(2)) as host:
            await host.record(host.journal.rows[0])
            await host.follower.follow()
            await host.follower.follow()
            (found,) = (await host.findings()).findings
            assert (found.kind, found.subject) == ("unrecorded", f"serial {host.journal.rows[1].serial}")
            assert len(found.digests["precertificate"]) == 64
            assert [name for name, _ in host.log.events] == ["finding"]

    run(work)


@pytest.mark.parametrize("change", ["shrank", "forked", "another key", "same size"])
def test_a_log_that_does_not_continue_stops_issuing(tmp_path: Path, change: str) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(5)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            before = list(host.journal.entries)
            if change == "shrank":
                del host.journal.entries[3:]
            elif change == "another key":
                host.peer.signer = LogSigner(ec.generate_private_key(ec.SECP256R1()))
            else:
                host.journal.entries[1] = replace(host.journal.entries[1], timestamp=1)
                if change == "forked":
                    host.journal.issue("more.example.test")
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank" if change == "shrank" else "log_forked"]
            with pytest.raises(Unavailable, match="nothing is issued"):
                await host.hold.passed()
            # It was put back as it was: what was seen is continued again.
            host.journal.entries[:] = before
            host.peer.signer = JournalPeer(host.journal).signer
            await host.follower.follow()
            await host.hold.passed()
            assert await host.kinds() == []

    run(work)


def test_a_head_that_the_log_did_not_sign_stops_issuing(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(2)) as host:
            key = host.peer.signer.verifier
            host.peer.signer = LogSigner(ec.generate_private_key(ec.SECP256R1()))
            host.peer.signer.verifier = key
            await host.follower.follow()
            assert await host.kinds() == ["log_forked"]
            assert host.hold.reason is not None

    run(work)


def test_entries_that_do_not_lead_to_the_signed_root_stop_issuing(tmp_path: Path) -> None:
    class Lying(JournalPeer):
        def _entries(self, request: Any) -> Any:
            reply = super()._entries(request)
            return type(reply)(start=reply.start, entries=[reply.entries[0]] * len(reply.entries))

    async def work() -> None:
        journal = made(2)
        async with hosted(tmp_path, journal, Lying(journal)) as host:
            await host.follower.follow()
            assert await host.kinds() == ["log_forked"]

    run(work)


def test_entries_that_cannot_be_read_damage_the_log(tmp_path: Path) -> None:
    class Garbled(JournalPeer):
        def _entries(self, request: Any) -> Any:
            reply = super()._entries(request)
            return type(reply)(start=reply.start, entries=[type(reply.entries[0])(leaf_input=b"x", extra_data=b"")])

    class Empty(JournalPeer):
        def _entries(self, request: Any) -> Any:
            return type(super()._entries(request))(start=request.start, entries=[])

    async def work() -> None:
        for number, kind in enumerate((Garbled, Empty)):
            journal = made(1)
            async with hosted(tmp_path / str(number), journal, kind(journal)) as host:
                await host.follower.follow()
                assert await host.kinds() == ["log_damaged"]

    run(work)


def test_the_operator_can_accept_the_log_as_it_is(tmp_path: Path) -> None:
    journal = made(4)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            del journal.entries[2:]
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank"]

    async def second() -> None:
        async with hosted(tmp_path, journal) as host:
            host.consent.touch()
            await host.reconciler.start(host.consent, NOW)
            assert not host.consent.exists()
            await host.hold.passed()
            assert host.seen.tree_size == 2

    run(first)
    run(second)


def test_until_the_log_was_compared_whoever_wants_to_issue_waits_and_is_told_why(monkeypatch: Any) -> None:
    async def work() -> None:
        hold = IssuanceHold()
        waiting = asyncio.ensure_future(hold.passed())
        await asyncio.sleep(0)
        assert not waiting.done()
        hold.release()
        await waiting
        monkeypatch.setattr("services.ca.hold.PATIENCE_SECONDS", 0.0)
        with pytest.raises(Unavailable, match="does not answer"):
            await IssuanceHold().passed()

    run(work)


def test_a_log_that_cannot_be_asked_stops_nothing_and_is_told_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciler.ROUND_SECONDS", 0.0)

    async def work() -> None:
        async with hosted(tmp_path, made(1)) as host:
            await host.follower.follow()
            host.peer.trouble = PeerGone("it died")
            await host.reconciler.start(host.consent, NOW)
            for _ in range(100):
                await asyncio.sleep(0)
            assert host.peer.calls.count("log") > 5
            assert host.hold.reason is None
            told = [name for name, _ in host.log.events if name == "record and log cannot be compared now"]
            assert len(told) == 1

    run(work)


# -- sweeping


def test_a_sweep_finds_nothing_where_nothing_is_and_asks_for_answers(tmp_path: Path) -> None:
    async def work() -> None:
        journal = made(40)
        journal.issue("quiet.example.test", logged=False)
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            await host.whole_sweep()
            found = await host.findings()
            assert (found.count, found.swept_at) == (0, NOW + 10)
            assert len(host.asked) == 3  # one for each slice of the log

    run(work)


def test_a_sweep_finds_what_was_changed_after_it_was_followed_and_closes_it_when_it_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            serial = host.journal.rows[1].serial
            await host.database.write(lambda connection: _delete(connection, serial))
            await host.whole_sweep()
            assert await host.kinds() == ["unrecorded"]
            await host.record(host.journal.rows[1])
            host.now[0] += SWEEP_SECONDS
            await host.whole_sweep()
            assert await host.kinds() == []
            assert (await host.findings()).swept_at == host.now[0]

    run(work)


def test_a_sweep_verifies_signatures_and_rows_without_an_entry(tmp_path: Path) -> None:
    async def work() -> None:
        journal = made(2)
        async with hosted(tmp_path, journal) as host:
            row, certificate = journal.rows[0], journal.rows[0].certificate
            assert certificate is not None
            forged = replace(row, certificate=certificate[:-1] + bytes((certificate[-1] ^ 1,)))
            unlogged = replace(journal.rows[1], leaf_index=None, sct=None, precertificate=None)
            await host.record(forged, unlogged)
            await host.follower.follow()
            await host.whole_sweep()
            assert await host.kinds() == ["signature_invalid", "unlogged"]

    run(work)


def test_a_sweep_finds_certificates_whose_places_the_log_lost(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(40)) as host:
            await host.record(*host.journal.rows)
            del host.journal.entries[20:]  # the operator accepted it: nothing else was seen of this log
            await host.follower.follow()
            await host.whole_sweep()
            assert await host.kinds() == ["unlogged"] * 20

    run(work)


def test_what_was_issued_during_a_sweep_is_no_finding(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            await host.record(host.journal.issue("during.example.test"))
            await host.whole_sweep()
            assert await host.kinds() == []

    run(work)


def test_a_sweep_goes_on_after_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.sweeper.KEPT_EVERY", 1)
    journal = made(40)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            await host.sweeper.step(host.seen)

    async def second() -> None:
        async with hosted(tmp_path, journal) as host:
            assert host.sweeper.sweep.leaf == 16

    run(first)
    run(second)


def test_no_more_findings_are_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation_storage.MAX_KEPT", 3)
    assert MAX_KEPT == 10_000

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            many = [Finding("unrecorded", f"serial {number:02x}", "a text") for number in range(5)]
            assert len(await host.storage.found(many, NOW)) == 3
            assert await host.storage.found(many, NOW) == []
            assert (await host.findings()).count == 3

    run(work)
