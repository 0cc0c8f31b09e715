"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from config.problems import ConfigError
from config.profile_files import load_profiles
from config.schema import Settings
from services.ca import ceremony_messages, crl_takeover, messages
from services.ca.authorities import Authorities, authorities_of
from services.ca.ceremonies import Ceremonies
from services.ca.crl_files import CrlFiles
from services.ca.crl_publication import CrlPublication, signings_of
from services.ca.expiry import Item
from services.ca.hierarchy import Hierarchy
from services.ca.installation import hierarchy_files, open_installation
from services.ca.inventory import Inventory
from services.ca.inventory_metrics import InventoryMetrics
from services.ca.keyring import Keyring
from services.ca.metrics import AuthorityMetrics
from services.ca.responders import Responders
from services.ca.retention import Retention
from services.ca.rules import Rules
from services.ca.server import CertificateAuthority
from services.ca.status import CertificateStatusService
from services.ca.status_metrics import StatusMetrics
from services.ca.status_storage import StatusStorage
from services.ca.storage import Storage
from services.ca.surroundings import Surroundings
from services.ca.token_keys import Pkcs11Token
from services.ca.transparency import TransparencyLog
from services.errors import ConfigurationError
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"
LOG_SHARE: Final = 0.5  # of the time for a probe: so that a log that hangs is found out before the probe is too late


class CaService:
    """What the worker runs."""

    def __init__(
        self,
        authority: CertificateAuthority,
        status: CertificateStatusService,
        ceremonies: Ceremonies,
        inventory: Inventory,
        server: Server,
    ) -> None:
        self._authority = authority
        self._status = status
        self._ceremonies = ceremonies
        self._inventory = inventory
        self._server = server

    async def probe(self) -> None:
        """Do all that issuing and status need. Raises ProbeFailed, StorageUnavailable or DatabaseCorrupt."""
        await self._authority.probe()
        await self._status.probe()

    async def drain(self) -> None:
        """Accept no more calls, answer those in flight, and get what was begun on record."""
        await self._server.drain()
        await self._ceremonies.finish()
        await self._authority.finish()
        await self._status.finish()

    async def close(self) -> None:
        """Close the record."""
        self._server.close()
        await self._inventory.close()
        await self._authority.close()


async def build(worker: Worker) -> CaService:
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    rules = rules_of(worker.settings)
    files = hierarchy_files(worker.settings, keyring_of(worker))
    installation = await open_installation(worker.settings, unix_seconds, worker.log, files)
    roots = installation.hierarchy.anchors()
    probe_seconds = worker.probe_timeout * LOG_SHARE
    metrics = AuthorityMetrics(worker.metrics, rules.profiles)
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        transparency=TransparencyLog(worker.peer("ct"), roots, worker.log, unix_milliseconds, probe_seconds),
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    await authority.start()
    authorities = authorities_of(installation.hierarchy, worker.settings.ca.crl_partitions)
    status = await open_status(worker, authorities, installation.storage.status(), metrics.counting_refusals)

    def adopt(hierarchy: Hierarchy) -> None:
        # Status first: whatever a new issuer certifies points to lists and answers that have to be there.
        changed = authorities_of(hierarchy, worker.settings.ca.crl_partitions)
        status.adopt(changed, signings_of(changed, worker.settings))
        authority.adopt(hierarchy)

    ceremonies = Ceremonies(worker.settings, installation.hierarchy, files, (adopt,), worker.log, unix_seconds)
    inventory = inventory_of(worker, installation.storage, (authority.items, status.items))
    handlers: dict[str, Handler] = {
        "issue": authority.issue,
        "get": authority.get,
        "list": authority.list,
        "roots": authority.roots,
        "revoke": status.revoke,
        "crl": status.crl,
        "ocsp": status.ocsp,
        "issuer_certificate": status.issuer_certificate,
        "inventory": inventory.inventory,
        "expiry": inventory.expiry,
        **{name: getattr(ceremonies, name) for name in ceremony_messages.METHODS},
    }
    known = {**messages.METHODS, **ceremony_messages.METHODS}
    methods = {name: (request, handlers[name]) for name, (request, _) in known.items()}
    server = Server(worker.sockets[LISTENER], methods)
    server.start()
    inventory.start()
    return CaService(authority, status, ceremonies, inventory, server)


def inventory_of(worker: Worker, record: Storage, sources: Sequence[Callable[[], Iterable[Item]]]) -> Inventory:
    """The inventory of an open record; `sources` give what ends beside the leaves."""
    metrics = InventoryMetrics(worker.metrics)
    storage = record.inventory()
    return Inventory(
        storage=storage,
        retention=Retention(storage, worker.settings.ca.retention_days, metrics, worker.log, unix_seconds),
        sources=sources,
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        disk_free=lambda: shutil.disk_usage(worker.settings.paths.ca_dir).free,
    )


async def open_status(
    worker: Worker,
    authorities: Authorities,
    storage: StatusStorage,
    counting_refusals: Callable[[], AbstractContextManager[None]],
) -> CertificateStatusService:
    """Bring record and published lists together, and keep status from now on. Raises StorageUnavailable."""
    settings = worker.settings
    around = Surroundings(
        metrics=StatusMetrics(worker.metrics),
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
        backdate=settings.ca.backdate,
    )
    files = CrlFiles(settings.paths.ca_dir / "crl")
    publication = CrlPublication(
        signings=signings_of(authorities, settings), storage=storage, files=files, around=around
    )
    await crl_takeover.restore(files, authorities, storage, publication, around)
    lifetime = settings.ca.ocsp_validity
    status = CertificateStatusService(
        authorities=authorities,
        storage=storage,
        publication=publication,
        responders=Responders(issuers=authorities.issuers, storage=storage, around=around, lifetime=lifetime),
        around=around,
        counting_refusals=counting_refusals,
        answer_lifetime=lifetime,
    )
    await status.start()
    return status


def rules_of(settings: Settings) -> Rules:
    """What settings and profiles let the authority issue. Raises ConfigurationError with everything that is wrong."""
    try:
        documents = load_profiles(settings)
    except ConfigError as error:
        raise ConfigurationError(f"the certificate profiles cannot be used: {error}") from error
    return Rules.of(settings, documents)


def unix_milliseconds() -> int:
    """The clock that timestamps go by: the same, in milliseconds."""
    return time.time_ns() // 1_000_000


def keyring_of(worker: Worker) -> Keyring:
    """What opens the authority's keys, by settings and secrets."""
    ca = worker.settings.ca
    token = Pkcs11Token(ca.pkcs11_module, ca.pkcs11_token, worker.secret("pkcs11_pin")) if ca.pkcs11_module else None
    return Keyring(worker.secret("key_passphrase"), token)


def unix_seconds() -> int:
    """The clock that certificates go by: the wall clock of the host, whole seconds since the Unix epoch."""
    return int(time.time())
