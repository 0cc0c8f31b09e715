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
) -> Reservation:
    """What a serial number is reserved for. `number` is the serial number."""
    return Reservation(
        serial=f"{number:032x}",
        issuer="01",
        profile=profile,
        subject=f"CN={names[0]}",
        names=names,
        requester="a test",
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


async def issue(storage: Storage, *reservations: Reservation, size: int = 8) -> None:
    """Put certificates of `size` octets on record."""
    for reserved in reservations:
        row = await storage.reserve(reserved)
        await storage.store(row, b"c" * size, NOW)
