"""Opening what the authority consists of: its hierarchy and its record. The first time, creating it.

Rules:
- The order of the first start is record, then hierarchy. So a hierarchy without a record, or a record with rows and
  without a hierarchy, is no start that was interrupted: it is a loss. It is told (exit 78) and nothing is made anew.
- A crash at any step of the first start leaves a state from which the next start goes on.
- Settings of the hierarchy count only when it is created; an existing one is used as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from config.schema import Ca, Settings
from services.ca import hierarchy, keys
from services.ca.hierarchy import SECONDS_PER_DAY, Hierarchy, Issuer, Plan
from services.ca.issuance import new_serial
from services.ca.keys import HierarchyFiles
from services.ca.storage import MIGRATIONS, Storage
from services.database import Database
from services.errors import ConfigurationError, StorageUnavailable

RECORD: Final = "certificates.db"
EMPTY_RECORD_ACCEPTED: Final = "accept-empty-record"
MARK_OCTETS: Final = 4


@dataclass(frozen=True, slots=True)
class Installation:
    """An open authority."""

    hierarchy: Hierarchy
    storage: Storage


async def open_installation(settings: Settings, now: Callable[[], int], log: Any) -> Installation:
    """Open the authority of these settings, creating it if there is none. `now` gives seconds since the Unix epoch.

    Raises ConfigurationError (DatabaseCorrupt too) for what an operator has to mend, and StorageUnavailable.
    """
    ca_dir = settings.paths.ca_dir
    files = HierarchyFiles(ca_dir, settings.paths.root_certificate)
    _make_directory(ca_dir)
    accepted = _check_record(files, ca_dir)
    storage = Storage(await Database.open(ca_dir / RECORD, MIGRATIONS))
    try:
        if accepted is not None:
            log.warning("going on with an empty record, as the operator accepted")
            accepted.unlink()
        if not files.exist():
            await _create(files, storage, settings.ca, now)
            log.info("created a new hierarchy", directory=str(files.directory), key_type=settings.ca.key_type)
        opened = files.load()
        files.publish_root(opened.root)
    except BaseException:
        await storage.close()
        raise
    log.info(
        "certificate authority open",
        root=opened.root.subject.rfc4514_string(),
        fingerprint_sha256=opened.root.fingerprint(hashes.SHA256()).hex(),
        root_not_after=opened.root.not_valid_after_utc.isoformat(),
        intermediate_not_after=opened.issuer.certificate.not_valid_after_utc.isoformat(),
    )
    return Installation(opened, storage)


def _check_record(files: HierarchyFiles, ca_dir: Path) -> Path | None:
    """Raises ConfigurationError when the record is lost; the operator's consent to that, if it is given by a file."""
    record = ca_dir / RECORD
    if not files.exist() or record.exists():
        return None
    consent = ca_dir / EMPTY_RECORD_ACCEPTED
    if consent.exists():
        return consent
    raise ConfigurationError(
        f"{record} is missing, the record of every certificate issued with {files.directory}: restore it from a "
        f"backup. To go on with the same keys and an empty record instead, create the file {consent}"
    )


async def _create(files: HierarchyFiles, storage: Storage, ca: Ca, now: Callable[[], int]) -> None:
    if not await storage.is_empty():
        raise ConfigurationError(
            f"{files.directory} is missing, the keys of the authority whose certificates are on record: restore it "
            "from a backup; nothing was changed"
        )
    # In a thread: an RSA key takes about as long as a heartbeat may be late.
    created = await asyncio.to_thread(new_hierarchy, ca, now())
    await asyncio.to_thread(files.create, created)


def new_hierarchy(ca: Ca, now: int) -> Hierarchy:
    """A root and an intermediate with new keys, by settings."""
    plan = Plan(
        organization=ca.name,
        mark=os.urandom(MARK_OCTETS).hex(),
        root_lifetime=ca.root_lifetime_days * SECONDS_PER_DAY,
        intermediate_lifetime=ca.intermediate_lifetime_days * SECONDS_PER_DAY,
        backdate=ca.backdate,
    )
    root_key, key = keys.generate(ca.key_type), keys.generate(ca.key_type)
    root = hierarchy.create_root(plan, root_key, new_serial(os.urandom), now)
    intermediate = hierarchy.create_intermediate(plan, root, root_key, key, new_serial(os.urandom), now)
    return Hierarchy(root, root_key, Issuer.of(intermediate, key))


def _make_directory(ca_dir: Path) -> None:
    try:
        ca_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"{ca_dir} cannot be made: {error.strerror}") from error
