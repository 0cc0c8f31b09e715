"""What the reconciler keeps, and how record and revocations are read to be compared: by it, and by the audit.

The promise, in words: when `seen` returns, the tree head is on the disk, and every later one is compared with it. When
`followed` returns, everything before the position was compared, and what was found is on the disk with it.

Rules:
- Its tables are in the database of the certificates. A database that was put back also puts the position back: what the
  log has beyond is then compared again, with rows that are gone.
- A finding is one row: found again it is open again, and when a whole sweep did not find it, it is closed.
- What is accepted are octets that contradict, not what they are about: other octets under the same serial number open
  the finding, and an open one stays open, whatever else is accepted about its subject.
- What an operator gave up is a fact of the record, so that the audit of its files knows it too: the places of a log
  that he went on without, and the entries whose rows the record is accepted without.
- Every reading is one short range. A reader that holds a snapshot for long would keep the write-ahead log from being
  written back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import msgspec

from services.ca.reconciliation.contradictions import ABOUT_THE_LOG, Finding
from services.ca.reconciliation.messages import (
    Acceptance,
    AcceptFindings,
    FindingKind,
    FindingState,
    StandingFinding,
)
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
ACCEPTANCE_MIGRATION: Final = """
    ALTER TABLE findings ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE findings ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
    DROP INDEX open_findings;
    CREATE INDEX standing_findings ON findings (kind, accepted) WHERE closed_at IS NULL;
    CREATE TABLE acceptances (
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        evidence TEXT NOT NULL,
        accepted_at INTEGER NOT NULL,
        accepted_by TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (kind, subject, evidence)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE record_given_up (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        given_up_at INTEGER NOT NULL,
        entries INTEGER
    ) STRICT;
"""
# Open findings, and accepted ones: a record that was put back can have a million, and the first ones say enough.
MAX_KEPT: Final = 10_000
GAVE_UP: Final = "operator"  # who accepts what follows from what was given up
LATEST: Final = 256
_DIGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Standing:
    """How many findings of a kind, or about a subject, stand."""

    open: int
    accepted: int


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

    async def give_up_record(self, now: int) -> None:
        """Accept the record without the rows that it misses: as the log is when it is seen next.

        Raises StorageUnavailable.
        """
        await self._database.write(lambda connection: _give_up_record(connection, now))

    async def settle_record(self, tree_size: int) -> None:
        """Keep up to which entry rows were given up: no further than a log goes that is seen for the first time.

        Raises StorageUnavailable.
        """
        await self._database.write(lambda connection: _settle_record(connection, tree_size))

    def is_record_unsettled(self) -> bool:
        """Whether it is not known yet up to which entry rows were given up."""
        return self._database.lookup(_is_record_unsettled)

    def highest_place(self) -> int:
        """The highest place in the log among the latest certificates, or -1."""
        return self._database.lookup(highest_place)

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
        """Close findings of these kinds that were not found again since `before`. Raises StorageUnavailable."""
        chosen = tuple(kinds)
        return await self._database.write(lambda connection: _close(connection, chosen, before, now))

    async def open_counts(self) -> dict[FindingKind, int]:
        """How many findings are open, by kind."""
        return await self._database.read(_open_counts)

    async def accept(self, request: AcceptFindings, now: int) -> Standing:
        """Accept open findings, if they are as many as `request.count`; returns how many there were before.

        Raises StorageUnavailable.
        """
        return await self._database.write(lambda connection: _accept(connection, request, now))

    async def accepted_count(self) -> int:
        """How many findings stand and are accepted."""
        return await self._database.read(lambda connection: _count(connection, "accepted"))

    async def standing(self, state: FindingState, limit: int) -> list[StandingFinding]:
        """The findings that are open, or accepted, the latest first."""
        return await self._database.read(lambda connection: _standing(connection, state, limit))

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

    async def entries_given_up(self) -> int:
        """Of how many entries, the first ones, rows may be missing."""
        return await self._database.read(entries_given_up)


_ROW: Final = (
    "serial, state, issuer, profile, subject, names, not_before, not_after, issued_at, certificate, precertificate, "
    "sct, leaf_index, id <= coalesce((SELECT certificate FROM log_accepted), 0)"
)
_names_of = msgspec.json.Decoder(tuple[str, ...]).decode
_acceptance_of = msgspec.json.Decoder(tuple[int, str, str]).decode
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
    (begin,) = connection.execute("SELECT coalesce(max(complete_from), 0) FROM retention").fetchone()
    return int(begin)


def entries_given_up(connection: sqlite3.Connection) -> int:
    """Of how many entries, the first ones, rows may be missing because an operator accepted that."""
    (entries,) = connection.execute("SELECT coalesce(max(entries), 0) FROM record_given_up").fetchone()
    return int(entries)


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
    serial, state, issuer, profile, subject, names, *rest, given_up = columns
    row = RecordRow(serial, state, issuer, profile, subject, _names_of(names), *rest)
    return replace(row, log_given_up=True) if given_up else row


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
    for kind in ABOUT_THE_LOG:
        connection.execute("UPDATE findings SET closed_at = ? WHERE closed_at IS NULL AND kind = ?", (now, kind))
    # Everything is compared anew: what contradicts because of that log is accepted with it.
    connection.execute("DELETE FROM sweeps")


def _give_up_record(connection: sqlite3.Connection, now: int) -> None:
    connection.execute("INSERT OR REPLACE INTO record_given_up VALUES (1, ?, NULL)", (now,))
    connection.execute("DELETE FROM sweeps")


def _settle_record(connection: sqlite3.Connection, tree_size: int) -> None:
    connection.execute("UPDATE record_given_up SET entries = min(coalesce(entries, :size), :size)", {"size": tree_size})


def _is_record_unsettled(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM record_given_up WHERE entries IS NULL").fetchone() is not None


def highest_place(connection: sqlite3.Connection) -> int:
    """The highest place in the log among the latest certificates, or -1.

    Those from before the operator accepted the log as it was do not count.
    """
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
    room: dict[FindingState, int] = {state: MAX_KEPT - _count(connection, state) for state in _STANDING}
    new: list[Finding] = []
    for finding in findings:
        accepted = _is_accepted(connection, finding)
        closed_at, was_accepted, evidence = connection.execute(
            "SELECT closed_at, accepted, evidence FROM findings WHERE kind = ? AND subject = ?", finding.identity
        ).fetchone() or (now, False, _UNKNOWN)
        was_open = closed_at is None and not was_accepted
        is_other = evidence not in {finding.evidence, _UNKNOWN}
        if accepted and was_open and is_other:
            continue
        if closed_at is not None:
            state: FindingState = "accepted" if accepted else "open"
            if room[state] <= 0:
                continue
            room[state] -= 1
        if finding.given_up:
            connection.execute(_ACCEPT, (*finding.identity, finding.evidence, now, GAVE_UP, finding.text))
        # A log that contradicts does so with each new head, each second: told once.
        is_new = not accepted and (not was_open or (is_other and finding.kind not in ABOUT_THE_LOG))
        digests = msgspec.json.encode(dict(finding.digests)).decode()
        told = (*finding.identity, finding.text, digests, finding.evidence, accepted)
        connection.execute(_PUT, (*told, now, now))
        if is_new:
            connection.execute(
                "UPDATE findings SET found_at = ? WHERE kind = ? AND subject = ?", (now, *finding.identity)
            )
            new.append(finding)
    return new


_PUT: Final = (
    "INSERT INTO findings (kind, subject, text, digests, evidence, accepted, found_at, seen_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, subject) DO UPDATE SET text = excluded.text, "
    "digests = excluded.digests, evidence = excluded.evidence, accepted = excluded.accepted, "
    "seen_at = excluded.seen_at, closed_at = NULL"
)
_UNKNOWN: Final = ""  # the evidence of what was found before evidence was kept
_ACCEPT: Final = "INSERT OR IGNORE INTO acceptances VALUES (?, ?, ?, ?, ?, ?)"


def _is_accepted(connection: sqlite3.Connection, finding: Finding) -> bool:
    if finding.given_up:
        return True
    found = connection.execute(
        "SELECT 1 FROM acceptances WHERE kind = ? AND subject = ? AND evidence = ?",
        (*finding.identity, finding.evidence),
    )
    return found.fetchone() is not None


def _close(connection: sqlite3.Connection, kinds: Sequence[FindingKind], before: int, now: int) -> int:
    closed = 0
    for kind in kinds:
        closed += connection.execute(
            "UPDATE findings SET closed_at = ? WHERE kind = ? AND closed_at IS NULL AND seen_at < ?",
            (now, kind, before),
        ).rowcount
    if closed:
        _drop_oldest(connection)
    return closed


def _drop_oldest(connection: sqlite3.Connection) -> None:
    """Of what is closed, as much is kept as may stand."""
    connection.execute(
        "DELETE FROM findings WHERE id IN (SELECT id FROM findings WHERE closed_at IS NOT NULL "
        "ORDER BY closed_at DESC, id DESC LIMIT -1 OFFSET ?)",
        (MAX_KEPT,),
    )
    connection.execute(
        "DELETE FROM acceptances WHERE NOT EXISTS "
        "(SELECT 1 FROM findings AS f WHERE f.kind = acceptances.kind AND f.subject = acceptances.subject)"
    )


# Of what stands: what is open, and what is accepted.
_STANDING: Final[dict[FindingState, str]] = {
    "open": "FROM findings AS f WHERE f.closed_at IS NULL AND NOT f.accepted",
    "accepted": "FROM findings AS f WHERE f.closed_at IS NULL AND f.accepted",
}


_ABOUT: Final = "AND f.kind = ? AND f.subject = coalesce(?, f.subject)"


def _open_counts(connection: sqlite3.Connection) -> dict[FindingKind, int]:
    found = connection.execute(f"SELECT f.kind, count(*) {_STANDING['open']} GROUP BY f.kind")
    return {cast(FindingKind, kind): int(count) for kind, count in found}


def _count(connection: sqlite3.Connection, state: FindingState) -> int:
    (count,) = connection.execute(f"SELECT count(*) {_STANDING[state]}").fetchone()
    return int(count)


def _accept(connection: sqlite3.Connection, request: AcceptFindings, now: int) -> Standing:
    """Accepts nothing when the number of what it would be is not the one that was asked for."""
    about = (request.kind, request.subject)
    (open_ones,) = connection.execute(f"SELECT count(*) {_STANDING['open']} {_ABOUT}", about).fetchone()
    (accepted,) = connection.execute(f"SELECT count(*) {_STANDING['accepted']} {_ABOUT}", about).fetchone()
    if open_ones == request.count:
        connection.execute(
            f"INSERT OR REPLACE INTO acceptances SELECT f.kind, f.subject, f.evidence, ?, ?, ? "
            f"{_STANDING['open']} {_ABOUT}",
            (now, request.requester, request.reason, *about),
        )
        connection.execute(
            "UPDATE findings AS f SET accepted = 1 WHERE f.closed_at IS NULL AND NOT f.accepted "
            "AND f.kind = ? AND f.subject = coalesce(?, f.subject)",
            about,
        )
    return Standing(open_ones, accepted)


# The acceptance of what contradicts now, if there is one.
_ACCEPTANCE: Final = (
    "(SELECT json_array(a.accepted_at, a.accepted_by, a.reason) FROM acceptances AS a "
    "WHERE a.kind = f.kind AND a.subject = f.subject AND a.evidence = f.evidence)"
)


def _standing(connection: sqlite3.Connection, state: FindingState, limit: int) -> list[StandingFinding]:
    found = connection.execute(
        f"SELECT f.kind, f.subject, f.text, f.digests, f.found_at, f.seen_at, {_ACCEPTANCE} "
        f"{_STANDING[state]} ORDER BY f.found_at DESC, f.id DESC LIMIT ?",
        (limit,),
    )
    return [
        StandingFinding(
            kind=kind,
            subject=subject,
            text=text,
            digests=_digests_of(digests),
            found_at=found_at,
            seen_at=seen_at,
            acceptance=None if state == "open" or by is None else Acceptance(*_acceptance_of(by)),
        )
        for kind, subject, text, digests, found_at, seen_at, by in found
    ]
