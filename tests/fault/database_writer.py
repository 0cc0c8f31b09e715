"""A process that writes to a database, for tests that take its disk or its life: `-m tests.fault.database_writer ...`.

numbers PATH          sixteen writers; each number is printed when it is durable; goes on until killed
one-by-one PATH N     N writes one after the other; prints `stored N` or `failed N`, then `kept` and the count
full-disk DIRECTORY   on a file system of 3 MiB mounted at DIRECTORY; prints one line for each promise kept
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import structlog
import uvloop

from services.database import Database
from services.errors import StorageUnavailable

SCHEMA = ("CREATE TABLE entry (number INTEGER PRIMARY KEY, filling BLOB NOT NULL);",)


def entry(number: int, octets: int = 1500) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry VALUES (?, ?)", (number, os.urandom(octets)))

    return run


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM entry ORDER BY number")]


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # one system call: a kill leaves whole lines only


async def write_numbers(path: Path) -> None:
    database = await Database.open(path, SCHEMA)
    following = count(
        database.lookup(lambda c: c.execute("SELECT coalesce(max(number), 0) + 1 FROM entry").fetchone()[0])
    )

    async def keep_writing() -> None:
        for number in following:
            await database.write(entry(number))
            say(str(number))

    await asyncio.gather(*(keep_writing() for _ in range(16)))


async def write_one_by_one(path: Path, writes: int) -> None:
    database = await Database.open(path, SCHEMA)
    for number in range(1, writes + 1):
        try:
            await database.write(entry(number))
        except StorageUnavailable:
            say(f"failed {number}")
        else:
            say(f"stored {number}")
    os._exit(0)  # as a crash would leave it: the log is not written back


async def fill_disk(directory: Path) -> None:
    path, ballast = directory / "x.db", directory / "ballast"
    database = await Database.open(path, SCHEMA)
    ballast.write_bytes(bytes(2_000_000))
    stored = await _write_until_full(database)
    assert database.lookup(numbers) == await database.read(numbers) == stored
    say("read while full")
    await _probe_until_full(database)
    ballast.unlink()
    await asyncio.gather(*(database.write(entry(number)) for number in range(20_000, 20_010)))
    await database.probe()
    stored += range(20_000, 20_010)
    say("recovered without reopening")
    await database.close()
    await _reopen_full(directory, stored)
    await _create_full(directory)


async def _write_until_full(database: Database) -> list[int]:
    stored: list[int] = []
    failures: list[object] = []
    for first in range(1, 10_000, 16):
        group = range(first, first + 16)
        results = await asyncio.gather(*(database.write(entry(n)) for n in group), return_exceptions=True)
        stored += [number for number, result in zip(group, results, strict=True) if result is None]
        failures += [result for result in results if result is not None]
        if failures:
            break
    assert failures
    assert {type(failure) for failure in failures} == {StorageUnavailable}
    say("full")
    return stored


async def _probe_until_full(database: Database) -> None:
    """A group that did not fit has left room in the log for a few smaller writes."""
    for _ in range(200):
        try:
            await database.probe()
        except StorageUnavailable:
            say("probe tells")
            return


async def _reopen_full(directory: Path, stored: list[int]) -> None:
    _fill(directory / "ballast")
    try:
        await Database.open(directory / "x.db", SCHEMA)
    except StorageUnavailable:
        say("opening tells")
    (directory / "ballast").unlink()
    database = await Database.open(directory / "x.db", SCHEMA)
    assert await database.read(numbers) == stored
    await database.probe()
    await database.close()
    say("all kept")


async def _create_full(directory: Path) -> None:
    (directory / "x.db").unlink()
    _fill(directory / "ballast")
    try:
        await Database.open(directory / "new" / "y.db", SCHEMA)
    except StorageUnavailable:
        say("creating tells")
    (directory / "ballast").unlink()
    database = await Database.open(directory / "new" / "y.db", SCHEMA)
    await database.write(entry(1))
    await database.close()
    with closing(sqlite3.connect(directory / "new" / "y.db")) as connection:
        assert numbers(connection) == [1]
    say("created after all")


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what it says is its outcome alone
    match sys.argv[1:]:
        case ["numbers", path]:
            uvloop.run(write_numbers(Path(path)))
        case ["one-by-one", path, writes]:
            uvloop.run(write_one_by_one(Path(path), int(writes)))
        case ["full-disk", directory]:
            uvloop.run(fill_disk(Path(directory)))
