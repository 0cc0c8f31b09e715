"""What a service's database promises about one file on a working disk."""

import asyncio
import hashlib
import os
import sqlite3
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from services import database, database_file
from services.database import Database
from services.errors import ConfigurationError, DatabaseCorrupt, Overloaded, StorageUnavailable

T = TypeVar("T")
FIRST = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);"
SECOND = "ALTER TABLE note ADD COLUMN colour TEXT; UPDATE note SET colour = 'red';"


def insert(text: str) -> Callable[[sqlite3.Connection], int]:
    def run(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid or 0

    return run


def texts(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")]


def used(path: Path, use: Callable[[Database], Awaitable[T]], *migrations: str, seen: list[int] | None = None) -> T:
    """Open the database, use it, close it; `seen` gets the number of writes of each commit."""

    async def run() -> T:
        def note(_: int, writes: int) -> None:
            if seen is not None:
                seen.append(writes)

        opened = await Database.open(path, migrations or (FIRST,), on_commit=note)
        try:
            return await use(opened)
        finally:
            await opened.close()

    return asyncio.run(run())


def filled(path: Path, rows: int = 20) -> Path:
    async def fill(opened: Database) -> None:
        await asyncio.gather(*(opened.write(insert(f"note {number}")) for number in range(rows)))

    used(path, fill)
    return path


def left_behind(path: Path, into: Path) -> Path:
    """The files as a crash would leave them, with the writes in the log: copied while the database is open."""

    def copy() -> None:
        for suffix in ("", "-wal"):
            Path(f"{into}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())

    async def fill(opened: Database) -> None:
        await opened.write(insert("in the log"))
        copy()

    used(path, fill)
    return into


def fingerprints(directory: Path) -> dict[str, str]:
    """All that holds content: not the index of the log, which is made anew by whoever reads, nor an empty log."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in directory.iterdir()
        if not file.name.endswith("-shm") and (file.stat().st_size or not file.name.endswith("-wal"))
    }


def test_a_write_returns_its_value_and_is_seen_by_every_reader(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        assert await opened.write(insert("one")) == 1
        assert opened.lookup(texts) == ["one"]
        assert await opened.read(texts) == ["one"]

    used(tmp_path / "x.db", use)
    assert used(tmp_path / "x.db", lambda opened: opened.read(texts)) == ["one"]


def test_writes_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        await asyncio.gather(*(opened.write(insert(str(number))) for number in range(100)))

    commits: list[int] = []
    used(tmp_path / "x.db", use, seen=commits)
    assert sum(commits) == 100
    assert len(commits) <= 10


def test_a_failing_write_undoes_itself_and_nobody_else(tmp_path: Path) -> None:
    def twice(connection: sqlite3.Connection) -> None:
        insert("half done")(connection)
        insert("taken")(connection)

    def fail(connection: sqlite3.Connection) -> None:
        insert("also half done")(connection)
        raise KeyError("own error")

    async def use(opened: Database) -> None:
        first, second, third, fourth = await asyncio.gather(
            opened.write(insert("taken")),
            opened.write(twice),
            opened.write(fail),
            opened.write(insert("kept")),
            return_exceptions=True,
        )
        assert isinstance(second, sqlite3.IntegrityError)
        assert isinstance(third, KeyError)
        assert (first, fourth) == (1, 2)
        assert await opened.read(texts) == ["taken", "kept"]

    used(tmp_path / "x.db", use)


def test_a_fault_of_the_disk_in_one_write_fails_its_whole_group_and_the_next_succeeds(tmp_path: Path) -> None:
    """Which of the pages written before it can be trusted, nobody knows; so no write of the group is acknowledged."""

    def fail(connection: sqlite3.Connection) -> None:
        insert("half done")(connection)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    async def use(opened: Database) -> None:
        results = await asyncio.gather(
            opened.write(insert("before")), opened.write(fail), opened.write(insert("after")), return_exceptions=True
        )
        assert [type(result) for result in results] == [StorageUnavailable] * 3
        assert len({id(result) for result in results}) == 3
        await opened.write(insert("next"))
        assert opened.lookup(texts) == ["next"]

    used(tmp_path / "x.db", use)


def test_a_write_that_ends_the_transaction_itself_fails_and_the_next_one_works(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        with pytest.raises(sqlite3.OperationalError):
            await opened.write(lambda connection: connection.execute("COMMIT").fetchall())
        await opened.write(insert("after"))
        assert "after" in opened.lookup(texts)

    used(tmp_path / "x.db", use)


def test_a_write_whose_caller_left_before_it_ran_does_not_happen(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(_: sqlite3.Connection) -> None:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)

        holding = asyncio.ensure_future(opened.write(hold))
        for _ in range(3):
            await asyncio.sleep(0)
        unwanted = asyncio.ensure_future(opened.write(insert("unwanted")))
        await asyncio.sleep(0)
        unwanted.cancel()
        await asyncio.sleep(0)
        release.set()
        await holding
        await opened.write(insert("wanted"))
        assert opened.lookup(texts) == ["wanted"]

    used(tmp_path / "x.db", use)


def test_beyond_the_bound_a_write_is_overload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAITING_WRITES", 3)

    async def use(opened: Database) -> None:
        results = await asyncio.gather(
            *(opened.write(insert(str(number))) for number in range(5)), return_exceptions=True
        )
        assert [type(result) for result in results] == [int, int, int, Overloaded, Overloaded]
        await opened.write(insert("room again"))

    used(tmp_path / "x.db", use)


def test_close_finishes_what_waits_and_later_calls_are_told(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        waiting = [asyncio.ensure_future(opened.write(insert(str(number)))) for number in range(50)]
        await asyncio.sleep(0)
        await opened.close()
        assert len(await asyncio.gather(*waiting)) == 50
        with pytest.raises(StorageUnavailable, match="being closed"):
            await opened.write(insert("late"))

    used(tmp_path / "x.db", use)
    assert [file.name for file in tmp_path.iterdir()] == ["x.db"]


def test_a_probe_goes_through_a_commit(tmp_path: Path) -> None:
    commits: list[int] = []
    used(tmp_path / "x.db", lambda opened: opened.probe(), seen=commits)
    assert commits == [1]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async def use(opened: Database) -> None:
        with pytest.raises(StorageUnavailable):
            opened.lookup(insert("x"))
        with pytest.raises(StorageUnavailable):
            await opened.read(insert("x"))

    used(tmp_path / "x.db", use)


def test_durability_settings_are_those_that_the_promise_needs(tmp_path: Path) -> None:
    def settings(connection: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert used(tmp_path / "x.db", lambda opened: opened.write(settings)) == ["wal", 2, 1, 0]


def test_files_are_private_and_become_so_again(tmp_path: Path) -> None:
    path = tmp_path / "ca" / "x.db"

    async def modes(opened: Database) -> list[int]:
        await opened.probe()
        return [os.stat(f"{path}{suffix}").st_mode & 0o777 for suffix in ("", "-wal", "-shm")]

    assert used(path, modes) == [0o600] * 3
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    assert used(path, modes) == [0o600] * 3


def test_migrations_bring_an_old_database_forward_with_its_rows(tmp_path: Path) -> None:
    path = filled(tmp_path / "x.db", rows=2)
    rows = used(
        path, lambda opened: opened.read(lambda c: c.execute("SELECT id, colour FROM note").fetchall()), FIRST, SECOND
    )
    assert rows == [(1, "red"), (2, "red")]


def test_a_failing_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    path = filled(tmp_path / "x.db", rows=2)
    with pytest.raises(sqlite3.OperationalError):
        used(path, lambda opened: opened.probe(), FIRST, SECOND + "UPDATE nothing SET x = 1;")
    assert used(path, lambda opened: opened.read(texts)) == ["note 0", "note 1"]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    used(path, lambda opened: opened.write(insert("x")), FIRST, SECOND)
    before = fingerprints(tmp_path)
    with pytest.raises(ConfigurationError, match=r"newer version.*schema 2, this version knows 1"):
        used(path, lambda opened: opened.probe(), FIRST)
    assert fingerprints(tmp_path) == before


def test_a_database_without_a_schema_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a schema"):
        asyncio.run(Database.open(tmp_path / "x.db", ()))


def test_what_an_interrupted_creation_left_is_replaced(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        (tmp_path / f"x.db.new{suffix}").write_bytes(b"half")
    used(tmp_path / "x.db", lambda opened: opened.write(insert("x")))
    assert [file.name for file in tmp_path.iterdir()] == ["x.db"]


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)


def _garbage_after_the_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def _truncated_within_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def _page_lost(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))


def _another_schema(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (id)")


@pytest.mark.parametrize(
    "damage",
    [
        _garbage,
        _garbage_after_the_header,
        _emptied,
        _truncated,
        _truncated_within_a_page,
        _page_lost,
        _another_schema,
    ],
)
def test_damage_is_told_and_nothing_is_overwritten(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = filled(tmp_path / "x.db", rows=200)
    damage(path)
    before = fingerprints(tmp_path)
    with pytest.raises(DatabaseCorrupt, match=r"Nothing in it was changed\. Move it aside"):
        used(path, lambda opened: opened.probe())
    assert fingerprints(tmp_path) == before


def test_a_log_without_its_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = left_behind(tmp_path / "x.db", tmp_path / "copy" / "x.db")
    path.unlink()
    before = fingerprints(path.parent)
    with pytest.raises(DatabaseCorrupt, match="the database itself is missing"):
        used(path, lambda opened: opened.probe())
    assert fingerprints(path.parent) == before


def test_the_log_of_a_crash_is_recovered(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = left_behind(tmp_path / "x.db", tmp_path / "copy" / "x.db")
    assert used(path, lambda opened: opened.read(texts)) == ["in the log"]


def test_the_log_of_another_database_is_damage(tmp_path: Path) -> None:
    """Same schema, same page size, valid checksums: SQLite itself would replay it."""
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    path = filled(tmp_path / "mine" / "x.db")
    stranger = left_behind(tmp_path / "y.db", tmp_path / "theirs" / "x.db")
    Path(f"{path}-wal").write_bytes(Path(f"{stranger}-wal").read_bytes())
    before = fingerprints(path.parent)
    with pytest.raises(DatabaseCorrupt, match="log belongs to another database"):
        used(path, lambda opened: opened.probe())
    assert fingerprints(path.parent) == before


def test_every_generation_of_the_log_begins_with_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_WRITES", 1)
    path = tmp_path / "x.db"

    def update(text: str) -> Callable[[sqlite3.Connection], int]:
        return lambda connection: connection.execute("UPDATE note SET text = ? WHERE id = 1", (text,)).rowcount

    def first_page_of_log() -> tuple[int, int]:
        """Its number, and the generation of the log."""
        header = Path(f"{path}-wal").read_bytes()[:56]
        return struct.unpack(">I", header[32:36])[0], struct.unpack(">I", header[12:16])[0]

    async def use(opened: Database) -> None:
        generations = set()
        for number in range(5):
            await opened.write(update(str(number)))
            page, generation = first_page_of_log()
            generations.add(generation)
            assert page == 1
        assert len(generations) > 1

    filled(path, rows=1)
    used(path, use)


def test_rubbish_in_place_of_the_log_costs_nothing_that_was_in_the_database(tmp_path: Path) -> None:
    """SQLite takes frames without valid checksums for the torn end of a log, and so do we."""
    path = filled(tmp_path / "x.db", rows=3)
    Path(f"{path}-wal").write_bytes(b"\x00" * 5000)
    assert len(used(path, lambda opened: opened.read(texts))) == 3


def test_damage_found_while_running_ends_all_writing(tmp_path: Path) -> None:
    path = filled(tmp_path / "x.db", rows=2000)

    async def use(opened: Database) -> None:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))
        with pytest.raises(DatabaseCorrupt):
            await opened.read(texts)
        for later in (opened.write(insert("x")), opened.probe(), opened.read(texts)):
            with pytest.raises(DatabaseCorrupt):
                await later

    used(path, use)


def test_a_large_database_is_checked_while_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "x.db", rows=2000)
    monkeypatch.setattr(database_file, "FULL_CHECK_BYTES", 4096)
    with path.open("r+b") as file:  # a page in the middle of the table: neither the schema nor its first row
        file.seek(path.stat().st_size - 4096)
        file.write(bytes(4096))

    async def use(opened: Database) -> None:
        await opened.checked()
        with pytest.raises(DatabaseCorrupt):
            await opened.probe()

    used(path, use)
