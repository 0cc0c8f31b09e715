"""What the lists in the directory say that the record does not know: taken over at each start.

A backup of the database is older than the lists that were published since. Restoring it would undo revocations, had
the lists not kept them; they are read before anything is answered that tells what is revoked.

Rules:
- Only a list that one of our authorities signed counts. Everything else is named in the log and left alone.
- A list that is the one on record, octet for octet, was made from the record, and is not read again.
- Certificates that the restored record does not know are revoked all the same; their end is taken to be that of their
  issuer, which none of them outlives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.ca.serials import serial_text
from services.ca.status import crl
from services.ca.status.authorities import ROOT_PARTITION, Authorities
from services.ca.status.crl import Entry, Published, UnreadableCrl
from services.ca.status.crl_files import CrlFiles, FoundFile
from services.ca.status.crl_publication import CrlPublication
from services.ca.status.revocation import Revocation
from services.ca.status.storage import ListKey, StatusStorage
from services.ca.status.surroundings import Surroundings

NAMED_IN_LOG = 10


@dataclass(frozen=True, slots=True)
class FoundList:
    """A list in the directory that one of our authorities signed."""

    path: Path
    issuer: str
    partition: int | None
    published: Published
    entries: Sequence[Entry]


_NOT_OURS: Final[tuple[ListKey, Published]] = (("", 0), Published(b"", 0, 0, 0, 0, ()))


async def restore(
    files: CrlFiles,
    authorities: Authorities,
    storage: StatusStorage,
    publication: CrlPublication,
    around: Surroundings,
) -> None:
    """Bring record, files and publication together. Raises StorageUnavailable: then no status may be told."""
    await asyncio.to_thread(files.prepare)
    stored = await storage.crls()
    for found in await asyncio.to_thread(_found, files, authorities, stored, around.log):
        await _take_over(found, authorities, storage, around)
        if found.partition is not None:
            publication.adopt((found.issuer, found.partition), found.published, of_file=True)
    for key, published in stored.items():
        publication.adopt(key, published, of_file=False)


def _found(files: CrlFiles, authorities: Authorities, stored: Mapping[ListKey, Published], log: Any) -> list[FoundList]:
    ours = {files.path(*key): (key, published) for key, published in stored.items()}
    return list(_readable(files.found(), authorities, ours, log))


def _readable(
    found: Iterator[FoundFile],
    authorities: Authorities,
    ours: Mapping[Path, tuple[ListKey, Published]],
    log: Any,
) -> Iterator[FoundList]:
    known = {published.der for _, published in ours.values()}
    for file in found:
        (issuer, partition), published = ours.get(file.path, _NOT_OURS)
        if file.content and published.der == file.content:
            # What was put on record and published in one: it was signed here, and says nothing new.
            yield FoundList(file.path, issuer, partition, published, ())
            continue
        try:
            if file.trouble:
                raise UnreadableCrl(file.trouble)
            yield _read(file, authorities, known)
        except UnreadableCrl as error:
            log.warning("a revocation list is not looked at", path=str(file.path), error=str(error))


def _read(file: FoundFile, authorities: Authorities, known: set[bytes]) -> FoundList:
    issuer = authorities.signer_of_list(file.content)
    certificate = None if issuer is None else authorities.certificate(issuer)
    if issuer is None or certificate is None:
        raise UnreadableCrl("it is a list of an authority that is not here")
    published, partition = crl.read(file.content, certificate)
    if issuer in authorities.roots:
        partition = ROOT_PARTITION
    entries = () if published.der in known else crl.entries(published.der)
    return FoundList(file.path, issuer, partition, published, entries)


async def _take_over(found: FoundList, authorities: Authorities, storage: StatusStorage, around: Surroundings) -> None:
    revocations = [_revocation(entry, found, authorities, storage) for entry in found.entries]
    added = await storage.take_over(revocations) if revocations else []
    if added:
        around.metrics.taken_over(len(added))
        around.log.warning(
            "revocations that the record did not know were taken over from a published list",
            path=str(found.path),
            number=found.published.number,
            count=len(added),
            serials=[one.serial for one in added[:NAMED_IN_LOG]],
        )


def _revocation(entry: Entry, found: FoundList, authorities: Authorities, storage: StatusStorage) -> Revocation:
    serial = serial_text(entry.serial)
    known = storage.on_record(serial)
    partition = found.partition
    if partition is None:
        partition = authorities.partition(entry.serial, None if known is None else known.certificate)
    return Revocation(
        serial=serial,
        issuer=found.issuer,
        partition=partition,
        revoked_at=entry.revoked_at,
        reason=entry.reason,
        not_after=authorities.not_after(found.issuer) if known is None else known.not_after,
        requester=f"taken over from {found.path.name}"[:256],
    )
