"""Opening a database of the tree to read it, beside the running tree or without one.

Rules:
- Nothing is written. A database without a write-ahead log is opened as one that nobody changes: SQLite would otherwise
  create the log beside it, in the name of whoever audits. If the tree starts meanwhile, what was read may be torn: that
  is noticed at the end, and the audit has to be run again.
- With a write-ahead log (the tree runs, or was killed) SQLite reads it too, and takes part in the locking.
- What cannot be read is AuditImpossible: an answer would be about something else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services import database_file
from services.errors import ConfigurationError


class AuditImpossible(ConfigurationError):
    """The files cannot be read, or are not those of this version. The text says what to do."""


@contextmanager
def open_database(path: Path, schema: int) -> Iterator[sqlite3.Connection]:
    """A database whose schema has this number. Raises AuditImpossible."""
    if not path.exists():
        raise AuditImpossible(f"there is no {path}: is this the data directory? See --data-dir")
    alone = not database_file.has_log(path)
    try:
        connection = database_file.open_beside(path)
        try:
            _check(connection, path, schema)
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise AuditImpossible(f"{path} cannot be read: {error}; run this as the user of the service") from error
    if alone and database_file.has_log(path):
        raise AuditImpossible("the tree was started while its files were read: run the audit again")


def _check(connection: sqlite3.Connection, path: Path, schema: int) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != schema:
        raise AuditImpossible(
            f"{path} has the schema {found}, this version reads {schema}: start the tree once with this version, or "
            "audit with the version that wrote it"
        )
