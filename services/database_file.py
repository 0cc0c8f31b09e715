"""The database file: created whole or not at all, checked before anything in it is touched, brought to the schema.

Rules:
- A new database is built under another name, made durable, then renamed: a file under its own name is always complete.
  So an empty or headless file there is damage, never a start that was interrupted.
- What exists is looked at through a read-only connection first, which cannot write to the database nor to its log. Only
  a database that passed is opened for writing. Nothing is repaired, deleted or overwritten here.
- Each database carries a random identity (`application_id`, in its first page). Every generation of its log begins
  with a copy of that page (`database.py` sees to it), so that the log of another database is recognised as foreign.
- `PRAGMA quick_check` reads the whole file. Below FULL_CHECK_BYTES that takes up to 3 ms and is done before opening;
  a worker that was killed must be back sooner than a larger file can be read, so there it is done while serving.
- Migrations only ever get appended to. Each runs in one transaction together with its `user_version`, and may call
  `sha256(text)` and `reversed(text)` beside SQLite's own functions.
- SQLite's locks are POSIX locks: a process that closes any descriptor of the file loses them. Here the file is opened
  by other means only before the first connection exists, and nobody else may open it.
"""

import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from services.errors import ConfigurationError, DatabaseCorrupt, StorageUnavailable
from services.whole_files import sync_directory

FULL_CHECK_BYTES: Final = 1_048_576
BUSY_SECONDS: Final = 5.0
LOOKUP_BUSY_MILLISECONDS: Final = 20

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_STORAGE: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    }
)


def typed(error: Exception, path: Path) -> Exception:
    """The typed error for what SQLite or the file system said; what is neither storage nor damage stays as it is."""
    if isinstance(error, sqlite3.Error):
        code = _code(error)
        if code in _DAMAGE:
            return damaged(path, str(error))
        if code in _STORAGE:
            name = getattr(error, "sqlite_errorname", "")
            return StorageUnavailable(f"{path} cannot be written or read now: {error} ({name})")
    elif isinstance(error, OSError):
        return StorageUnavailable(f"{path} cannot be written or read now: {error.strerror or error}")
    return error


def fail(error: Exception, path: Path) -> NoReturn:
    """Raise what `typed` says."""
    known = typed(error, path)
    if known is error:
        raise error
    raise known from error


def is_storage_or_damage(error: Exception) -> bool:
    """Whether the fault lies with the file or the disk, and not with the statement."""
    return isinstance(error, sqlite3.Error) and _code(error) in _DAMAGE | _STORAGE


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)  # missing where the sqlite3 module itself objects
    return code & 0xFF


def damaged(path: Path, found: str) -> DatabaseCorrupt:
    """The error that tells the operator what was found and what to do."""
    return DatabaseCorrupt(
        f"the database {path} is damaged: {found}. Nothing in it was changed. Move it aside together with "
        f"{path.name}-wal and {path.name}-shm, put a backup in their place, and start the service again"
    )


def prepare(path: Path, migrations: Sequence[str]) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Create or check the database at `path`, and return its writing and one reading connection.

    Raises DatabaseCorrupt, ConfigurationError (written by a newer version) or StorageUnavailable.
    """
    try:
        if not path.exists():
            _create(path, migrations)
        identity = _identity(path)
        reader = open_reader(path)
        try:
            _inspect(reader, path, identity, len(migrations))
            writer = _open_writer(path)
            _migrate(writer, migrations)
        except BaseException:
            reader.close()
            raise
    except (sqlite3.Error, OSError) as error:
        fail(error, path)
    # From now on it is asked in the event loop, which may not be held up; nobody but its own writer could do that.
    reader.execute(f"PRAGMA busy_timeout = {LOOKUP_BUSY_MILLISECONDS}")
    return writer, reader


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also not to the log."""
    return _connect(path, "ro", ("PRAGMA query_only = ON",))


def open_beside(path: Path) -> sqlite3.Connection:
    """A connection of another program than the one that owns the database: it reads, and leaves no file behind.

    Without a log nobody has the database open, and it is read as one that never changes: SQLite would make the log, in
    the name of this program. Who reads looks afterwards whether a log has appeared (`has_log`), and then believes
    nothing.
    """
    return _connect(path, "ro" if has_log(path) else "ro&immutable=1", ("PRAGMA query_only = ON",))


def has_log(path: Path) -> bool:
    """Whether there is a write-ahead log with something in it."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Read and check every page. Raises DatabaseCorrupt."""
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.Error as error:
        fail(error, path)
    if found != ["ok"]:
        raise damaged(path, "; ".join(found).replace("\n", " "))


def _connect(path: Path, mode: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # each connection is used by one thread at a time; see database.py
        cached_statements=256,
    )
    try:
        for pragma in (
            *pragmas,
            "PRAGMA foreign_keys = ON",
            "PRAGMA trusted_schema = OFF",
            "PRAGMA temp_store = MEMORY",
        ):
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_writer(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "rw", ("PRAGMA synchronous = FULL", "PRAGMA wal_autocheckpoint = 4000"))
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        connection.close()
        raise ConfigurationError(f"{path} lies on a file system without shared memory: the write-ahead log needs it")
    return connection


def _create(path: Path, migrations: Sequence[str]) -> None:
    if os.path.lexists(f"{path}-wal") and os.path.getsize(f"{path}-wal"):
        raise damaged(path, "its write-ahead log is there, but the database itself is missing")
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
        sync_directory(path.parent.parent)
    unborn = Path(f"{path}.new")
    for suffix in _BESIDE:  # what an interrupted creation left; nobody was ever told that anything in it was stored
        Path(f"{unborn}{suffix}").unlink(missing_ok=True)
    os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with closing(_open_writer(unborn)) as connection:
            connection.execute(f"PRAGMA application_id = {secrets.randbelow(2**31 - 1) + 1}")
            _migrate(connection, migrations)
        os.rename(
            unborn, path
        )  # closing the last connection wrote everything to the file, durably, and removed the log
    except BaseException:
        with suppress(OSError):
            unborn.unlink()
        raise
    sync_directory(path.parent)


def _identity(path: Path) -> int:
    """The identity in the file's first page, whatever its log says. Makes the file private if it is not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    if not header:
        raise damaged(path, "the file is empty")
    if not header.startswith(_MAGIC):
        raise damaged(path, "the file is not an SQLite database")
    return int.from_bytes(header[68:72], "big")


def _inspect(reader: sqlite3.Connection, path: Path, identity: int, known: int) -> None:
    (seen,) = reader.execute("PRAGMA application_id").fetchone()
    if seen != identity:
        raise damaged(path, f"its write-ahead log belongs to another database ({seen:08x}, not {identity:08x})")
    (version,) = reader.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise ConfigurationError(
            f"the database {path} was written by a newer version of this program (schema {version}, this version knows "
            f"{known}). Nothing in it was changed. Install that version again, or put a backup in its place"
        )
    if version < 1:
        raise damaged(path, "it has no schema")
    if path.stat().st_size <= FULL_CHECK_BYTES:
        check_whole(reader, path)
    else:
        for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            quoted = name.replace('"', '""')
            reader.execute(f'SELECT * FROM "{quoted}" LIMIT 1').fetchone()  # noqa: S608 - a name from the schema itself


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    # What a migration may need to fill new tables and SQLite does not have. The schema itself cannot use it.
    connection.create_function("sha256", 1, lambda text: sha256(text.encode("utf-8")).digest(), deterministic=True)
    connection.create_function("reversed", 1, lambda text: text[::-1], deterministic=True)
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
