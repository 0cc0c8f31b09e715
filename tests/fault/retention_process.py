"""A record that is written to and deleted from until it is killed: `-m tests.fault.retention_process PATH`.

Four writers store certificates that ended long ago and now and then revoke one; one deletes what ended, in batches of
three. Prints `going` when the first thirty deletions are durable.
"""

import asyncio
import sys
import time
from itertools import count
from pathlib import Path

from services.ca.storage import MIGRATIONS, Storage
from services.database import Database
from tests.unit.ca.records import NOW, reservation, revoke

WRITERS = 4


async def write(storage: Storage, first: int) -> None:
    # What a process before this one left is under other numbers.
    for number in count(first + time.time_ns(), WRITERS):
        names = (f"h{number % 7}.example", f"{number % 3}.example")
        reserved = reservation(number, names, not_after=NOW - 1 - number % 9_000, requester=f"account {number % 5}")
        row = await storage.reserve(reserved)
        await storage.store(row, b"c" * 500, NOW - number % 200_000)
        if number % 11 == 0:
            await revoke(storage, number)


async def delete(storage: Storage) -> None:
    inventory = storage.inventory()
    deleted = 0
    position: tuple[int, int] | None = None
    while True:
        batch = await inventory.delete_expired(NOW, NOW, position or (0, 0), 3)
        position = batch.position
        if deleted < 30 <= deleted + batch.deleted:
            sys.stdout.write("going\n")
            sys.stdout.flush()
        deleted += batch.deleted


async def run(path: Path) -> None:
    storage = Storage(await Database.open(path, MIGRATIONS))
    await asyncio.gather(delete(storage), *(write(storage, number) for number in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
