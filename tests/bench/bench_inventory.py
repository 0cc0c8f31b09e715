"""The record at a million certificates: pages, counts, opening, memory, and what storing one costs.

    python -m tests.bench.bench_inventory [--rows 1000000] [--octets 1000] [--directory DIR]

The rows are made by SQL in a database as it was before there was an inventory, so that filling the new tables from it
is measured as well. Each list is walked at its beginning, in its middle and at its end. Without --directory the
database is made in a temporary one; it takes about 2 GB for a million.
"""

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import psutil

from services.ca.inventory import listing
from services.ca.inventory import storage as inventory_storage
from services.ca.inventory.listing import Position, Query, next_cursor
from services.ca.inventory.metrics import HORIZONS
from services.ca.messages import ListCertificates
from services.ca.storage import MIGRATIONS, Reservation, Storage
from services.database import Database

NOW = 1_800_000_000
DAY = 86_400
PAGES = 40
STORED = 300
BEFORE = MIGRATIONS[: MIGRATIONS.index(inventory_storage.MIGRATION)]
FILTERS: dict[str, dict[str, str | int]] = {
    "all": {},
    "profile": {"profile": "tls-server"},
    "issuer": {"issuer": "01"},
    "requester": {"requester": "account 7"},
    "valid": {"status": "valid"},
    "expired": {"status": "expired"},
    "revoked": {"status": "revoked"},
    "ends within 7 d": {"expires_after": NOW, "expires_before": NOW + 7 * DAY},
    "issued": {"issued_before": NOW},
    "search example": {"search": "example"},
    "search team7": {"search": "team7.example"},
    "name": {"name": "host77.team77.example"},
}

# Issued evenly over 120 days, each for 90; a hundredth revoked; 500 accounts, 100 teams.
ROWS = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)
    INSERT INTO certificates (id, serial, state, issuer, profile, subject, names, requester, not_before, not_after,
        reserved_at, issued_at, certificate)
    SELECT n, printf('%032x', n), 'issued', iif(n % 50, '01', '02'), iif(n % 10, 'tls-server', 'tls-client'),
        'CN=host' || n, json_array('host' || n || '.team' || (n % 100) || '.example'), 'account ' || (n % 500),
        :now - (:rows - n) * 10368000 / :rows - 60, :now - (:rows - n) * 10368000 / :rows + 7776000,
        :now - (:rows - n) * 10368000 / :rows, :now - (:rows - n) * 10368000 / :rows, zeroblob(:octets)
    FROM numbers
"""
NAMES = "INSERT INTO names SELECT json_extract(names, '$[0]'), id FROM certificates"
REVOCATIONS = """
    INSERT INTO revocations (serial, issuer, partition, revoked_at, reason, not_after, requester, trace)
    SELECT serial, issuer, 0, issued_at + 60, 'superseded', not_after, 'a bench', ''
    FROM certificates WHERE id % 100 = 0
"""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def figures(seconds: list[float]) -> str:
    found = sorted(1e3 * each for each in seconds)
    return f"{found[len(found) // 2]:>9.2f}{found[int(len(found) * 0.99)]:>9.2f}"


async def make(path: Path, rows: int, octets: int) -> None:
    database = await Database.open(path, BEFORE)
    await database.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        for statement in (ROWS, NAMES, REVOCATIONS):
            connection.execute(statement, {"rows": rows, "now": NOW, "octets": octets})
    connection.close()


def positions(query: Query, connection: sqlite3.Connection) -> list[Position | None]:
    """Where the first, a middle and the last page of a list begin."""
    shorter = query.walked.replace(" LIMIT :examined", "")
    selected = f"SELECT {query.key}, {query.row} FROM {shorter}"
    (rows,) = connection.execute(f"SELECT count(*) FROM ({selected})", query.parameters).fetchone()
    places = [max(0, rows // 2 - 1), max(0, rows - 101)]
    found: list[Position | None] = [None]
    for place in places:
        at = connection.execute(f"{selected} LIMIT 1 OFFSET {place}", query.parameters).fetchone()
        found.append(None if at is None else Position(*at))
    return found


async def timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def pages(storage: Storage, path: Path) -> None:
    say(f"\n{'page of 100, ms':<18}{'first p50':>9}{'p99':>9}{'mid p50':>9}{'p99':>9}{'last p50':>9}{'p99':>9}")
    connection = sqlite3.connect(path)
    for title, filters in FILTERS.items():
        query = listing.query(ListCertificates(**filters), NOW)  # type: ignore[arg-type]
        cells = []
        for position in positions(query, connection):
            cursor = None if position is None else next_cursor(query.order, position)
            asked = listing.query(ListCertificates(cursor=cursor, **filters), NOW)  # type: ignore[arg-type]
            cells.append(figures([await timed(storage.page(asked, 100)) for _ in range(PAGES)]))
        say(f"{title:<18}{''.join(cells)}")
    connection.close()


async def stored(storage: Storage, start: int) -> list[float]:
    seconds = []
    for number in range(start, start + STORED):
        names = (f"new{number}.example",)
        reserved = Reservation(f"f{number:031x}", "01", "tls-server", "CN=x", names, "a bench", NOW, NOW + DAY, NOW)
        row = await storage.reserve(reserved)
        started = time.perf_counter()
        await storage.store(row, bytes(1000), NOW)
        seconds.append(time.perf_counter() - started)
    return seconds


async def run(directory: Path, rows: int, octets: int) -> None:
    path = directory / "certificates.db"
    started = time.perf_counter()
    await make(path, rows, octets)
    say(f"{rows} rows made in {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
    started = time.perf_counter()
    database = await Database.open(path, MIGRATIONS)
    took = time.perf_counter() - started
    await database.close()
    say(f"tables of the inventory filled in {took:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
    started = time.perf_counter()
    database = await Database.open(path, MIGRATIONS)
    say(f"opened in {1e3 * (time.perf_counter() - started):.1f} ms (every page is checked while it serves)")
    await database.checked()
    say(f"checked after {time.perf_counter() - started:.1f} s")
    storage = Storage(database)
    inventory = storage.inventory()
    await pages(storage, path)
    counted = [await timed(inventory.counts(NOW, tuple(HORIZONS), 10)) for _ in range(PAGES)]
    say(f"\n{'ms':<18}{'p50':>9}{'p99':>9}\n{'all counts':<18}{figures(counted)}")
    radar = [await timed(inventory.unrenewed(NOW, NOW + 30 * DAY, 2000)) for _ in range(PAGES)]
    say(f"{'2000 unrenewed':<18}{figures(radar)}")
    say(f"{'store':<18}{figures(await stored(storage, 0))}")
    before = NOW - DAY
    batches, position = [], (0, 0)
    for _ in range(PAGES):
        started = time.perf_counter()
        batch = await inventory.delete_expired(before, NOW, position, 50)
        batches.append(time.perf_counter() - started)
        if batch.position is None:
            break
        position = batch.position
    say(f"{'delete 50':<18}{figures(batches)}")
    say(f"resident memory   {psutil.Process().memory_info().rss / 1e6:.0f} MB")
    await database.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--octets", type=int, default=1_000)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        asyncio.run(run(Path(directory), arguments.rows, arguments.octets))


if __name__ == "__main__":
    main()
