"""What is on record, and how it is found again."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.ca import storage
from services.ca.inventory import listing
from services.ca.issuance.certification import Logged, Quarantined
from services.ca.messages import ListCertificates
from services.ca.storage import MIGRATIONS, Storage
from services.database import Database
from tests.unit.ca.records import NOW, issue, opened, reservation, revoke

Test = Callable[[Storage], Awaitable[None]]


def on_record(directory: Path, test: Test) -> None:
    async def run() -> None:
        async with opened(directory) as record:
            await test(record)

    asyncio.run(run())


async def serials(record: Storage, request: ListCertificates) -> tuple[list[int], str | None]:
    page = await record.page(listing.query(request, NOW), request.limit)
    return [int(issued.serial, 16) for issued in page.certificates], page.next_cursor


async def walk(record: Storage, **filters: object) -> list[int]:
    """Every serial number that the pages together give, in order."""
    found: list[int] = []
    cursor: str | None = None
    while True:
        request = ListCertificates(cursor=cursor, **filters)  # type: ignore[arg-type] # filters by name
        page, cursor = await serials(record, request)
        assert len(page) <= request.limit
        found += page
        if cursor is None:
            return found


def test_a_stored_certificate_is_found_by_its_serial_number_after_a_restart(tmp_path: Path) -> None:
    async def write(record: Storage) -> None:
        await issue(record, reservation(7, ("b.example", "A@host.example")))

    async def read(record: Storage) -> None:
        found = record.get(f"{7:032x}")
        assert found is not None
        assert (found.names, found.certificate, found.issued_at) == (("b.example", "A@host.example"), b"c" * 8, NOW)
        assert (found.profile, found.subject, found.issuer) == ("tls-server", "CN=b.example", "01")

    on_record(tmp_path, write)
    on_record(tmp_path, read)


def test_a_reserved_serial_number_is_on_record_and_is_no_certificate(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        assert await record.is_empty()
        await record.reserve(reservation(7))
        assert not await record.is_empty()
        assert record.unfinished() == 1
        assert record.get(f"{7:032x}") is None
        assert await walk(record) == []
        assert await walk(record, name="host.example") == []
        assert await walk(record, status="valid") == []

    on_record(tmp_path, test)


def test_a_serial_number_is_reserved_only_once(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await record.reserve(reservation(7))
        with pytest.raises(sqlite3.IntegrityError):
            await record.reserve(reservation(7))

    on_record(tmp_path, test)


def test_a_certificate_is_stored_only_once_and_only_where_a_serial_number_is_reserved(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        row = await record.reserve(reservation(7))
        await record.store(row, b"first", NOW)
        with pytest.raises(ValueError, match="not reserved"):
            await record.store(row, b"second", NOW)
        with pytest.raises(ValueError, match="not reserved"):
            await record.store(row + 1, b"third", NOW)
        found = record.get(f"{7:032x}")
        assert found is not None
        assert found.certificate == b"first"

    on_record(tmp_path, test)


def test_what_the_log_promised_is_stored_with_the_certificate_and_found_with_it(tmp_path: Path) -> None:
    promise = Logged(b"precertificate", b"timestamp", 7)

    async def test(record: Storage) -> None:
        row = await record.reserve(reservation(7))
        await record.store(row, b"certificate", NOW, promise)
        found = record.get(f"{7:032x}")
        assert found is not None
        assert found.logged == promise
        (listed,) = (await record.page(listing.query(ListCertificates(), NOW), 10)).certificates
        assert listed.logged is None, "lists are not slowed down by what they do not show"

    on_record(tmp_path, test)


def test_what_is_quarantined_is_kept_and_found_by_nobody(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        row = await record.reserve(reservation(7))
        await record.quarantine(row, Quarantined(("names: no name", "serial: zero"), b"precertificate"))
        assert (record.unfinished(), record.quarantined()) == (0, 1)
        assert record.get(f"{7:032x}") is None
        assert await walk(record) == await walk(record, name="host.example") == await walk(record, status="valid") == []
        kept = record._database.lookup(
            lambda connection: connection.execute(
                "SELECT findings, precertificate, certificate FROM certificates"
            ).fetchall()
        )
        assert kept == [('["names: no name","serial: zero"]', b"precertificate", None)]
        with pytest.raises(ValueError, match="not reserved"):
            await record.store(row, b"certificate", NOW)
        with pytest.raises(ValueError, match="not reserved"):
            await record.quarantine(row, Quarantined(("again",)))
        with pytest.raises(sqlite3.IntegrityError):
            await record.reserve(reservation(7))

    on_record(tmp_path, test)


def test_a_quarantine_has_a_reason() -> None:
    with pytest.raises(ValueError, match="without a finding"):
        Quarantined(())


def test_a_record_of_the_first_schema_keeps_every_row_and_every_name(tmp_path: Path) -> None:
    columns = "serial, state, issuer, profile, subject, names, requester, not_before, not_after, reserved_at"
    issued = ("07", "issued", "01", "tls-server", "CN=a", '["a.example"]', "x", 0, NOW, 1, 2, b"certificate")

    async def old() -> None:
        database = await Database.open(tmp_path / "certificates.db", MIGRATIONS[:1])
        await database.write(
            lambda connection: (
                connection.execute(
                    f"INSERT INTO certificates ({columns}, issued_at, certificate) VALUES ({', '.join('?' * 12)})",
                    issued,
                ).rowcount
            )
        )
        await database.write(
            lambda connection: (
                connection.execute(
                    f"INSERT INTO certificates ({columns}) VALUES ({', '.join('?' * 10)})",
                    ("08", "reserved", *issued[2:10]),
                ).rowcount
            )
        )
        await database.write(
            lambda connection: connection.execute("INSERT INTO names VALUES ('a.example', 1)").rowcount
        )
        await database.close()

    async def after(record: Storage) -> None:
        found = record.get("07")
        assert found is not None
        assert (found.certificate, found.issued_at, found.logged) == (b"certificate", 2, None)
        assert await walk(record, name="a.example") == await walk(record, profile="tls-server") == [7]
        assert record.unfinished() == 1
        await issue(record, reservation(9, ("a.example",)))
        assert await walk(record, name="a.example") == [9, 7]
        broken = record._database.lookup(lambda connection: connection.execute("PRAGMA foreign_key_check").fetchall())
        assert broken == []

    asyncio.run(old())
    on_record(tmp_path, after)


def test_pages_hold_every_certificate_once_newest_first(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, *(reservation(n) for n in range(1, 8)))
        await record.reserve(reservation(99))
        assert await walk(record, limit=3) == [7, 6, 5, 4, 3, 2, 1]
        assert await walk(record, limit=7) == [7, 6, 5, 4, 3, 2, 1]
        assert (await serials(record, ListCertificates(limit=7)))[1] is None

    on_record(tmp_path, test)


def test_what_is_issued_while_paging_does_not_disturb_the_pages(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, *(reservation(n) for n in range(1, 5)))
        first, cursor = await serials(record, ListCertificates(limit=2))
        await issue(record, reservation(5))
        second, _ = await serials(record, ListCertificates(limit=2, cursor=cursor))
        assert (first, second) == ([4, 3], [2, 1])

    on_record(tmp_path, test)


def test_each_filter_alone_and_all_together(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(
            record,
            reservation(1, ("a.example",), not_after=NOW - 1),
            reservation(2, ("a.example", "b.example"), not_after=NOW),
            reservation(3, ("A@b.example",), profile="tls-client", not_after=NOW + 50),
            reservation(4, ("a.example",), profile="tls-client", not_after=NOW + 20),
            reservation(5, ("a.example",), not_after=NOW - 100),
        )
        for limit in (1, 2, 100):
            assert await walk(record, limit=limit, name="A.Example") == [5, 4, 2, 1]
            assert await walk(record, limit=limit, name="a@b.example") == [3]
            assert await walk(record, limit=limit, name="example") == []
            assert await walk(record, limit=limit, profile="tls-client") == [4, 3]
            assert await walk(record, limit=limit, status="expired") == [5, 1]
            assert await walk(record, limit=limit, status="valid") == [2, 4, 3]
            assert await walk(record, limit=limit, expires_before=NOW + 20) == [5, 1, 2]
            assert await walk(record, limit=limit, status="valid", expires_before=NOW + 21, profile="tls-client") == [4]
            assert await walk(record, limit=limit, name="a.example", profile="tls-server", status="valid") == [2]

    on_record(tmp_path, test)


def test_the_filters_by_who_and_when(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, reservation(1, requester="alice", not_after=NOW + 5), at=NOW - 20)
        await issue(record, reservation(2, requester="bob", not_after=NOW + 20), at=NOW + 10)
        await issue(record, reservation(3, requester="alice", issuer="02", not_after=NOW - 1), at=NOW)
        await issue(record, reservation(4, requester="alice", issuer="02", not_after=NOW + 10), at=NOW)
        for limit in (1, 2, 100):
            assert await walk(record, limit=limit, requester="alice") == [4, 3, 1]
            assert await walk(record, limit=limit, requester="Alice") == []
            assert await walk(record, limit=limit, requester="alice", status="valid") == [4, 1]
            assert await walk(record, limit=limit, issuer="02") == [4, 3]
            assert await walk(record, limit=limit, issuer="02", requester="bob") == []
            assert await walk(record, limit=limit, expires_after=NOW + 5) == [1, 4, 2]
            assert await walk(record, limit=limit, expires_after=NOW + 5, expires_before=NOW + 20) == [1, 4]
            assert await walk(record, limit=limit, expires_after=NOW + 6, expires_before=NOW + 6) == []
            assert await walk(record, limit=limit, issued_after=NOW) == [2, 4, 3]
            assert await walk(record, limit=limit, issued_before=NOW) == [1]
            assert await walk(record, limit=limit, issued_after=NOW, issued_before=NOW + 1, issuer="02") == [4, 3]
            assert await walk(record, limit=limit, status="valid", issued_after=NOW) == [4, 2]

    on_record(tmp_path, test)


def test_a_search_finds_a_domain_and_all_below_it_and_nothing_beside_it(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(
            record,
            reservation(1, ("example",)),
            reservation(2, ("b.example", "a.example")),
            reservation(3, ("*.A.example",)),
            reservation(4, ("x-example", "aexample", "example.net")),
            reservation(5, ("a.example@b.example", "https://c.b.example/")),
            reservation(6, ("10.0.0.1", "2001:db8::1")),
            reservation(7, ("deep.down.a.example", "net")),
        )
        for limit in (1, 2, 3, 100):
            assert await walk(record, limit=limit, search="example") == [1, 2, 3, 7]
            assert await walk(record, limit=limit, search=".A.Example.") == [2, 3, 7]
            assert await walk(record, limit=limit, search="b.example") == [2]
            assert await walk(record, limit=limit, search="net") == [7, 4]
            assert await walk(record, limit=limit, search="0.1") == []
            assert await walk(record, limit=limit, search="a.example", name="net") == [7]
            assert await walk(record, limit=limit, search="b.example", name="net") == []
            assert await walk(record, limit=limit, search="a.example", requester="another") == []

    on_record(tmp_path, test)


def test_a_search_goes_on_where_it_stopped_whatever_is_issued_and_deleted_meanwhile(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, *(reservation(n, (f"h{n}.example",), not_after=NOW - 9) for n in range(1, 5)))
        first, cursor = await serials(record, ListCertificates(search="example", limit=2))
        await record.inventory().delete_expired(NOW, NOW, (0, 0), 2)
        await issue(record, reservation(9, ("h0.example",)))
        second, _ = await serials(record, ListCertificates(search="example", limit=9, cursor=cursor))
        assert (first, second) == ([1, 2], [3, 4])

    on_record(tmp_path, test)


def test_what_is_revoked_is_neither_valid_nor_expired(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, *(reservation(n) for n in range(1, 5)), reservation(5, not_after=NOW - 1, requester="bob"))
        await revoke(record, 3, 1, 5, 77)
        for limit in (1, 2, 100):
            assert await walk(record, limit=limit, status="revoked") == [5, 1, 3]
            assert await walk(record, limit=limit, status="valid") == [2, 4]
            assert await walk(record, limit=limit, status="expired") == []
            assert await walk(record, limit=limit, status="revoked", requester="bob") == [5]
            assert await walk(record, limit=limit, status="revoked", expires_before=NOW) == [5]
            assert await walk(record, limit=limit, status="revoked", search="example") == [1, 3, 5]
        found = record.get(f"{3:032x}")
        assert found is not None
        assert (found.revoked_at, found.reason) == (NOW, "superseded")

    on_record(tmp_path, test)


def test_certificates_that_expire_in_the_same_second_are_all_given(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        await issue(record, *(reservation(n) for n in range(1, 8)))
        assert await walk(record, limit=2, status="valid") == [1, 2, 3, 4, 5, 6, 7]

    on_record(tmp_path, test)


def test_a_page_looks_at_a_bounded_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only match is the oldest of ten; with three rows for each page it is on the fourth."""
    monkeypatch.setattr(listing, "MAX_EXAMINED", 3)

    async def test(record: Storage) -> None:
        await issue(record, reservation(1, profile="tls-client"), *(reservation(n) for n in range(2, 11)))
        pages: list[list[int]] = []
        cursor: str | None = None
        while not pages or cursor is not None:
            request = ListCertificates(cursor=cursor, name="host.example", profile="tls-client")
            page, cursor = await serials(record, request)
            pages.append(page)
        assert pages == [[], [], [], [1]]

    on_record(tmp_path, test)


def test_a_page_is_bounded_in_octets_and_always_holds_one(tmp_path: Path) -> None:
    async def test(record: Storage) -> None:
        third = storage.MAX_PAGE_OCTETS // 6
        await issue(record, *(reservation(n) for n in range(1, 5)), size=third)
        await issue(record, reservation(5), size=storage.MAX_PAGE_OCTETS)
        first, cursor = await serials(record, ListCertificates())
        assert first == [5]
        second, _ = await serials(record, ListCertificates(cursor=cursor))
        assert second == [4, 3]
        assert await walk(record) == [5, 4, 3, 2, 1]

    on_record(tmp_path, test)


def test_the_weight_of_a_page_counts_octets_not_characters(tmp_path: Path) -> None:
    """Four octets a character: eight such certificates are more than a page, and their characters are not."""

    async def test(record: Storage) -> None:
        wide = "\U0001f600" * (storage.MAX_PAGE_OCTETS // 32)
        await issue(record, *(reservation(n, (wide,)) for n in range(1, 9)))
        page = await record.page(listing.query(ListCertificates(), NOW), 100)
        assert page.next_cursor is not None
        written = sum(len(text.encode()) for issued in page.certificates for text in (issued.subject, *issued.names))
        assert written <= storage.MAX_PAGE_OCTETS
        assert await walk(record) == [8, 7, 6, 5, 4, 3, 2, 1]

    on_record(tmp_path, test)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"profile": "tls-server"},
        {"name": "host.example"},
        {"name": "host.example", "status": "valid"},
        {"status": "valid"},
        {"status": "expired", "profile": "tls-server"},
        {"expires_before": NOW},
        {"status": "revoked", "profile": "tls-server"},
        {"status": "revoked", "name": "host.example"},
        {"expires_after": NOW},
        {"requester": "a test"},
        {"requester": "a test", "status": "valid"},
        {"issuer": "01"},
        {"issuer": "01", "profile": "tls-server"},
        {"issued_after": NOW},
        {"issued_before": NOW, "issuer": "01"},
        {"status": "revoked"},
        {"status": "revoked", "expires_before": NOW},
        {"search": "example"},
        {"search": "example", "name": "host.example", "requester": "a test"},
    ],
)
def test_no_list_scans_or_sorts(tmp_path: Path, filters: dict[str, object]) -> None:
    """So that the last page of a million certificates takes as long as the first."""

    async def test(record: Storage) -> None:
        await issue(record, reservation(1))
        asked = listing.query(ListCertificates(**filters), NOW)  # type: ignore[arg-type] # filters by name
        sql = f"EXPLAIN QUERY PLAN SELECT {asked.row}, {asked.matches} FROM {asked.walked}"
        plan = await record._database.read(
            lambda connection: [row[3] for row in connection.execute(sql, asked.parameters)]
        )
        assert plan
        assert plan[0].startswith("SEARCH")
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan

    on_record(tmp_path, test)
