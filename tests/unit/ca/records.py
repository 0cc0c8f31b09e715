"""Records of issued certificates for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.ca.storage import MIGRATIONS, Reservation, Storage
from services.database import Database

NOW = 1_800_000_000


def reservation(
    number: int,
    names: tuple[str, ...] = ("host.example",),
    *,
    profile: str = "tls-server",
    not_after: int = NOW + 86_400,
    requester: str = "a test",
    issuer: str = "01",
) -> Reservation:
    """What a serial number is reserved for. `number` is the serial number."""
    return Reservation(
        serial=f"{number:032x}",
        issuer=issuer,
        profile=profile,
        subject=f"CN={names[0]}",
        names=names,
        requester=requester,
        not_before=NOW - 60,
        not_after=not_after,
        reserved_at=NOW,
    )


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Storage]:
    """The record in this directory."""
    storage = Storage(await Database.open(directory / "certificates.db", MIGRATIONS))
    try:
        yield storage
    finally:
        await storage.close()


async def issue(storage: Storage, *reservations: Reservation, size: int = 8, at: int = NOW) -> None:
    """Put certificates of `size` octets on record, issued `at` that second."""
    for reserved in reservations:
        row = await storage.reserve(reserved)
        await storage.store(row, b"c" * size, at)


async def revoke(storage: Storage, *numbers: int, at: int = NOW) -> None:
    """Put revocations of these serial numbers on record."""
    sql = (
        "INSERT INTO revocations (serial, issuer, partition, revoked_at, reason, not_after, requester, trace) "
        "VALUES (?, '01', 0, ?, 'superseded', 0, '', '')"
    )
    rows = [(f"{number:032x}", at) for number in numbers]
    await storage._database.write(lambda connection: connection.executemany(sql, rows).rowcount)
