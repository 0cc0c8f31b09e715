"""Rows as issuance leaves them, put into a record by hand."""

import sqlite3
from collections.abc import Iterable

import msgspec

from services.ca.reconciliation.reconciliation import RecordRow
from tests.unit.ca.authorities import NOW

COLUMNS = (
    "serial",
    "state",
    "issuer",
    "profile",
    "subject",
    "names",
    "not_before",
    "not_after",
    "issued_at",
    "certificate",
    "precertificate",
    "sct",
    "leaf_index",
)


def insert(connection: sqlite3.Connection, rows: Iterable[RecordRow]) -> None:
    """Put these rows on record."""
    connection.executemany(
        f"INSERT INTO certificates ({', '.join(COLUMNS)}, requester, reserved_at) "
        f"VALUES ({'?, ' * len(COLUMNS)} 'a test', {NOW})",
        [[_value(row, column) for column in COLUMNS] for row in rows],
    )


def _value(row: RecordRow, column: str) -> object:
    return msgspec.json.encode(row.names).decode() if column == "names" else getattr(row, column)
