"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import os
import shutil
import time
from typing import Final

from services.ca import messages
from services.ca.expiry import Item
from services.ca.installation import Installation, open_installation
from services.ca.inventory import Inventory
from services.ca.inventory_metrics import InventoryMetrics
from services.ca.metrics import AuthorityMetrics
from services.ca.retention import Retention
from services.ca.server import CertificateAuthority, rules_of
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"


class CaService:
    """What the worker runs."""

    def __init__(self, authority: CertificateAuthority, inventory: Inventory, server: Server) -> None:
        self._authority = authority
        self._inventory = inventory
        self._server = server

    async def probe(self) -> None:
        """Do all that issuing needs. Raises ProbeFailed, StorageUnavailable or DatabaseCorrupt."""
        await self._authority.probe()

    async def drain(self) -> None:
        """Accept no more calls, answer those in flight, and get what was begun on record."""
        await self._server.drain()
        await self._authority.finish()

    async def close(self) -> None:
        """Close the record."""
        self._server.close()
        await self._inventory.close()
        await self._authority.close()


async def build(worker: Worker) -> CaService:
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    rules = rules_of(worker.settings.ca)
    installation = await open_installation(worker.settings, unix_seconds, worker.log)
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        metrics=AuthorityMetrics(worker.metrics),
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    await authority.start()
    inventory = inventory_of(worker, installation)
    handlers: dict[str, Handler] = {
        "issue": authority.issue,
        "get": authority.get,
        "list": authority.list,
        "roots": authority.roots,
        "inventory": inventory.inventory,
        "expiry": inventory.expiry,
    }
    methods = {name: (request, handlers[name]) for name, (request, _) in messages.METHODS.items()}
    server = Server(worker.sockets[LISTENER], methods)
    server.start()
    inventory.start()
    return CaService(authority, inventory, server)


def inventory_of(worker: Worker, installation: Installation) -> Inventory:
    """The inventory of an open authority."""
    metrics = InventoryMetrics(worker.metrics)
    storage = installation.storage.inventory()
    days = worker.settings.ca.retention_days
    owned = installation.hierarchy

    def authorities() -> list[Item]:
        return [
            Item.of_certificate("root", owned.root),
            Item.of_certificate("intermediate", owned.issuer.certificate),
        ]

    return Inventory(
        storage=storage,
        retention=Retention(storage, days, metrics, worker.log, unix_seconds),
        sources=(authorities,),
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        disk_free=lambda: shutil.disk_usage(worker.settings.paths.ca_dir).free,
    )


def unix_seconds() -> int:
    """The clock that certificates go by: the wall clock of the host, whole seconds since the Unix epoch."""
    return int(time.time())
