"""What is counted about the record, read in constant time, and the deletion of what is kept no longer.

The promise, in words: counts and record change in one transaction, so they agree after any crash. When `delete_expired`
returns, its certificates and everything that found them are gone, and the record says from where on it is complete.

Rules:
- Counts are kept by triggers (`migration.py`); `add_names` belongs to the write that stores a certificate.
- What ends within a time is the sum of whole hours and, at the two edges, a walk of the index by expiry: it takes as
  long as one hour has certificates, however many there are in all.
- A certificate that is deleted had expired. One that was revoked stays for REVOKED_KEPT_SECONDS after both its end and
  its revocation, longer than it is on any list (RFC 5280, section 3.3). Nothing but what was issued is ever deleted.
- The file does not shrink: SQLite uses its free pages for what comes next. VACUUM would copy the whole record while
  nothing can be issued.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

import msgspec

from services.ca.inventory.listing import backwards
from services.ca.inventory.migration import MIGRATION
from services.database import Database

__all__ = ("MIGRATION", "REVOKED_KEPT_SECONDS", "Batch", "Counts", "Ending", "InventoryStorage", "Leaf", "add_names")

REVOKED_KEPT_SECONDS: Final = 30 * 86_400
DAYS_TOLD: Final = 31
_DIGEST_OCTETS: Final = 16
_HOUR: Final = 3_600
_DAY: Final = 86_400


Tallies = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """Certificates that end within `seconds` from now, and those of them that nothing has renewed."""

    seconds: int
    certificates: int
    unrenewed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The record in numbers. Tallies are (value, certificates), the largest first; days are since the Unix epoch."""

    issued: int
    revoked: int
    valid: int
    reserved: int
    profiles: Tallies
    issuers: Tallies
    requesters: Tallies
    ending: tuple[Ending, ...]
    days: tuple[tuple[int, int], ...]
    first_day: int
    deleted: int
    complete_from: int
    used: int
    unused: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate that was issued. Times are seconds since the Unix epoch."""

    serial: str
    names: tuple[str, ...]
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one deletion did: how many certificates, and where it stopped; None when nothing is left to delete."""

    deleted: int
    position: tuple[int, int] | None


class InventoryStorage:
    """The counts of the record, over its open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self, now: int, within: Sequence[int], top: int) -> Counts:
        """The record in numbers, at one moment. `within`: for which times from `now` to say what ends, in seconds."""
        return await self._database.read(lambda connection: _counts(connection, now, within, top))

    async def ending(self, first: int, last: int) -> Ending:
        """What ends from second `first` to second `last`, both included."""
        return await self._database.read(lambda connection: _ending(connection, first, last, last - first))

    async def unrenewed(self, first: int, last: int, limit: int) -> list[Leaf]:
        """Certificates that end from `first` to `last` and that nothing has renewed, soonest first."""
        return await self._database.read(lambda connection: _unrenewed(connection, first, last, limit))

    async def newest_of(self, requester: str) -> Leaf | None:
        """The certificate that this requester got last."""
        return await self._database.read(lambda connection: _newest_of(connection, requester))

    async def delete_expired(self, before: int, now: int, after: tuple[int, int], limit: int) -> Batch:
        """Delete at most `limit` certificates that ended before `before`, beginning after the position `after`.

        `now` says which of the revoked may go. Raises StorageUnavailable: then nothing was acknowledged as deleted.
        """
        return await self._database.write(lambda connection: _delete_expired(connection, before, now, after, limit))


_names_of = msgspec.json.Decoder(tuple[str, ...]).decode


def add_names(connection: sqlite3.Connection, row: int, names: Iterable[str]) -> None:
    """Make an issued certificate findable by its names: part of the write that stores it."""
    lowered = sorted({name.lower() for name in names})
    connection.executemany("INSERT INTO names (name, id) VALUES (?, ?)", [(name, row) for name in lowered])
    connection.executemany(
        "INSERT INTO domains (domain, id) VALUES (?, ?)", [(name, row) for name in backwards(lowered)]
    )
    profile, not_after, revoked = connection.execute(
        "SELECT profile, not_after, EXISTS (SELECT 1 FROM revocations WHERE serial = c.serial) "
        "FROM certificates AS c WHERE id = ?",
        (row,),
    ).fetchone()
    connection.execute(
        "INSERT INTO name_sets (id, digest, not_after, revoked) VALUES (?, ?, ?, ?)",
        (row, _digest(profile, lowered), not_after, revoked),
    )


def _digest(profile: str, lowered: Sequence[str]) -> bytes:
    """Equal for equal profiles and sets of names. The migration makes the same."""
    text = profile + "".join(f"\n{name}" for name in lowered)
    return sha256(text.encode("utf-8")).digest()[:_DIGEST_OCTETS]


def _counts(connection: sqlite3.Connection, now: int, within: Sequence[int], top: int) -> Counts:
    (issued,) = connection.execute(_SUM.format("profile")).fetchone()
    (revoked,) = connection.execute(_SUM.format("status")).fetchone()
    (reserved,) = connection.execute("SELECT count(*) FROM certificates WHERE state = 'reserved'").fetchone()
    deleted, complete_from = connection.execute("SELECT deleted, complete_from FROM retention").fetchone()
    first_day = connection.execute("SELECT day FROM issue_days ORDER BY day LIMIT 1").fetchone()
    days = connection.execute(
        "SELECT day, certificates FROM issue_days WHERE day > ? ORDER BY day", (now // _DAY - DAYS_TOLD,)
    )
    (pages,), (unused,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return Counts(
        issued=issued,
        revoked=revoked,
        valid=_ending(connection, now, None, 0).certificates,
        reserved=reserved,
        profiles=_largest(connection, "profile", top),
        issuers=_largest(connection, "issuer", top),
        requesters=tuple(connection.execute(_LARGEST_REQUESTERS, (top,)).fetchall()),
        ending=tuple(_ending(connection, now, now + seconds, seconds) for seconds in within),
        days=tuple(days.fetchall()),
        first_day=now // _DAY if first_day is None else first_day[0],
        deleted=deleted,
        complete_from=complete_from,
        used=(pages - unused) * size,
        unused=unused * size,
    )


_SUM: Final = "SELECT coalesce(sum(certificates), 0) FROM tallies WHERE facet = '{}'"
_LARGEST: Final = "SELECT value, certificates FROM tallies WHERE facet = ? ORDER BY certificates DESC LIMIT ?"
# The facet as a literal: with a parameter the partial index could not be used.
_LARGEST_REQUESTERS: Final = (
    "SELECT value, certificates FROM tallies INDEXED BY requesters_by_size WHERE facet = 'requester' "
    "ORDER BY certificates DESC LIMIT ?"
)


def _largest(connection: sqlite3.Connection, facet: Literal["profile", "issuer"], top: int) -> Tallies:
    return tuple(connection.execute(_LARGEST, (facet, top)).fetchall())


def _ending(connection: sqlite3.Connection, first: int, last: int | None, seconds: int) -> Ending:
    """Whole hours by their counts, what is left of the first and the last hour by the index."""
    begin = -(-first // _HOUR)
    end = _FOREVER if last is None else (last + 1) // _HOUR
    if begin >= end:
        stretches = [(first, _FOREVER if last is None else last)]
    else:
        stretches = [(first, begin * _HOUR - 1), *([] if last is None else [(end * _HOUR, last)])]
    totals = list(
        connection.execute(
            "SELECT coalesce(sum(certificates), 0), coalesce(sum(unrenewed), 0) FROM expiry_hours "
            "WHERE hour >= ? AND hour < ?",
            (begin, end),
        ).fetchone()
    )
    for stretch in stretches:
        for place, sql in enumerate(_COUNT_STRETCH):
            totals[place] += connection.execute(sql, stretch).fetchone()[0]
    return Ending(seconds, *totals)


_FOREVER: Final = 2**62
_COUNT_STRETCH: Final = (
    (
        "SELECT count(*) FROM certificates INDEXED BY issued_by_expiry "
        "WHERE state = 'issued' AND not_after BETWEEN ? AND ?"
    ),
    "SELECT count(*) FROM unrenewed INDEXED BY unrenewed_by_expiry WHERE not_after BETWEEN ? AND ?",
)
_LEAF: Final = "c.serial, c.names, c.not_before, c.not_after"


def _unrenewed(connection: sqlite3.Connection, first: int, last: int, limit: int) -> list[Leaf]:
    rows = connection.execute(
        f"SELECT {_LEAF} FROM unrenewed AS u INDEXED BY unrenewed_by_expiry "  # noqa: S608 - constants
        "CROSS JOIN certificates AS c ON c.id = u.id "
        "WHERE u.not_after BETWEEN ? AND ? ORDER BY u.not_after, u.id LIMIT ?",
        (first, last, limit),
    )
    return [Leaf(serial, _names_of(names), *times) for serial, names, *times in rows]


def _newest_of(connection: sqlite3.Connection, requester: str) -> Leaf | None:
    row = connection.execute(
        f"SELECT {_LEAF} FROM certificates AS c INDEXED BY issued_by_requester "  # noqa: S608 - constants
        "WHERE c.state = 'issued' AND c.requester = ? ORDER BY c.id DESC LIMIT 1",
        (requester,),
    ).fetchone()
    return None if row is None else Leaf(row[0], _names_of(row[1]), row[2], row[3])


_EXPIRED: Final = (
    "SELECT c.id, c.not_after, c.names, EXISTS (SELECT 1 FROM revocations WHERE serial = c.serial "
    "AND max(revoked_at, c.not_after) >= :revoked_before) FROM certificates AS c INDEXED BY issued_by_expiry "
    "WHERE c.state = 'issued' AND c.not_after >= :first AND c.not_after < :before "
    "AND (c.not_after, c.id) > (:first, :row) ORDER BY c.not_after, c.id LIMIT :limit"
)


def _delete_expired(connection: sqlite3.Connection, before: int, now: int, after: tuple[int, int], limit: int) -> Batch:
    first, row = after
    revoked_before = min(before, now - REVOKED_KEPT_SECONDS)
    parameters = {"revoked_before": revoked_before, "first": first, "before": before, "row": row, "limit": limit}
    found = connection.execute(_EXPIRED, parameters).fetchall()
    going = [(row, not_after, _names_of(names)) for row, not_after, names, kept in found if not kept]
    for row, _, names in going:
        lowered = {name.lower() for name in names}
        connection.executemany("DELETE FROM names WHERE name = ? AND id = ?", [(name, row) for name in lowered])
        connection.executemany(
            "DELETE FROM domains WHERE domain = ? AND id = ?", [(n, row) for n in backwards(lowered)]
        )
        connection.execute("DELETE FROM certificates WHERE id = ?", (row,))
    if going:
        connection.execute(
            "UPDATE retention SET deleted = deleted + ?, complete_from = max(complete_from, ?)",
            (len(going), going[-1][1] + 1),
        )
    return Batch(len(going), (found[-1][1], found[-1][0]) if len(found) == limit else None)
