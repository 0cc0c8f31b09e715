"""The counts of the record: read, filled by the migration, and what deleting takes away."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services import database_file
from services.ca import storage
from services.ca.inventory import storage as inventory_storage
from services.ca.inventory.listing import query
from services.ca.inventory.storage import REVOKED_KEPT_SECONDS, Batch, Ending, InventoryStorage
from services.ca.messages import ListCertificates
from services.ca.storage import MIGRATIONS, Storage
from tests.unit.ca.records import NOW, issue, opened, reservation, revoke
from tests.unit.ca.recount import put

DAY = 86_400
BEFORE = MIGRATIONS[: MIGRATIONS.index(inventory_storage.MIGRATION)]
TABLES = ("tallies", "expiry_hours", "issue_days", "retention", "name_sets", "unrenewed", "domains", "names")


def on_record(directory: Path, test: Callable[[Storage, InventoryStorage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(directory) as record:
            await test(record, record.inventory())

    asyncio.run(run())


async def everything(record: Storage) -> list[str]:
    """The serial numbers on record, issued or not."""
    return await record._database.read(
        lambda connection: [
            f"{int(row[0], 16)}" for row in connection.execute("SELECT serial FROM certificates ORDER BY id")
        ]
    )


def contents(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}


def schema(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


def test_an_earlier_record_gets_the_tables_that_it_would_have_had(tmp_path: Path) -> None:
    """The same certificates, written before there was an inventory and after."""
    written = [
        reservation(1, ("host.example", "HOST.example", "*.b.example"), requester="alice", not_after=NOW + 9_000),
        reservation(2, ("10.0.0.1", "2001:db8::1", "Ä@host.example", "https://host.example/a"), issuer="02"),
        reservation(3, ("b.example", "a.example"), profile="tls-client"),
        reservation(4, ("a.example", "b.example"), profile="tls-client", not_after=NOW + 5),
        reservation(5, ("a.example", "b.example"), profile="tls-client", not_after=NOW + 8 * DAY),
        reservation(6, ("x" * 254, "y" * 253)),
    ]
    earlier, later = (sqlite3.connect(tmp_path / name, isolation_level=None) for name in ("earlier", "later"))
    database_file._migrate(earlier, BEFORE)
    database_file._migrate(later, MIGRATIONS)
    revocation = (
        "INSERT INTO revocations (serial, issuer, partition, revoked_at, reason, not_after, requester, trace) "
        f"VALUES ('{5:032x}', '01', 0, 0, 'superseded', 0, '', '')"
    )
    later.execute(revocation)
    for number, reserved in enumerate(written):
        names = {name.lower() for name in reserved.names}
        row = storage._reserve(earlier, reserved)
        earlier.execute(
            "UPDATE certificates SET state = 'issued', certificate = x'00', issued_at = ? WHERE id = ?",
            (NOW - number * DAY, row),
        )
        earlier.executemany("INSERT INTO names VALUES (?, ?)", [(name, row) for name in names])
        put(later, storage._reserve(later, reserved), reserved.names, NOW - number * DAY)
    for connection in (earlier, later):
        storage._reserve(connection, reservation(7))
    earlier.execute(revocation)
    database_file._migrate(earlier, MIGRATIONS)
    assert contents(earlier) == contents(later)
    assert schema(earlier) == schema(later)
    assert {row[0] for row in later.execute("SELECT id FROM unrenewed")} == {1, 2, 3, 6}
    earlier.close()
    later.close()


def test_the_counts_of_a_record(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, reservation(1, requester="alice", not_after=NOW - 1), at=NOW - 40 * DAY)
        await issue(record, reservation(2, ("b.example",), requester="bob", not_after=NOW), at=NOW - 2 * DAY)
        await issue(record, reservation(3, ("c.example",), requester="alice", not_after=NOW + 3_600, issuer="02"))
        await issue(record, reservation(4, ("c.example",), requester="alice", not_after=NOW + 3_601, issuer="02"))
        await revoke(record, 2, 77)
        await record.reserve(reservation(5))
        counts = await inventory.counts(NOW, (3_600, DAY), 10)
        assert (counts.issued, counts.valid, counts.revoked, counts.reserved) == (4, 3, 1, 1)
        assert counts.profiles == (("tls-server", 4),)
        assert counts.requesters == (("alice", 3), ("bob", 1))
        assert sorted(counts.issuers) == [("01", 2), ("02", 2)]
        assert counts.ending == (Ending(3_600, 2, 0), Ending(DAY, 3, 1))
        today = NOW // DAY
        assert counts.days == ((today - 2, 1), (today, 2))
        assert (counts.first_day, counts.deleted, counts.complete_from) == (today - 40, 0, 0)
        assert counts.used > 0
        assert len((await inventory.counts(NOW, (), 1)).requesters) == 1

    on_record(tmp_path, test)


def test_an_empty_record_counts_nothing(tmp_path: Path) -> None:
    async def test(_: Storage, inventory: InventoryStorage) -> None:
        counts = await inventory.counts(NOW, (3_600,), 10)
        assert (counts.issued, counts.valid, counts.revoked, counts.profiles, counts.days) == (0, 0, 0, (), ())
        assert counts.ending == (Ending(3_600, 0, 0),)
        assert counts.first_day == NOW // DAY
        assert await inventory.newest_of("alice") is None
        assert await inventory.delete_expired(NOW, NOW, (0, 0), 5) == Batch(0, None)

    on_record(tmp_path, test)


def test_unrenewed_are_those_of_which_no_other_one_of_the_same_profile_and_names_ends_later(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(
            record,
            reservation(1, ("a.example", "b.example"), not_after=NOW + 10),
            reservation(2, ("B.example", "a.example"), not_after=NOW + 20),
            reservation(3, ("a.example",), not_after=NOW + 5),
            reservation(4, ("a.example", "b.example"), profile="tls-client", not_after=NOW + 15),
        )

        async def unrenewed(limit: int = 9) -> list[int]:
            return [int(leaf.serial, 16) for leaf in await inventory.unrenewed(NOW, NOW + 20, limit)]

        assert await unrenewed() == [3, 4, 2]
        assert await unrenewed(limit=2) == [3, 4]
        assert [leaf.names for leaf in await inventory.unrenewed(NOW + 20, NOW + 20, 1)] == [("B.example", "a.example")]
        await revoke(record, 2)
        assert await unrenewed() == [3, 1, 4]

    on_record(tmp_path, test)


def test_the_newest_certificate_of_a_requester(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, reservation(1, requester="api"), reservation(2, requester="api"), reservation(3))
        await record.reserve(reservation(4, requester="api"))
        newest = await inventory.newest_of("api")
        assert newest is not None
        assert int(newest.serial, 16) == 2

    on_record(tmp_path, test)


def test_deleting_takes_only_what_was_issued_and_ended_before_and_all_that_found_it(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, reservation(1, ("a.example",), not_after=NOW - 2), reservation(2, not_after=NOW - 1))
        await issue(record, reservation(3, ("a.example",), not_after=NOW), reservation(4, not_after=NOW + 1))
        await record.reserve(reservation(5, not_after=NOW - 9))
        await record._database.write(
            lambda connection: connection.execute("UPDATE certificates SET state = 'reserved' WHERE id = 4").rowcount
        )
        await issue(record, reservation(6, not_after=NOW - 7 * DAY))
        assert await inventory.delete_expired(NOW, NOW, (0, 0), 9) == Batch(3, None)
        assert await everything(record) == ["3", "4", "5"]
        for search in ({"name": "a.example"}, {"search": "example"}, {}):
            page = await record.page(query(ListCertificates(**search), NOW), 9)  # type: ignore[arg-type] # by name
            assert [int(issued.serial, 16) for issued in page.certificates] == [3]
        counts = await inventory.counts(NOW, (), 1)
        assert (counts.issued, counts.deleted, counts.complete_from) == (1, 3, NOW)

    on_record(tmp_path, test)


def test_deleting_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, *(reservation(n, not_after=NOW - 9) for n in range(1, 6)))
        await revoke(record, 2, 3)
        first = await inventory.delete_expired(NOW, NOW, (0, 0), 3)
        assert first == Batch(1, (NOW - 9, 3))
        assert first.position is not None
        assert await inventory.delete_expired(NOW, NOW, first.position, 3) == Batch(2, None)
        assert await everything(record) == ["2", "3"]

    on_record(tmp_path, test)


@pytest.mark.parametrize(
    ("ended", "revoked", "kept"),
    [
        (REVOKED_KEPT_SECONDS + 1, REVOKED_KEPT_SECONDS + 1, False),
        (REVOKED_KEPT_SECONDS, REVOKED_KEPT_SECONDS + 1, True),
        (REVOKED_KEPT_SECONDS + 1, REVOKED_KEPT_SECONDS, True),
        (1, 90 * DAY, True),
    ],
)
def test_the_revoked_stay_until_no_list_has_them_any_more(tmp_path: Path, ended: int, revoked: int, kept: bool) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, reservation(1, not_after=NOW - ended))
        await revoke(record, 1, at=NOW - revoked)
        assert (await inventory.delete_expired(NOW, NOW, (0, 0), 9)).deleted == (not kept)

    on_record(tmp_path, test)


def test_a_long_retention_keeps_the_revoked_as_long_as_the_others(tmp_path: Path) -> None:
    async def test(record: Storage, inventory: InventoryStorage) -> None:
        await issue(record, reservation(1, not_after=NOW - 80 * DAY))
        await revoke(record, 1, at=NOW - 70 * DAY)
        assert (await inventory.delete_expired(NOW - 75 * DAY, NOW, (0, 0), 9)).deleted == 0
        assert (await inventory.delete_expired(NOW - 69 * DAY, NOW, (0, 0), 9)).deleted == 1

    on_record(tmp_path, test)


@pytest.mark.parametrize(
    "sql",
    [
        inventory_storage._LARGEST_REQUESTERS.replace("?", "5"),
        "SELECT sum(certificates) FROM expiry_hours WHERE hour >= 5 AND hour < 9",
        "SELECT day FROM issue_days ORDER BY day LIMIT 1",
        *(sql.replace("?", "1") for sql in inventory_storage._COUNT_STRETCH),
        inventory_storage._EXPIRED,
    ],
)
def test_no_count_looks_through_the_record(tmp_path: Path, sql: str) -> None:
    """What is scanned is in the order asked for and ends at the limit; all else is searched."""
    connection = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
    database_file._migrate(connection, MIGRATIONS)
    names = {"revoked_before": 1, "first": 1, "before": 1, "row": 1, "limit": 1}
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", names)]
    connection.close()
    assert plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
    scanned = [step for step in plan if "SCAN" in step]
    assert all(
        step in {"SCAN issue_days", "SCAN tallies USING COVERING INDEX requesters_by_size"} for step in scanned
    ), plan
    assert not scanned or "LIMIT" in sql
