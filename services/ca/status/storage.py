"""What the authority keeps about revocation: one row for each revoked serial number, one for the newest list of each
partition, and the rows of OCSP responders.

The promise, in words: when `revoke` returns, the revocation is on the disk, and no row of it is ever changed or taken
back. When `store_crl` returns, the list is on the disk, and its number is above that of the list before.

Rules:
- Its tables are in the database of the certificates, so that one backup holds what belongs together.
- `id` orders revocations: a list that covers one id covers all before it.
- The row of a responder's certificate has the state `responder`: on record, so that no serial number is signed twice,
  but no certificate that clients list, get or revoke.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from services.ca.messages import RevocationReason
from services.ca.status.crl import Entry, Published
from services.ca.status.ocsp import Status
from services.ca.status.revocation import Revocation
from services.database import Database

MIGRATION: Final = """
    CREATE TABLE revocations (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL UNIQUE,
        issuer TEXT NOT NULL,
        partition INTEGER NOT NULL,
        revoked_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        not_after INTEGER NOT NULL,
        requester TEXT NOT NULL,
        trace TEXT NOT NULL
    ) STRICT;
    CREATE INDEX revocations_on_lists ON revocations (issuer, partition, max(not_after, revoked_at));
    CREATE TRIGGER revocations_are_for_ever BEFORE UPDATE ON revocations
    BEGIN
        SELECT RAISE(ABORT, 'a revocation is never changed');
    END;
    CREATE TABLE crls (
        issuer TEXT NOT NULL,
        partition INTEGER NOT NULL,
        number INTEGER NOT NULL,
        this_update INTEGER NOT NULL,
        next_update INTEGER NOT NULL,
        covered INTEGER NOT NULL,
        urls TEXT NOT NULL,
        der BLOB NOT NULL,
        PRIMARY KEY (issuer, partition)
    ) STRICT;
"""
RESPONDER_PROFILE: Final = "ocsp-responder"

ListKey = tuple[str, int]
"""An issuer's serial number and a partition of it."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What is known of a serial number. `certificate` is DER, or None when none was stored."""

    issuer: str
    not_after: int
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class ListContents:
    """What a list has to say, and the newest revocation of all that was on record when it was read."""

    entries: tuple[Entry, ...]
    covered: int


@dataclass(frozen=True, slots=True)
class ResponderReservation:
    """A serial number for a responder's certificate. Times are seconds since the Unix epoch."""

    serial: str
    issuer: str
    not_before: int
    not_after: int
    reserved_at: int


class StatusStorage:
    """The record of revocation, over the open database of the certificates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revoke(self, revocation: Revocation) -> Revocation:
        """Put a revocation on record; returns the one that counts: an earlier one, if there is one.

        Raises StorageUnavailable: then nothing was acknowledged.
        """
        return await self._database.write(lambda connection: _revoke(connection, revocation))

    async def take_over(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Put on record those that are not yet; returns these. Raises StorageUnavailable."""
        return await self._database.write(lambda connection: _take_over(connection, revocations))

    def revocation(self, serial: str) -> Revocation | None:
        """The revocation of this serial number, if there is one."""
        return self._database.lookup(lambda connection: _revocation(connection, serial))

    def on_record(self, serial: str) -> OnRecord | None:
        """What is on record under this serial number; None for nothing, or for a responder's certificate."""
        return self._database.lookup(lambda connection: _on_record(connection, serial))

    def status(self, issuers: Sequence[str], serial: str) -> Status:
        """What an OCSP answer says of this serial number, if one of these issuers gave it: `unknown` if not."""
        return self._database.lookup(lambda connection: _status(connection, issuers, serial))

    async def contents(self, key: ListKey, since: int) -> ListContents:
        """What the next list of a partition holds: all but what expired, and was revoked, before `since`."""
        return await self._database.read(lambda connection: _contents(connection, key, since))

    async def newest_revocations(self) -> dict[ListKey, int]:
        """For each partition with revocations, the id of the newest one."""
        return await self._database.read(_newest_revocations)

    async def store_crl(self, key: ListKey, published: Published) -> None:
        """Put a signed list on record in place of the one before. Raises StorageUnavailable: then nobody may get it."""
        await self._database.write(lambda connection: _store_crl(connection, key, published))

    async def crls(self) -> dict[ListKey, Published]:
        """The newest list of each partition."""
        return await self._database.read(_crls)

    async def reserve_responder(self, reservation: ResponderReservation) -> int:
        """Put a responder's serial number on record; returns its row. Raises StorageUnavailable: sign nothing then."""
        return await self._database.write(lambda connection: _reserve_responder(connection, reservation))

    async def store_responder(self, row: int, certificate: bytes, issued_at: int) -> None:
        """Put the certificate (DER) of a responder on record. Raises StorageUnavailable."""
        await self._database.write(lambda connection: _store_responder(connection, row, certificate, issued_at))


_COLUMNS: Final = "serial, issuer, partition, revoked_at, reason, not_after, requester, trace"
_INSERT: Final = (
    f"INSERT INTO revocations ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - constants
    "ON CONFLICT (serial) DO NOTHING RETURNING id"
)


def _revoke(connection: sqlite3.Connection, revocation: Revocation) -> Revocation:
    if connection.execute(_INSERT, _values(revocation)).fetchone() is not None:
        return revocation
    earlier = _revocation(connection, revocation.serial)
    return revocation if earlier is None else earlier


def _take_over(connection: sqlite3.Connection, revocations: Sequence[Revocation]) -> list[Revocation]:
    return [one for one in revocations if connection.execute(_INSERT, _values(one)).fetchone() is not None]


def _values(revocation: Revocation) -> tuple[str | int, ...]:
    return (
        revocation.serial,
        revocation.issuer,
        revocation.partition,
        revocation.revoked_at,
        revocation.reason,
        revocation.not_after,
        revocation.requester,
        revocation.trace,
    )


def _of(columns: Sequence[Any]) -> Revocation:
    return Revocation(*columns)


def _revocation(connection: sqlite3.Connection, serial: str) -> Revocation | None:
    columns = connection.execute(
        f"SELECT {_COLUMNS} FROM revocations WHERE serial = ?",  # noqa: S608 - constants
        (serial,),
    ).fetchone()
    return None if columns is None else _of(columns)


def _on_record(connection: sqlite3.Connection, serial: str) -> OnRecord | None:
    row = connection.execute(
        "SELECT issuer, not_after, certificate FROM certificates WHERE serial = ? AND state <> 'responder'", (serial,)
    ).fetchone()
    return None if row is None else OnRecord(*row)


def _status(connection: sqlite3.Connection, issuers: Sequence[str], serial: str) -> Status:
    """A revocation counts also without a row of the certificate: that may have been lost with a restored backup."""
    revoked = connection.execute(
        "SELECT issuer, revoked_at, reason FROM revocations WHERE serial = ?", (serial,)
    ).fetchone()
    if revoked is not None and revoked[0] in issuers:
        return Status("revoked", revoked[1], cast(RevocationReason, revoked[2]))
    found = connection.execute("SELECT issuer FROM certificates WHERE serial = ?", (serial,)).fetchone()
    return Status("good" if found is not None and found[0] in issuers else "unknown")


def _contents(connection: sqlite3.Connection, key: ListKey, since: int) -> ListContents:
    rows = connection.execute(
        "SELECT serial, revoked_at, reason FROM revocations "
        "WHERE issuer = ? AND partition = ? AND max(not_after, revoked_at) >= ?",
        (*key, since),
    ).fetchall()
    entries = tuple(Entry(int(serial, 16), revoked_at, reason) for serial, revoked_at, reason in rows)
    (covered,) = connection.execute("SELECT coalesce(max(id), 0) FROM revocations").fetchone()
    return ListContents(entries, int(covered))


def _newest_revocations(connection: sqlite3.Connection) -> dict[ListKey, int]:
    rows = connection.execute("SELECT issuer, partition, max(id) FROM revocations GROUP BY issuer, partition")
    return {(issuer, partition): newest for issuer, partition, newest in rows}


def _store_crl(connection: sqlite3.Connection, key: ListKey, published: Published) -> None:
    changed = connection.execute(
        "INSERT INTO crls (issuer, partition, number, this_update, next_update, covered, urls, der) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (issuer, partition) DO UPDATE SET number = excluded.number, "
        "this_update = excluded.this_update, next_update = excluded.next_update, covered = excluded.covered, "
        "urls = excluded.urls, der = excluded.der WHERE excluded.number > crls.number RETURNING number",
        (
            *key,
            published.number,
            published.this_update,
            published.next_update,
            published.covered,
            msgspec.json.encode(published.urls).decode(),
            published.der,
        ),
    ).fetchone()
    if changed is None:
        raise ValueError(f"list {published.number} of {key} is not newer than the one on record")


_urls_of = msgspec.json.Decoder(tuple[str, ...]).decode


def _crls(connection: sqlite3.Connection) -> dict[ListKey, Published]:
    rows = connection.execute(
        "SELECT issuer, partition, der, number, this_update, next_update, covered, urls FROM crls"
    )
    return {
        (issuer, partition): Published(der, number, this_update, next_update, covered, _urls_of(urls))
        for issuer, partition, der, number, this_update, next_update, covered, urls in rows
    }


def _reserve_responder(connection: sqlite3.Connection, reservation: ResponderReservation) -> int:
    row = connection.execute(
        "INSERT INTO certificates (serial, state, issuer, profile, subject, names, requester, not_before, not_after, "
        "reserved_at) VALUES (?, 'reserved', ?, ?, '', '[]', 'service:ca', ?, ?, ?) RETURNING id",
        (
            reservation.serial,
            reservation.issuer,
            RESPONDER_PROFILE,
            reservation.not_before,
            reservation.not_after,
            reservation.reserved_at,
        ),
    ).fetchone()
    return int(row[0])


def _store_responder(connection: sqlite3.Connection, row: int, certificate: bytes, issued_at: int) -> None:
    changed = connection.execute(
        "UPDATE certificates SET state = 'responder', certificate = ?, issued_at = ? "
        "WHERE id = ? AND state = 'reserved' RETURNING id",
        (certificate, issued_at, row),
    ).fetchone()
    if changed is None:
        raise ValueError(f"row {row} is not reserved")
