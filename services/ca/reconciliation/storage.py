"""What the reconciler keeps, and how record and revocations are read to be compared: by it, and by the audit.

The promise, in words: when `seen` returns, the tree head is on the disk, and every later one is compared with it. When
`followed` returns, everything before the position was compared, and what was found is on the disk with it.

Rules:
- Its tables are in the database of the certificates. A database that was put back also puts the position back: what the
  log has beyond is then compared again, with rows that are gone.
- A finding is one row for ever: found again it is open again, and when a whole sweep did not find it, it is closed.
- Every reading is one short range. A reader that holds a snapshot for long would keep the write-ahead log from being
  written back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import msgspec

from services.ca.reconciliation.contradictions import Finding
from services.ca.reconciliation.messages import FindingKind, OpenFinding
from services.ca.reconciliation.positions import SeenLog, Sweep
from services.ca.reconciliation.reconciliation import RecordRow
from services.ca.reconciliation.status_reconciliation import ListOnRecord, Recorded
from services.database import Database

MIGRATION: Final = """
    CREATE INDEX certificates_by_leaf ON certificates (leaf_index) WHERE leaf_index IS NOT NULL;
    CREATE INDEX certificates_without_leaf ON certificates (id) WHERE leaf_index IS NULL AND state <> 'reserved';
    CREATE TABLE findings (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        digests TEXT NOT NULL,
        found_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        closed_at INTEGER,
        UNIQUE (kind, subject)
    ) STRICT;
    CREATE INDEX open_findings ON findings (kind) WHERE closed_at IS NULL;
    CREATE TABLE log_seen (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        public_key BLOB NOT NULL,
        tree_size INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        root_hash BLOB NOT NULL,
        signature BLOB NOT NULL,
        position INTEGER NOT NULL,
        peaks BLOB NOT NULL
    ) STRICT;
    CREATE TABLE log_accepted (id INTEGER PRIMARY KEY CHECK (id = 1), certificate INTEGER NOT NULL) STRICT;
    CREATE TABLE sweeps (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        started_at INTEGER NOT NULL,
        leaf INTEGER NOT NULL,
        certificate INTEGER NOT NULL,
        swept_at INTEGER
    ) STRICT;
"""
MAX_KEPT: Final = 10_000  # findings: a record that was put back can have a million, and the first ones say enough
LATEST: Final = 256
_DIGEST: Final = 32


class ReconciliationStorage:
    """Findings and positions, over the open database of the certificates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def log_seen(self) -> SeenLog | None:
        """What was seen of the log; None at first."""
        return self._database.lookup(log_seen)

    async def seen(self, log: SeenLog) -> None:
        """Keep a tree head, and the position in it. Raises StorageUnavailable."""
        await self._database.write(lambda connection: _keep_seen(connection, log))

    async def forget_log(self, now: int) -> None:
        """Begin anew with the log as it is, because the operator said so. Raises StorageUnavailable."""
        await self._database.write(lambda connection: _forget_log(connection, now))

    def highest_place(self) -> int:
        """The highest place in the log among the latest certificates, or -1.

        Those from before the operator accepted the log as it was do not count.
        """
        return self._database.lookup(_highest_place)

    async def sweep(self) -> Sweep | None:
        """How far the whole comparison has come; None at first."""
        return await self._database.read(sweep)

    async def keep_sweep(self, sweep: Sweep) -> None:
        """Keep how far it has come. Raises StorageUnavailable."""
        await self._database.write(lambda connection: _keep_sweep(connection, sweep))

    async def found(self, findings: Sequence[Finding], now: int) -> list[Finding]:
        """Keep what was found; returns what is new, or open again. Raises StorageUnavailable."""
        return await self._database.write(lambda connection: _keep(connection, findings, now))

    async def close_unseen(self, kinds: Iterable[FindingKind], before: int, now: int) -> int:
        """Close open findings of these kinds that were not found again since `before`. Raises StorageUnavailable."""
        chosen = tuple(kinds)
        return await self._database.write(lambda connection: _close(connection, chosen, before, now))

    async def open_counts(self) -> dict[FindingKind, int]:
        """How many findings are open, by kind."""
        return await self._database.read(_open_counts)

    async def open_findings(self, limit: int) -> list[OpenFinding]:
        """The open findings, the latest first."""
        return await self._database.read(lambda connection: _open(connection, limit))

    async def rows_in(self, first: int, end: int) -> list[RecordRow]:
        """The rows that name a place in the log from `first` up to, not including, `end`."""
        return await self._database.read(lambda connection: rows_in(connection, first, end))

    async def rows_from(self, first: int, limit: int) -> list[RecordRow]:
        """Rows that name a place in the log from `first` on, in the order of the places."""
        return await self._database.read(lambda connection: rows_from(connection, first, limit))

    async def rows_without_leaf(self, after: int, limit: int) -> list[tuple[int, RecordRow]]:
        """Finished rows that name no place in the log, in the order of their ids, after this one."""
        return await self._database.read(lambda connection: rows_without_leaf(connection, after, limit))

    def row_of(self, serial: str) -> RecordRow | None:
        """The row of a serial number, whatever its state."""
        return self._database.lookup(lambda connection: row_of(connection, serial))

    async def lists(self) -> list[ListOnRecord]:
        """The newest list of each partition."""
        return await self._database.read(lists)

    async def recorded(self, issuer: str, partition: int) -> list[Recorded]:
        """The revocations of a partition."""
        return await self._database.read(lambda connection: recorded(connection, issuer, partition))

    async def complete_from(self) -> int:
        """Certificates that end at this second or later are all on record."""
        return await self._database.read(complete_from)


_ROW: Final = (
    "serial, state, issuer, profile, subject, names, not_before, not_after, issued_at, certificate, precertificate, "
    "sct, leaf_index"
)
_names_of = msgspec.json.Decoder(tuple[str, ...]).decode
_digests_of = msgspec.json.Decoder(dict[str, str]).decode


def rows_in(connection: sqlite3.Connection, first: int, end: int) -> list[RecordRow]:
    """The rows that name a place in the log from `first` up to, not including, `end`."""
    found = connection.execute(
        f"SELECT {_ROW} FROM certificates INDEXED BY certificates_by_leaf "  # noqa: S608 - constants
        "WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index",
        (first, end),
    )
    return [_row(columns) for columns in found]


def rows_from(connection: sqlite3.Connection, first: int, limit: int) -> list[RecordRow]:
    """Rows that name a place in the log from `first` on, in the order of the places."""
    found = connection.execute(
        f"SELECT {_ROW} FROM certificates INDEXED BY certificates_by_leaf "  # noqa: S608 - constants
        "WHERE leaf_index >= ? ORDER BY leaf_index LIMIT ?",
        (first, limit),
    )
    return [_row(columns) for columns in found]


def rows_without_leaf(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, RecordRow]]:
    """Finished rows that name no place in the log, in the order of their ids, after this one."""
    found = connection.execute(
        f"SELECT id, {_ROW} FROM certificates INDEXED BY certificates_without_leaf "  # noqa: S608 - constants
        "WHERE leaf_index IS NULL AND state <> 'reserved' AND id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [(number, _row(columns)) for number, *columns in found]


def reserved_rows(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, str]]:
    """Ids and serial numbers of what was begun and not finished, after this id."""
    return connection.execute(
        "SELECT id, serial FROM certificates WHERE state = 'reserved' AND id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()


def row_of(connection: sqlite3.Connection, serial: str) -> RecordRow | None:
    """The row of a serial number, whatever its state."""
    columns = connection.execute(
        f"SELECT {_ROW} FROM certificates WHERE serial = ?",  # noqa: S608 - constants
        (serial,),
    ).fetchone()
    return None if columns is None else _row(columns)


def last_leaf(connection: sqlite3.Connection) -> int | None:
    """The highest place in the log that a row names."""
    (highest,) = connection.execute("SELECT max(leaf_index) FROM certificates WHERE leaf_index IS NOT NULL").fetchone()
    return None if highest is None else int(highest)


def lists(connection: sqlite3.Connection) -> list[ListOnRecord]:
    """The newest list of each partition."""
    found = connection.execute("SELECT issuer, partition, number, covered, der FROM crls ORDER BY issuer, partition")
    return [ListOnRecord(*columns) for columns in found]


def recorded(connection: sqlite3.Connection, issuer: str, partition: int) -> list[Recorded]:
    """The revocations of a partition."""
    found = connection.execute(
        "SELECT id, serial, revoked_at, reason, not_after FROM revocations WHERE issuer = ? AND partition = ? "
        "ORDER BY id",
        (issuer, partition),
    )
    return [Recorded(*columns) for columns in found]


def partitions(connection: sqlite3.Connection) -> set[tuple[str, int]]:
    """All partitions with a revocation."""
    return set(connection.execute("SELECT DISTINCT issuer, partition FROM revocations"))


def complete_from(connection: sqlite3.Connection) -> int:
    """Certificates that end at this second or later are all on record; older ones may have been deleted on purpose."""
    kept = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'retention'").fetchone()
    if kept is None:
        return 0
    (begin,) = connection.execute("SELECT coalesce(max(complete_from), 0) FROM retention").fetchone()
    return int(begin)


def log_seen(connection: sqlite3.Connection) -> SeenLog | None:
    """What the authority has seen of the log; None at first."""
    columns = connection.execute(
        "SELECT public_key, tree_size, timestamp, root_hash, signature, position, peaks FROM log_seen"
    ).fetchone()
    if columns is None:
        return None
    *head, position, peaks = columns
    subtrees = tuple(peaks[at : at + _DIGEST] for at in range(0, len(peaks), _DIGEST))
    return replace(SeenLog(*head), position=position, peaks=subtrees)


def sweep(connection: sqlite3.Connection) -> Sweep | None:
    """How far the whole comparison has come; None at first."""
    columns = connection.execute("SELECT started_at, leaf, certificate, swept_at FROM sweeps").fetchone()
    return None if columns is None else Sweep(*columns)


def _row(columns: Sequence[Any]) -> RecordRow:
    serial, state, issuer, profile, subject, names, *rest = columns
    return RecordRow(serial, state, issuer, profile, subject, _names_of(names), *rest)


def _keep_seen(connection: sqlite3.Connection, log: SeenLog) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO log_seen VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (
            log.public_key,
            log.tree_size,
            log.timestamp,
            log.root_hash,
            log.signature,
            log.position,
            b"".join(log.peaks),
        ),
    )


def _forget_log(connection: sqlite3.Connection, now: int) -> None:
    connection.execute("DELETE FROM log_seen")
    connection.execute("INSERT OR REPLACE INTO log_accepted SELECT 1, coalesce(max(id), 0) FROM certificates")
    connection.execute(
        "UPDATE findings SET closed_at = ? "
        "WHERE closed_at IS NULL AND kind IN ('log_damaged', 'log_shrank', 'log_forked')",
        (now,),
    )


def _highest_place(connection: sqlite3.Connection) -> int:
    accepted = connection.execute("SELECT certificate FROM log_accepted").fetchone()
    parameters: tuple[int, ...] = ()
    if accepted is None:
        query = "SELECT max(leaf_index) FROM certificates WHERE leaf_index IS NOT NULL"
    else:
        # Places are given about in the order of the rows: none of the earlier ones is higher than all of the latest.
        query = (
            "SELECT max(leaf_index) FROM (SELECT leaf_index FROM certificates WHERE id > ? ORDER BY id DESC LIMIT ?)"
        )
        parameters = (accepted[0], LATEST)
    (highest,) = connection.execute(query, parameters).fetchone()
    return -1 if highest is None else int(highest)


def _keep_sweep(connection: sqlite3.Connection, kept: Sweep) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO sweeps VALUES (1, ?, ?, ?, ?)",
        (kept.started_at, kept.leaf, kept.certificate, kept.swept_at),
    )


def _keep(connection: sqlite3.Connection, findings: Sequence[Finding], now: int) -> list[Finding]:
    (kept,) = connection.execute("SELECT count(*) FROM findings").fetchone()
    new: list[Finding] = []
    for finding in findings:
        known = connection.execute(
            "SELECT id, closed_at FROM findings WHERE kind = ? AND subject = ?", finding.identity
        ).fetchone()
        if known is not None:
            is_new = known[1] is not None
            connection.execute(
                "UPDATE findings SET seen_at = ?, closed_at = NULL, text = ?, digests = ? WHERE id = ?",
                (now, finding.text, _encoded(finding), known[0]),
            )
        elif is_new := kept < MAX_KEPT:
            connection.execute(
                "INSERT INTO findings (kind, subject, text, digests, found_at, seen_at) VALUES (?, ?, ?, ?, ?, ?)",
                (*finding.identity, finding.text, _encoded(finding), now, now),
            )
            kept += 1
        if is_new:
            new.append(finding)
    return new


def _encoded(finding: Finding) -> str:
    return msgspec.json.encode(dict(finding.digests)).decode()


def _close(connection: sqlite3.Connection, kinds: Sequence[FindingKind], before: int, now: int) -> int:
    closed = 0
    for kind in kinds:
        closed += connection.execute(
            "UPDATE findings SET closed_at = ? WHERE kind = ? AND closed_at IS NULL AND seen_at < ?",
            (now, kind, before),
        ).rowcount
    return closed


def _open_counts(connection: sqlite3.Connection) -> dict[FindingKind, int]:
    found = connection.execute("SELECT kind, count(*) FROM findings WHERE closed_at IS NULL GROUP BY kind")
    return {cast(FindingKind, kind): int(count) for kind, count in found}


def _open(connection: sqlite3.Connection, limit: int) -> list[OpenFinding]:
    found = connection.execute(
        "SELECT kind, subject, text, digests, found_at, seen_at FROM findings WHERE closed_at IS NULL "
        "ORDER BY found_at DESC, id DESC LIMIT ?",
        (limit,),
    )
    return [
        OpenFinding(
            kind=kind, subject=subject, text=text, digests=_digests_of(digests), found_at=found_at, seen_at=seen_at
        )
        for kind, subject, text, digests, found_at, seen_at in found
    ]
