"""Whatever happens to certificates, in whatever order: what is counted equals what is on record."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services import database_file
from services.ca import storage
from services.ca.inventory import storage as inventory_storage
from services.ca.inventory.listing import MAX_INTEGER
from services.ca.inventory.storage import REVOKED_KEPT_SECONDS, _delete_expired, _ending
from services.ca.storage import MIGRATIONS, Reservation
from tests.unit.ca.recount import counted, put, recounted

NOW = 1_800_000_000
# Few sets, so that many certificates have the same one; the last two are one set.
NAMES = (
    ("*.a.example", "B.example", "x@a.example", "2001:db8::1", "https://a.example/x"),
    ("10.0.0.1", "a.example"),
    ("A.example", "10.0.0.1"),
)


class Record(RuleBasedStateMachine):
    """One record in memory, written to by the functions that the service's write thread runs."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.reserved: list[int] = []
        self.issued: list[int] = []
        self.issued_ever = 0
        self.deleted = 0

    @initialize(before=st.integers(0, 3))
    def made(self, before: int) -> None:
        """Some certificates were issued by a version that did not count."""
        earlier = MIGRATIONS.index(inventory_storage.MIGRATION)
        database_file._migrate(self.connection, MIGRATIONS[:earlier])
        for number in range(before):
            self.connection.execute(
                "INSERT INTO certificates (serial, state, issuer, profile, subject, names, requester, not_before, "
                "not_after, reserved_at, issued_at, certificate) "
                "VALUES (?, 'issued', '01', 'tls-server', '', ?, 'old', 0, ?, 0, ?, x'00')",
                (f"old{number}", '["A.example","10.0.0.1"]', NOW + 3600 * number, NOW - 86_400 * number),
            )
            row = self.connection.execute("SELECT max(id) FROM certificates").fetchone()[0]
            self.connection.executemany("INSERT INTO names VALUES (?, ?)", [("a.example", row), ("10.0.0.1", row)])
            self.issued.append(row)
        if before > 1:
            self.connection.execute(_REVOKE, ("old0", NOW))
        database_file._migrate(self.connection, MIGRATIONS)
        self.issued_ever = before

    @rule(
        names=st.sampled_from(NAMES),
        profile=st.sampled_from(("tls-server", "tls-client")),
        issuer=st.sampled_from(("01", "02")),
        requester=st.sampled_from(("alice", "bob")),
        ends=st.integers(-60 * 86_400, 7_200),
    )
    def reserve(self, ends: int, names: tuple[str, ...], **columns: str) -> None:
        serial = f"{len(self.reserved) + self.issued_ever:x}-{self.connection.total_changes:x}"
        given: dict[str, Any] = {**columns, "not_before": 0, "not_after": NOW + ends, "reserved_at": 0}
        reserved = Reservation(serial=serial, subject="", names=names, **given)
        self.reserved.append(storage._reserve(self.connection, reserved))

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), at=st.integers(0, 3 * 86_400))
    def store(self, data: st.DataObject, at: int) -> None:
        row = self.reserved.pop(data.draw(st.integers(0, len(self.reserved) - 1)))
        (names,) = self.connection.execute("SELECT names FROM certificates WHERE id = ?", (row,)).fetchone()
        put(self.connection, row, tuple(json.loads(names)), NOW - at)
        self.issued.append(row)
        self.issued_ever += 1

    @precondition(lambda self: self.reserved or self.issued)
    @rule(data=st.data(), ago=st.sampled_from((0, REVOKED_KEPT_SECONDS - 1, REVOKED_KEPT_SECONDS + 1)))
    def revoke(self, data: st.DataObject, ago: int) -> None:
        row = data.draw(st.sampled_from(self.reserved + self.issued))
        (serial,) = self.connection.execute("SELECT serial FROM certificates WHERE id = ?", (row,)).fetchone()
        self.connection.execute(_REVOKE, (serial, NOW - ago))

    @precondition(lambda self: self.issued)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A certificate leaves the state `issued`, for whatever other one."""
        row = self.issued.pop(data.draw(st.integers(0, len(self.issued) - 1)))
        self.connection.execute("UPDATE certificates SET state = 'reserved' WHERE id = ?", (row,))
        self.connection.execute("DELETE FROM names WHERE id = ?", (row,))
        self.connection.execute("DELETE FROM domains WHERE id = ?", (row,))

    @rule(before=st.integers(NOW - 60 * 86_400, NOW), limit=st.integers(1, 3))
    def delete(self, before: int, limit: int) -> None:
        ends = dict(self.connection.execute("SELECT id, not_after FROM certificates"))
        position: tuple[int, int] | None = (0, 0)
        deleted = 0
        while position is not None:
            batch = _delete_expired(self.connection, before, NOW, position, limit)
            assert batch.deleted <= limit
            deleted += batch.deleted
            position = batch.position
        self.deleted += deleted
        (complete_from,) = self.connection.execute("SELECT complete_from FROM retention").fetchone()
        left = {row[0] for row in self.connection.execute("SELECT id FROM certificates WHERE state = 'issued'")}
        gone = set(self.issued) - left
        assert len(gone) == deleted
        assert all(ends[row] < min(before, complete_from) for row in gone)
        self.issued = sorted(left)
        assert set(self.reserved) <= {row[0] for row in self.connection.execute("SELECT id FROM certificates")}

    @invariant()
    def what_is_counted_is_on_record(self) -> None:
        if self.connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            assert counted(self.connection) == recounted(self.connection)
            assert self.connection.execute("SELECT deleted FROM retention").fetchone() == (self.deleted,)
            (issued,) = self.connection.execute("SELECT coalesce(sum(certificates), 0) FROM issue_days").fetchone()
            assert issued == self.issued_ever

    @rule(first=st.integers(-8_000, 8_000), length=st.integers(-1, 10_000))
    def ending(self, first: int, length: int) -> None:
        first += NOW
        for last in (first + length, None):
            end = MAX_INTEGER if last is None else last
            sql = "SELECT count(*) FROM certificates WHERE state = 'issued' AND not_after BETWEEN ? AND ?"
            (expected,) = self.connection.execute(sql, (first, end)).fetchone()
            sql = "SELECT count(*) FROM unrenewed WHERE not_after BETWEEN ? AND ?"
            (unrenewed,) = self.connection.execute(sql, (first, end)).fetchone()
            found = _ending(self.connection, first, last, length)
            assert (found.certificates, found.unrenewed) == (expected, unrenewed)

    def teardown(self) -> None:
        self.connection.close()


_REVOKE = (
    "INSERT INTO revocations (serial, issuer, partition, revoked_at, reason, not_after, requester, trace) "
    "VALUES (?, '01', 0, ?, 'superseded', 0, '', '') ON CONFLICT DO NOTHING"
)

TestRecord = Record.TestCase
TestRecord.settings = settings(stateful_step_count=30)


def test_an_issued_certificate_cannot_be_changed_behind_the_counts(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
    database_file._migrate(connection, MIGRATIONS)
    row = storage._reserve(connection, Reservation("1", "01", "p", "", ("a.example",), "r", 0, NOW, 0))
    put(connection, row, ("a.example",), NOW)
    for column in ("profile", "requester", "issuer", "not_after", "issued_at"):
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            connection.execute(f"UPDATE certificates SET {column} = {column} WHERE id = ?", (row,))
    connection.close()
