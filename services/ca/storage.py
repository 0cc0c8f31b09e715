"""What the certificate authority keeps: one row for each serial number, one for each name of each certificate.

The promise, in words: when `reserve` returns, the serial number and what it was reserved for are on the disk; when
`store` returns, the certificate is. So nothing is ever signed that has no row, no serial number is used twice, and
every certificate that somebody was given is here, after any crash.

Rules:
- A row is written as `reserved`, with everything that will be signed, and becomes `issued` together with the
  certificate. A crash in between leaves it `reserved`: evidence that something may have been signed, which is never
  removed, used again, or filled in later.
- Names are stored in lower case and only with the certificate: the lists see nothing but what was issued.
- Lists walk an index from where the last page ended (`listing.py`). What is counted is counted by triggers
  (`inventory_storage.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from services.ca import inventory_storage, listing
from services.ca.inventory_storage import InventoryStorage
from services.ca.listing import Position, Query
from services.ca.messages import RevocationReason
from services.database import Database

# What a page may weigh in octets, as reckoned by `Issued.weight`: a reply has to fit into one message between workers.
MAX_PAGE_OCTETS: Final = 524_288

# Only ever appended to. `issuer` is the serial number of the issuing certificate.
MIGRATIONS: Final = (
    """
    CREATE TABLE certificates (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        issuer TEXT NOT NULL,
        profile TEXT NOT NULL,
        subject TEXT NOT NULL,
        names TEXT NOT NULL,
        requester TEXT NOT NULL,
        not_before INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        reserved_at INTEGER NOT NULL,
        issued_at INTEGER,
        certificate BLOB,
        CHECK (state = 'reserved' OR (issued_at IS NOT NULL AND certificate IS NOT NULL))
    ) STRICT;
    CREATE TABLE names (
        name TEXT NOT NULL,
        id INTEGER NOT NULL REFERENCES certificates (id),
        PRIMARY KEY (name, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX issued_by_expiry ON certificates (not_after, id) WHERE state = 'issued';
    CREATE INDEX issued_by_profile ON certificates (profile, id) WHERE state = 'issued';
    CREATE INDEX reserved ON certificates (id) WHERE state = 'reserved';
    """,
    """
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
    """,
    inventory_storage.MIGRATION,
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A serial number and what it is reserved for. Times are seconds since the Unix epoch."""

    serial: str
    issuer: str
    profile: str
    subject: str
    names: tuple[str, ...]
    requester: str
    not_before: int
    not_after: int
    reserved_at: int


@dataclass(frozen=True, slots=True)
class Issued:
    """One stored certificate, DER, with what is known of it."""

    serial: str
    issuer: str
    profile: str
    subject: str
    names: tuple[str, ...]
    not_before: int
    not_after: int
    issued_at: int
    certificate: bytes
    revoked_at: int | None = None
    reason: RevocationReason | None = None

    @property
    def weight(self) -> int:
        """About how many octets it takes in a reply: PEM is four thirds of DER, the chain and the rest some KiB."""
        texts = (self.subject, *self.names)
        return 4096 + 2 * len(self.certificate) + sum(len(text.encode("utf-8")) for text in texts)


@dataclass(frozen=True, slots=True)
class Page:
    """Certificates in the order of the query. `next_cursor` is None when there are no more."""

    certificates: tuple[Issued, ...]
    next_cursor: str | None


class Storage:
    """The authority's record over an open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, reservation: Reservation) -> int:
        """Put a serial number on record; returns its row. Raises StorageUnavailable: then nothing may be signed."""
        return await self._database.write(lambda connection: _reserve(connection, reservation))

    async def store(self, row: int, certificate: bytes, issued_at: int) -> None:
        """Put the certificate (DER) of a reserved row on record. Raises StorageUnavailable: then nobody may get it."""
        await self._database.write(lambda connection: _store(connection, row, certificate, issued_at))

    def get(self, serial: str) -> Issued | None:
        """The certificate with this serial number, if it was issued."""
        return self._database.lookup(lambda connection: _get(connection, serial))

    async def page(self, query: Query, limit: int) -> Page:
        """One page of at most `limit` certificates."""
        return await self._database.read(lambda connection: _page(connection, query, limit))

    async def unfinished(self) -> int:
        """How many serial numbers are reserved without a certificate."""
        return await self._database.read(_count_reserved)

    async def is_empty(self) -> bool:
        """Whether no serial number was ever put on record."""
        return await self._database.read(_is_empty)

    def inventory(self) -> InventoryStorage:
        """What is counted about the record, in the same database."""
        return InventoryStorage(self._database)

    async def probe(self) -> None:
        """One small durable write. Raises StorageUnavailable or DatabaseCorrupt."""
        await self._database.probe()

    async def close(self) -> None:
        """Finish what waits, and close."""
        await self._database.close()


_COLUMNS: Final = (
    "c.serial, c.issuer, c.profile, c.subject, c.names, c.not_before, c.not_after, c.issued_at, c.certificate, "
    "(SELECT revoked_at FROM revocations WHERE serial = c.serial), "
    "(SELECT reason FROM revocations WHERE serial = c.serial)"
)
_names_of = msgspec.json.Decoder(tuple[str, ...]).decode


def _reserve(connection: sqlite3.Connection, reservation: Reservation) -> int:
    row = connection.execute(
        "INSERT INTO certificates (serial, state, issuer, profile, subject, names, requester, not_before, not_after, "
        "reserved_at) VALUES (?, 'reserved', ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            reservation.serial,
            reservation.issuer,
            reservation.profile,
            reservation.subject,
            msgspec.json.encode(reservation.names).decode(),
            reservation.requester,
            reservation.not_before,
            reservation.not_after,
            reservation.reserved_at,
        ),
    ).fetchone()
    return int(row[0])


def _store(connection: sqlite3.Connection, row: int, certificate: bytes, issued_at: int) -> None:
    changed = connection.execute(
        "UPDATE certificates SET state = 'issued', certificate = ?, issued_at = ? WHERE id = ? AND state = 'reserved' "
        "RETURNING names",
        (certificate, issued_at, row),
    ).fetchone()
    if changed is None:
        raise ValueError(f"row {row} is not reserved")
    inventory_storage.add_names(connection, row, _names_of(changed[0]))


def _get(connection: sqlite3.Connection, serial: str) -> Issued | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM certificates AS c WHERE c.serial = ? AND c.state = 'issued'",  # noqa: S608 - constants
        (serial,),
    ).fetchone()
    return None if row is None else _issued(row)


def _page(connection: sqlite3.Connection, query: Query, limit: int) -> Page:
    """Walk until the page is full, by number or by weight, or until enough rows were looked at for one page."""
    rows = connection.execute(
        f"SELECT {query.key}, {query.row}, c.state = 'issued' AND {query.matches}, {_COLUMNS} FROM {query.walked}",  # noqa: S608 - constants
        query.parameters,
    )
    found: list[Issued] = []
    room = MAX_PAGE_OCTETS
    examined = 0
    last = Position(0, 0)
    for key, row, matches, *columns in rows:
        if matches and (query.domain is None or query.answers(key, _names_of(columns[4]))):
            issued = _issued(columns)
            room -= issued.weight
            if len(found) == limit or (found and room < 0):
                return Page(tuple(found), listing.next_cursor(query.order, last))
            found.append(issued)
        examined += 1
        last = Position(key, row)
    more = examined == query.parameters["examined"]
    return Page(tuple(found), listing.next_cursor(query.order, last) if more else None)


def _issued(columns: Sequence[Any]) -> Issued:
    serial, issuer, profile, subject, names, *rest = columns
    return Issued(serial, issuer, profile, subject, _names_of(names), *rest)


def _count_reserved(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM certificates WHERE state = 'reserved'").fetchone()
    return int(count)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM certificates LIMIT 1").fetchone() is None
