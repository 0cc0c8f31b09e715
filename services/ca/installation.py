"""Opening what the authority consists of: its hierarchy and its record. The first time, creating it.

Rules:
- The order of the first start is record, then hierarchy. So a hierarchy without a record, or a record with rows and
  without a hierarchy, is no start that was interrupted: it is a loss. It is told (exit 78) and nothing is made anew.
- A crash at any step of the first start leaves a state from which the next start goes on.
- Settings of the hierarchy count only when an authority is created; an existing one is used as it is. A post-quantum
  hierarchy is created when it is first asked for, at any start.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from config.schema import Ca, Settings
from services.ca.hierarchy import ceremony
from services.ca.hierarchy.ceremony import Means
from services.ca.hierarchy.creation import Plan
from services.ca.hierarchy.files import HierarchyFiles
from services.ca.hierarchy.hierarchy import SECONDS_PER_DAY, Hierarchy, Kind
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.old_layout import OLD_DIRECTORY, take_over
from services.ca.policy.name_constraints import NameConstraints
from services.ca.serials import new_serial
from services.ca.storage import MIGRATIONS, Storage
from services.database import Database
from services.errors import ConfigurationError, StorageUnavailable

RECORD: Final = "certificates.db"
EMPTY_RECORD_ACCEPTED: Final = "accept-empty-record"
MARK_OCTETS: Final = 4

_LABELS: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Installation:
    """An open authority."""

    hierarchy: Hierarchy
    storage: Storage


def hierarchy_files(settings: Settings, keyring: Keyring | None = None) -> HierarchyFiles:
    """The files of the hierarchy of these settings, with what opens its keys."""
    return HierarchyFiles(settings.paths.ca_dir, settings.paths.root_certificate, keyring)


async def open_installation(
    settings: Settings, now: Callable[[], int], log: Any, files: HierarchyFiles | None = None
) -> Installation:
    """Open the authority of these settings, creating it if there is none. `now` gives seconds since the Unix epoch.

    Raises ConfigurationError (DatabaseCorrupt too) for what an operator has to mend, and StorageUnavailable.
    """
    ca_dir = settings.paths.ca_dir
    files = files or hierarchy_files(settings)
    _make_directory(ca_dir)
    _check_record(files, ca_dir)
    storage = Storage(await Database.open(ca_dir / RECORD, MIGRATIONS))
    try:
        if (consent := ca_dir / EMPTY_RECORD_ACCEPTED).exists():
            await _keep_consent(storage, now(), log)
            consent.unlink()
        opened = await _opened(settings, files, storage, now, log)
        files.publish(opened)
    except BaseException:
        await storage.close()
        raise
    _tell(opened, log)
    return Installation(opened, storage)


async def _opened(
    settings: Settings, files: HierarchyFiles, storage: Storage, now: Callable[[], int], log: Any
) -> Hierarchy:
    if take_over(settings.paths.ca_dir, files, now):
        log.info("brought the files of the hierarchy into their present layout", directory=str(files.directory))
    if not files.exist():
        await _create(settings, files, storage, now)
        log.info("created a new hierarchy", directory=str(files.directory), key_type=settings.ca.key_type)
    opened = files.load()
    if settings.ca.post_quantum and "post-quantum" not in opened.kinds:
        other = await asyncio.to_thread(_made, settings, now(), "post-quantum", files.keyring)
        opened = ceremony.joined(opened, other)
        await asyncio.to_thread(files.commit, opened)
        log.info("created a post-quantum hierarchy", directory=str(files.directory))
    return opened


async def _keep_consent(storage: Storage, now: int, log: Any) -> None:
    """Put the operator's consent to an empty record on it; a crash before its file is gone does so again."""
    if await storage.is_empty():
        await storage.reconciliation().give_up_record(now)
        log.warning("going on with an empty record, as the operator accepted")
    else:
        log.warning("the consent to an empty record is taken back: the record is not empty")


def _check_record(files: HierarchyFiles, ca_dir: Path) -> None:
    """Raises ConfigurationError when the record is lost and the operator has not consented to that by a file."""
    record = ca_dir / RECORD
    if not (files.exist() or (ca_dir / OLD_DIRECTORY).exists()) or record.exists():
        return
    consent = ca_dir / EMPTY_RECORD_ACCEPTED
    if consent.exists():
        return
    raise ConfigurationError(
        f"{record} is missing, the record of every certificate issued with {files.directory}: restore it from a "
        f"backup. To go on with the same keys and an empty record instead, create the file {consent}"
    )


async def _create(settings: Settings, files: HierarchyFiles, storage: Storage, now: Callable[[], int]) -> None:
    if not await storage.is_empty():
        raise ConfigurationError(
            f"{files.document} and {files.directory} are missing, the keys of the authority whose certificates are on "
            "record: restore them from a backup; nothing was changed"
        )
    # In a thread: an RSA key takes about as long as a heartbeat may be late.
    created = await asyncio.to_thread(_made, settings, now(), "classical", files.keyring)
    await asyncio.to_thread(files.commit, created)


def _made(settings: Settings, now: int, kind: Kind, keyring: Keyring) -> Hierarchy:
    return new_hierarchy(settings.ca, now, kind, keyring, own_names(settings))


def new_hierarchy(
    ca: Ca, now: int, kind: Kind = "classical", keyring: Keyring | None = None, own: Iterable[str] = ()
) -> Hierarchy:
    """A root and an intermediate with new keys, by settings; `own`: what the API of this host may be called."""
    plan = plan_of(ca, own)
    make = partial((keyring or Keyring()).generate, kind, ca.key_type)
    root_key, key = make(f"root {plan.mark}"), make(f"intermediate {plan.mark}")
    return ceremony.begun(Means(plan, partial(new_serial, os.urandom), now), root_key, key)


def plan_of(ca: Ca, own: Iterable[str] = ()) -> Plan:
    """What a new authority is to be, by settings."""
    return Plan(
        organization=ca.name,
        mark=os.urandom(MARK_OCTETS).hex(),
        root_lifetime=ca.root_lifetime_days * SECONDS_PER_DAY,
        intermediate_lifetime=ca.intermediate_lifetime_days * SECONDS_PER_DAY,
        backdate=ca.backdate,
        path_length=ca.path_length,
        constraints=NameConstraints.of_settings(permitted_names(ca, own), ca.excluded_names),
    )


def permitted_names(ca: Ca, own: Iterable[str]) -> tuple[str, ...]:
    """What an intermediate is constrained to: the operator's names, and the API's own, or else it could not serve.

    Of a kind that the operator does not restrict, no own names are added: they would restrict it.
    """
    entries = NameConstraints.of_settings(ca.permitted_names, ()).permitted
    mine = NameConstraints.of_settings(own, ()).permitted
    domains = (*entries.domains, *mine.domains) if entries.domains else ()
    networks = (*entries.networks, *mine.networks) if entries.networks else ()
    return tuple(dict.fromkeys((*domains, *map(str, networks))))


def own_names(settings: Settings) -> tuple[str, ...]:
    """What the API of this host may be called."""
    bound = (address for address in settings.api.addresses if not ip_address(address).is_unspecified)
    host = socket.gethostname().lower()
    hosts = (host,) if _LABELS.fullmatch(host) else ()
    return ("localhost", *hosts, settings.server.domain, "127.0.0.1", "::1", *bound, *settings.api.names)


def _tell(opened: Hierarchy, log: Any) -> None:
    root, issuer = opened.active_root(), opened.active()
    log.info(
        "certificate authority open",
        root=root.certificate.subject.rfc4514_string(),
        fingerprint_sha256=root.certificate.fingerprint(hashes.SHA256()).hex(),
        root_not_after=root.certificate.not_valid_after_utc.isoformat(),
        intermediate_not_after=issuer.certificate.not_valid_after_utc.isoformat(),
        authorities=len(opened.roots) + len(opened.issuers),
    )


def _make_directory(ca_dir: Path) -> None:
    try:
        ca_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"{ca_dir} cannot be made: {error.strerror}") from error
