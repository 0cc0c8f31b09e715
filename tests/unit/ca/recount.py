"""What is counted about the record, and the same counted again from the certificates alone."""

import json
import sqlite3
from typing import Any

from services.ca.inventory.storage import add_names

Found = dict[str, Any]

_RECOUNTS = {
    "profile": "SELECT profile, count(*) FROM certificates WHERE state = 'issued' GROUP BY profile",
    "requester": "SELECT requester, count(*) FROM certificates WHERE state = 'issued' GROUP BY requester",
    "issuer": "SELECT issuer, count(*) FROM certificates WHERE state = 'issued' GROUP BY issuer",
    "hours": "SELECT not_after / 3600, count(*) FROM certificates WHERE state = 'issued' GROUP BY not_after / 3600",
}
_REVOKED = "EXISTS (SELECT 1 FROM revocations AS r WHERE r.serial = c.serial)"


def put(connection: sqlite3.Connection, row: int, names: tuple[str, ...], at: int) -> None:
    """Store a certificate in a reserved row, as far as the inventory has to do with it."""
    connection.execute(
        "UPDATE certificates SET state = 'issued', certificate = x'00', issued_at = ? WHERE id = ?", (at, row)
    )
    add_names(connection, row, names)


def counted(connection: sqlite3.Connection) -> Found:
    """What the tables say."""
    found: Found = {
        facet: dict(connection.execute("SELECT value, certificates FROM tallies WHERE facet = ?", (facet,)))
        for facet in ("profile", "requester", "issuer")
    }
    revoked = connection.execute("SELECT certificates FROM tallies WHERE facet = 'status'").fetchone()
    hours = connection.execute("SELECT hour, certificates, unrenewed FROM expiry_hours").fetchall()
    return found | {
        "revoked": 0 if revoked is None else revoked[0],
        "hours": {hour: certificates for hour, certificates, _ in hours if certificates},
        "unrenewed hours": {hour: unrenewed for hour, _, unrenewed in hours if unrenewed},
        "unrenewed": {row[0] for row in connection.execute("SELECT id FROM unrenewed")},
        "name rows": set(connection.execute("SELECT name, id FROM names")),
        "domain rows": set(connection.execute("SELECT domain, id FROM domains")),
    }


def recounted(connection: sqlite3.Connection) -> Found:
    """What the certificates say, looked at one by one."""
    found: Found = {name: dict(connection.execute(sql)) for name, sql in _RECOUNTS.items()}
    rows = connection.execute(
        f"SELECT c.id, c.profile, c.names, c.not_after, {_REVOKED} FROM certificates AS c WHERE c.state = 'issued'"
    ).fetchall()
    newest: dict[tuple[str, frozenset[str]], tuple[int, int]] = {}
    names, domains = set(), set()
    for row, profile, text, not_after, revoked in rows:
        lowered = frozenset(name.lower() for name in _decoded(text))
        names |= {(name, row) for name in lowered}
        domains |= {(f"{name[::-1]}.", row) for name in lowered if _is_dns(name)}
        if not revoked:
            newest[profile, lowered] = max(newest.get((profile, lowered), (0, 0)), (not_after, row))
    unrenewed_hours: dict[int, int] = {}
    for not_after, _ in newest.values():
        unrenewed_hours[not_after // 3600] = unrenewed_hours.get(not_after // 3600, 0) + 1
    return found | {
        "revoked": sum(row[4] for row in rows),
        "unrenewed hours": unrenewed_hours,
        "unrenewed": {row for _, row in newest.values()},
        "name rows": names,
        "domain rows": domains,
    }


def _decoded(text: str) -> list[str]:
    names: list[str] = json.loads(text)
    return names


def _is_dns(name: str) -> bool:
    return not any(character in name for character in ":/@") and not name.replace(".", "").isdigit()
