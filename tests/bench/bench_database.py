"""What a durable write costs, beside plain sqlite3 commits on the same disk in the same run; and what opening costs.

    python -m tests.bench.bench_database [DIRECTORY]

DIRECTORY is on the disk to be measured (default: a temporary one). Rows have 2 kB. `loop busy` is a lone writer while
the event loop does other work without a pause, in pieces of 0.1 ms: the threads' worst case in CPython.
"""

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import uvloop

from services.database import Database

LONE_WRITES = 2_000
CONCURRENT_WRITES = 20_000
BUSY_WRITES = 500
WRITERS = 64
SIZES_MB = (1, 15, 60)
SCHEMA = ("CREATE TABLE certificate (id INTEGER PRIMARY KEY, serial BLOB NOT NULL UNIQUE, content BLOB NOT NULL);",)
INSERT = "INSERT INTO certificate (serial, content) VALUES (?, ?)"


def insert(connection: sqlite3.Connection) -> None:
    connection.execute(INSERT, (os.urandom(16), bytes(2000)))


def row(what: str, latencies: list[float], seconds: float) -> str:
    ordered = sorted(latency * 1e6 for latency in latencies)
    p50, p99, worst = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]
    return f"{what:<44}{len(ordered) / seconds:>10.0f}{p50:>9.0f} µs{p99:>9.0f} µs{worst:>9.0f} µs\n"


def plain(path: Path, writes: int, group: int) -> str:
    """sqlite3 as it comes, in one thread that waits, `group` rows in each commit."""
    latencies = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(SCHEMA[0])
        started = time.perf_counter()
        for _ in range(writes // group):
            begun = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(group):
                insert(connection)
            connection.execute("COMMIT")
            latencies += [time.perf_counter() - begun] * group
        return row(f"plain sqlite3, {group} in a commit", latencies, time.perf_counter() - started)


async def timed(what: str, act: Callable[[], Awaitable[object]], times: int, lanes: int = 1) -> str:
    latencies = []

    async def lane() -> None:
        for _ in range(times // lanes):
            begun = time.perf_counter()
            await act()
            latencies.append(time.perf_counter() - begun)

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return row(what, latencies, time.perf_counter() - started)


async def keep_busy() -> None:
    while True:
        until = time.perf_counter() + 1e-4
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def measure(directory: Path, write: Callable[[str], object]) -> None:
    write(f"{'':<44}{'per second':>10}{'p50':>12}{'p99':>12}{'worst':>12}\n")
    write(plain(directory / "plain1.db", LONE_WRITES, 1))
    database = await Database.open(directory / "x.db", SCHEMA)
    write(await timed("database, lone writer", lambda: database.write(insert), LONE_WRITES))
    write(plain(directory / "plain64.db", CONCURRENT_WRITES, WRITERS))
    write(await timed(f"database, {WRITERS} writers", lambda: database.write(insert), CONCURRENT_WRITES, WRITERS))
    busy = asyncio.ensure_future(keep_busy())
    write(await timed("database, lone writer, loop busy", lambda: database.write(insert), BUSY_WRITES))
    busy.cancel()
    with suppress(asyncio.CancelledError):
        await busy

    def newest(connection: sqlite3.Connection) -> object:
        return connection.execute("SELECT content FROM certificate WHERE id = 1000").fetchone()

    async def lookup() -> object:
        return database.lookup(newest)

    write(await timed("lookup by key, in the loop", lookup, 5_000))
    write(await timed("read by key, in a thread", lambda: database.read(newest), 5_000))
    await database.close()


async def measure_opening(directory: Path, write: Callable[[str], object]) -> None:
    write(f"\n{'opening':<44}{'median of 5':>12}\n")
    for size in SIZES_MB:
        path = directory / f"{size}.db"
        database = await Database.open(path, SCHEMA)
        rows = size * 450
        await asyncio.gather(*(database.write(insert) for _ in range(rows % 4000)))
        for _ in range(rows // 4000):
            await asyncio.gather(*(database.write(insert) for _ in range(4000)))
        await database.close()
        took = []
        for _ in range(5):
            started = time.perf_counter()
            database = await Database.open(path, SCHEMA)
            took.append(time.perf_counter() - started)
            await database.checked()
            await database.close()
        write(f"{path.stat().st_size / 2**20:>6.0f} MB{statistics.median(took) * 1e3:>45.1f} ms\n")


def run(parent: str | None, write: Callable[[str], object]) -> None:
    """Measure in a directory below `parent` that is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        uvloop.run(measure(Path(directory), write))
        uvloop.run(measure_opening(Path(directory), write))


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else None, sys.stdout.write)
