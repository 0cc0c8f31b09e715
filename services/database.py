"""A service's database: SQLite, one writing thread, many writes in one durable commit.

The promise: when `write` returns, what it wrote has been committed and fsynced (WAL, synchronous=FULL), and is there
after any crash. When it raises, nothing of that one write was committed, with one exception: after StorageUnavailable
the write was not acknowledged, but a crash that follows at once may still bring it to light.

Rules:
- All writes go through one thread. It takes every write that waits, runs each in a savepoint of one transaction, and
  commits once. A write alone commits at once; writes that arrive meanwhile form the next group. There is no timer.
- An exception in one write undoes that write only. A failed commit, a full disk or a failed fsync fails the whole
  group with StorageUnavailable; the next group starts anew and succeeds as soon as the disk does. A page whose fsync
  failed is never trusted to be on the disk: the next commit writes its frame of the log again.
- `read` runs on a thread and a connection of its own, in one snapshot, beside the writer. `lookup` runs in the calling
  thread: for single rows by key, which take some 10 µs where the way to a thread and back takes 50 to 100 µs.
- A function given to these gets the connection, returns plain values (no cursor), and neither begins nor ends
  transactions.
- The log is written back to the database after the group that reached the limit was acknowledged, so its callers do
  not wait for that. Should it fail (full disk), the log keeps everything and it is tried again.
- CPython lets a thread starve whose event loop is busy without a pause: the loop gives the interpreter's lock back and
  takes it again before the thread has woken up (measured: 0.7 s for one write). While reads and writes make no
  progress the loop therefore sleeps for 0.1 to 1 ms in each of its milliseconds, which leaves some milliseconds of it.
- Damage found at any time ends all writing: every later call raises DatabaseCorrupt, which ends the worker (exit 78).
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import structlog

from services import database_file
from services.errors import DatabaseCorrupt, Overloaded, StorageUnavailable

WAITING_WRITES: Final = 4096
GROUP_WRITES: Final = 256
CHECKPOINT_WRITES: Final = 250  # what a successor reads again after a crash: 8 MB at most, some 3 ms
IDLE_CHECKPOINT_WRITES: Final = 50
IDLE_SECONDS: Final = 1.0
LEND_SECONDS: Final = 0.001
READERS: Final = 2
WAITING_READS: Final = 1024

_T = TypeVar("_T")
_log = structlog.stdlib.get_logger()


class _Write:
    __slots__ = ("error", "future", "run", "value")

    def __init__(self, run: Callable[[sqlite3.Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.run = run
        self.future = future
        self.value: Any = None
        self.error: Exception | None = None


class Database:
    """One open database. Made by `open`; belongs to the event loop that opened it."""

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        version: int,
        on_commit: Callable[[int, int], None] | None,
    ) -> None:
        self.path = path
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit
        self._damage: DatabaseCorrupt | None = None
        self._closing = False
        self._waiting = 0
        self._watching = False
        self._progress = False
        self._reads = 0
        self._ended = self._loop.create_future()
        self._readers = _Readers(path)
        self._writer = _Writer(path, writer, version, self._from_writer)
        self._writer.start()
        self._check: asyncio.Task[None] | None = None
        if path.stat().st_size > database_file.FULL_CHECK_BYTES:
            self._check = self._loop.create_task(self._check_whole())

    @classmethod
    async def open(
        cls,
        path: Path,
        migrations: Sequence[str],
        *,
        on_commit: Callable[[int, int], None] | None = None,
    ) -> "Database":
        """Open the database at `path`, creating it (0600) if nothing is there.

        `migrations` are SQL scripts, oldest first. `on_commit(duration_ns, writes)` is called in the loop after each
        group. Raises DatabaseCorrupt, ConfigurationError (written by a newer version) or StorageUnavailable.
        """
        if not migrations:
            raise ValueError("a database without a schema")
        writer, reader = await asyncio.to_thread(database_file.prepare, path, migrations)
        return cls(path, writer, reader, len(migrations), on_commit)

    async def write(self, run: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `run` in the next group; return its value once that is durable.

        Raises what `run` raised (its write is undone), StorageUnavailable, Overloaded or DatabaseCorrupt. When the
        caller is cancelled the write may still happen.
        """
        self._usable()
        if self._waiting >= WAITING_WRITES:
            raise Overloaded(f"{self._waiting} writes already wait for {self.path.name}")
        future: asyncio.Future[_T] = self._loop.create_future()
        self._waiting += 1
        self._writer.queue.put(_Write(run, future))
        self._watch_progress()
        return await future

    async def read(self, run: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `run` in one snapshot on a reading thread: for lists and scans."""
        self._usable()
        if self._reads >= WAITING_READS:
            raise Overloaded(f"{self._reads} reads already wait for {self.path.name}")
        self._reads += 1
        self._watch_progress()
        try:
            return await self._loop.run_in_executor(self._readers.pool, self._readers.snapshot, run)
        except sqlite3.Error as error:
            self._fail(error)
        finally:
            self._reads -= 1
            self._progress = True

    def lookup(self, run: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `run` here and now: for one statement that finds its rows by key, so that the loop is not held up."""
        self._usable()
        try:
            return run(self._reader)
        except sqlite3.Error as error:
            self._fail(error)

    async def probe(self) -> None:
        """Write and fsync a page, as every write does. Raises StorageUnavailable or DatabaseCorrupt."""
        await self.write(self._writer.touch)

    async def checked(self) -> None:
        """Wait until every page has been checked since it was opened. Damage is raised by the other methods."""
        if self._check is not None:
            await self._check

    async def close(self) -> None:
        """Finish the writes that wait, write the log back, and close. Later calls raise StorageUnavailable."""
        if not self._closing:
            self._closing = True
            await asyncio.to_thread(self._readers.close)
            self._reader.close()  # before the writer: the last connection to close must be one that can clear the log
            self._writer.queue.put(None)
        await asyncio.shield(self._ended)

    def _watch_progress(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.call_later(LEND_SECONDS, self._lend)

    def _lend(self) -> None:
        """Stand aside for a moment if nothing has been finished since the last look."""
        waiting = self._waiting + self._reads
        self._watching = waiting > 0
        if not self._watching:
            return
        if not self._progress:
            time.sleep(min(LEND_SECONDS, 1e-4 + 2e-5 * waiting))
        self._progress = False
        self._loop.call_later(LEND_SECONDS, self._lend)

    def _usable(self) -> None:
        if self._damage is not None:
            raise DatabaseCorrupt(str(self._damage))
        if self._closing:
            raise StorageUnavailable(f"{self.path} is being closed")

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        known = self._noted(database_file.typed(error, self.path))
        if known is error:
            raise error
        raise known from error

    def _noted(self, error: Exception) -> Exception:
        """The error as one caller gets it: those of a group do not share an exception and its traceback."""
        if isinstance(error, DatabaseCorrupt):
            self._damage = error
            return DatabaseCorrupt(str(error))
        return StorageUnavailable(error.detail) if isinstance(error, StorageUnavailable) else error

    def _from_writer(self, writes: "Sequence[_Write] | None", duration_ns: int) -> None:
        """Called in the writing thread; None means that it has ended."""
        try:
            self._loop.call_soon_threadsafe(self._settle, writes, duration_ns)
        except RuntimeError:
            return  # the loop is closed: nobody is left to tell

    def _settle(self, writes: "Sequence[_Write] | None", duration_ns: int) -> None:
        if writes is None:
            if not self._ended.done():
                self._ended.set_result(None)
            return
        self._progress = True
        self._waiting -= len(writes)
        for write in writes:
            if write.future.done():
                continue
            if write.error is None:
                write.future.set_result(write.value)
            else:
                write.future.set_exception(self._noted(write.error))
        if self._on_commit is not None:
            self._on_commit(duration_ns, len(writes))

    async def _check_whole(self) -> None:
        try:
            await self._loop.run_in_executor(self._readers.pool, self._readers.check_whole)
        except DatabaseCorrupt as error:
            self._damage = error
            _log.critical("the database is damaged", error=str(error))
        except (StorageUnavailable, sqlite3.Error) as error:
            if not self._closing:
                _log.warning("the database could not be checked", error=str(error))


class _Readers:
    """Reading threads, each with its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self.pool = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")

    def snapshot(self, run: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            return run(connection)
        finally:
            connection.execute("ROLLBACK")

    def check_whole(self) -> None:
        database_file.check_whole(self._connection(), self._path)

    def close(self) -> None:
        for connection in self._connections:
            connection.interrupt()  # the check of a large file would hold up the stop for seconds
        self.pool.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = database_file.open_reader(self._path)
            self._connections.append(connection)
        return connection


class _Writer(threading.Thread):
    """The one thread that writes."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        version: int,
        settled: "Callable[[Sequence[_Write] | None, int], None]",
    ) -> None:
        super().__init__(name="database-write", daemon=True)
        self.queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._path = path
        self._connection = connection
        self._touch = f"PRAGMA user_version = {version}"
        self._settled = settled
        self._log_begins = True
        self._uncheckpointed = 0

    def touch(self, connection: sqlite3.Connection) -> None:
        """Write the first page, as it is."""
        connection.execute(self._touch)

    def run(self) -> None:
        try:
            self._work()
        finally:
            self._connection.close()
            self._settled(None, 0)

    def _work(self) -> None:
        open_ = True
        while open_:
            group = self._next_group()
            open_ = None not in group
            writes = [write for write in group if write is not None]
            if writes:
                started = time.monotonic_ns()
                self._commit(writes)
                self._settled(writes, time.monotonic_ns() - started)
            if self._uncheckpointed >= (CHECKPOINT_WRITES if writes else IDLE_CHECKPOINT_WRITES):
                self._checkpoint()

    def _next_group(self) -> list[_Write | None]:
        """All that waits, up to the limit of a group; empty when nothing came and there is something to write back."""
        idle = IDLE_SECONDS if self._uncheckpointed >= IDLE_CHECKPOINT_WRITES else None
        group: list[_Write | None] = []
        try:
            group.append(self.queue.get(timeout=idle))
            while len(group) < GROUP_WRITES and group[-1] is not None:
                group.append(self.queue.get_nowait())
        except queue.Empty:
            pass
        return group

    def _commit(self, writes: Sequence[_Write]) -> None:
        """Run and commit the group; every write has its value or its error afterwards."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._log_begins:
                connection.execute(self._touch)
            for write in writes:
                if not write.future.cancelled():
                    self._run(write)
            connection.execute("COMMIT")  # returns after the fsync of the log: now the group is durable
            self._log_begins = False
            self._uncheckpointed += len(writes)
        except Exception as error:  # noqa: BLE001 - each write of the group gets it
            self._abandon(writes, database_file.typed(error, self._path))

    def _run(self, write: _Write) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT one_write")
        try:
            write.value = write.run(connection)
        except Exception as error:
            # A full disk undoes the transaction, or leaves it in doubt: the group is lost, not this write alone.
            if not connection.in_transaction or database_file.is_storage_or_damage(error):
                raise
            connection.execute("ROLLBACK TO one_write")
            write.error = error
        connection.execute("RELEASE one_write")

    def _abandon(self, writes: Iterable[_Write], error: Exception) -> None:
        for write in writes:
            write.error = write.error or error
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            _log.error("a failed commit could not be rolled back", error=str(second))

    def _checkpoint(self) -> None:
        self._uncheckpointed = 0
        try:
            busy, in_log, written_back = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("the log could not be written back yet", path=str(self._path), error=str(error))
            return
        # The next write starts the log anew: its first frames must tell which database they belong to.
        self._log_begins = not busy and in_log == written_back
