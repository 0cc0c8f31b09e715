"""What the certificate authority keeps: one row for each serial number, one for each name of each certificate.

The promise, in words: when `reserve` returns, the serial number and what it was reserved for are on the disk; when
`store` returns, the certificate is, with its precertificate and timestamp. So nothing is ever signed that has no row,
no serial number is used twice, and every certificate that somebody was given is here, after any crash.

Rules:
- A row is written as `reserved`, with everything that will be signed, and becomes `issued` together with the
  certificate. A crash in between leaves it `reserved`: evidence that something may have been signed, which is never
  removed, used again, or filled in later. Its precertificate, if one was signed and logged, is in the log.
- What a lint objected to after it was signed is kept as `quarantined`, with all that was signed and the findings. It is
  given to nobody, and stays.
- Names are stored in lower case and only with the certificate: the lists see nothing but what was issued.
- Lists walk an index from where the last page ended (`listing.py`). What is counted is counted by triggers
  (`inventory/storage.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from services.ca.inventory import listing
from services.ca.inventory import storage as inventory_storage
from services.ca.inventory.listing import Position, Query
from services.ca.inventory.storage import InventoryStorage
from services.ca.issuance.certification import Logged, Quarantined
from services.ca.messages import RevocationReason
from services.ca.reconciliation import storage as reconciliation_storage
from services.ca.reconciliation.storage import ReconciliationStorage
from services.ca.status import storage as status_storage
from services.ca.status.storage import StatusStorage
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
    # 2: precertificates, timestamps, and what was found wrong. SQLite cannot change a CHECK, so the rows move, and with
    # them those that refer to them.
    """
    CREATE TABLE certificates_2 (
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
        precertificate BLOB,
        sct BLOB,
        leaf_index INTEGER,
        findings TEXT,
        CHECK (state IN ('reserved', 'issued', 'quarantined', 'responder')),
        CHECK (state != 'issued' OR (issued_at IS NOT NULL AND certificate IS NOT NULL)),
        CHECK ((state = 'quarantined') = (findings IS NOT NULL)),
        CHECK (sct IS NULL OR (leaf_index IS NOT NULL AND precertificate IS NOT NULL))
    ) STRICT;
    INSERT INTO certificates_2
        SELECT id, serial, state, issuer, profile, subject, names, requester, not_before, not_after, reserved_at,
            issued_at, certificate, NULL, NULL, NULL, NULL
        FROM certificates;
    CREATE TABLE names_2 (
        name TEXT NOT NULL,
        id INTEGER NOT NULL REFERENCES certificates_2 (id),
        PRIMARY KEY (name, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO names_2 SELECT name, id FROM names;
    DROP TABLE names;
    DROP TABLE certificates;
    ALTER TABLE certificates_2 RENAME TO certificates;
    ALTER TABLE names_2 RENAME TO names;
    CREATE INDEX issued_by_expiry ON certificates (not_after, id) WHERE state = 'issued';
    CREATE INDEX issued_by_profile ON certificates (profile, id) WHERE state = 'issued';
    CREATE INDEX reserved ON certificates (id) WHERE state = 'reserved';
    CREATE INDEX quarantined ON certificates (id) WHERE state = 'quarantined';
    """,
    status_storage.MIGRATION,
    inventory_storage.MIGRATION,
    reconciliation_storage.MIGRATION,
    reconciliation_storage.ACCEPTANCE_MIGRATION,
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
    """One stored certificate, DER, with what is known of it. `logged` is None for a profile without transparency."""

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
    logged: Logged | None = None

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

    async def store(self, row: int, certificate: bytes, issued_at: int, logged: Logged | None = None) -> None:
        """Put the certificate (DER) of a reserved row on record. Raises StorageUnavailable: then nobody may get it."""
        await self._database.write(lambda connection: _store(connection, row, certificate, issued_at, logged))

    async def quarantine(self, row: int, quarantined: Quarantined) -> None:
        """Put what is wrong with a reserved row on record, for ever. Raises StorageUnavailable: it stays reserved."""
        await self._database.write(lambda connection: _quarantine(connection, row, quarantined))

    def get(self, serial: str) -> Issued | None:
        """The certificate with this serial number, if it was issued, and what the log promised."""
        return self._database.lookup(lambda connection: _get(connection, serial))

    async def page(self, query: Query, limit: int) -> Page:
        """One page of at most `limit` certificates, without what the log promised of each."""
        return await self._database.read(lambda connection: _page(connection, query, limit))

    def unfinished(self) -> int:
        """How many serial numbers are reserved without a certificate."""
        return self._database.lookup(lambda connection: _count(connection, "reserved"))

    def quarantined(self) -> int:
        """How many serial numbers are kept from everybody because of a finding."""
        return self._database.lookup(lambda connection: _count(connection, "quarantined"))

    async def is_empty(self) -> bool:
        """Whether no serial number was ever put on record."""
        return await self._database.read(_is_empty)

    def status(self) -> StatusStorage:
        """The record of revocation, in the same database."""
        return StatusStorage(self._database)

    def reconciliation(self) -> ReconciliationStorage:
        """What the reconciler keeps, in the same database."""
        return ReconciliationStorage(self._database)

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
_LOGGED: Final = "c.precertificate, c.sct, c.leaf_index"
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


def _store(connection: sqlite3.Connection, row: int, certificate: bytes, issued_at: int, logged: Logged | None) -> None:
    proof = (None, None, None) if logged is None else (logged.precertificate, logged.sct, logged.leaf_index)
    changed = connection.execute(
        "UPDATE certificates SET state = 'issued', certificate = ?, issued_at = ?, precertificate = ?, sct = ?, "
        "leaf_index = ? WHERE id = ? AND state = 'reserved' RETURNING names",
        (certificate, issued_at, *proof, row),
    ).fetchone()
    if changed is None:
        raise ValueError(f"row {row} is not reserved")
    inventory_storage.add_names(connection, row, _names_of(changed[0]))


def _quarantine(connection: sqlite3.Connection, row: int, quarantined: Quarantined) -> None:
    changed = connection.execute(
        "UPDATE certificates SET state = 'quarantined', findings = ?, precertificate = ?, certificate = ? "
        "WHERE id = ? AND state = 'reserved'",
        (
            msgspec.json.encode(quarantined.findings).decode(),
            quarantined.precertificate,
            quarantined.certificate,
            row,
        ),
    )
    if changed.rowcount != 1:
        raise ValueError(f"row {row} is not reserved")


def _get(connection: sqlite3.Connection, serial: str) -> Issued | None:
    row = connection.execute(
        f"SELECT {_COLUMNS}, {_LOGGED} FROM certificates AS c "  # noqa: S608 - constants
        "WHERE c.serial = ? AND c.state = 'issued'",
        (serial,),
    ).fetchone()
    if row is None:
        return None
    *columns, precertificate, sct, leaf_index = row
    return _issued(columns, None if sct is None else Logged(precertificate, sct, leaf_index))


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


def _issued(columns: Sequence[Any], logged: Logged | None = None) -> Issued:
    serial, issuer, profile, subject, names, *rest, revoked_at, reason = columns
    return replace(
        Issued(serial, issuer, profile, subject, _names_of(names), *rest),
        revoked_at=revoked_at,
        reason=reason,
        logged=logged,
    )


def _count(connection: sqlite3.Connection, state: Literal["reserved", "quarantined"]) -> int:
    # The state as a literal: with a parameter the partial index would not be used.
    query = f"SELECT count(*) FROM certificates WHERE state = '{state}'"  # noqa: S608 - one of two constants
    (count,) = connection.execute(query).fetchone()
    return int(count)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM certificates LIMIT 1").fetchone() is None
