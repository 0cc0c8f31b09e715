"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import os
from typing import Final

from services.ca import assembly
from services.ca.assembly import unix_seconds
from services.ca.evidence.messages import METHODS as EVIDENCE
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.messages import METHODS as CEREMONIES
from services.ca.hierarchy.server import Ceremonies
from services.ca.installation import hierarchy_files, open_installation
from services.ca.inventory.messages import METHODS as INVENTORY
from services.ca.inventory.server import Inventory
from services.ca.issuance.hold import IssuanceHold
from services.ca.messages import METHODS as ISSUANCE
from services.ca.metrics import AuthorityMetrics
from services.ca.reconciliation.messages import METHODS as RECONCILIATION
from services.ca.reconciliation.reconciler import Reconciler
from services.ca.server import CertificateAuthority
from services.ca.status.authorities import authorities_of
from services.ca.status.crl_publication import signings_of
from services.ca.status.messages import METHODS as STATUS
from services.ca.status.server import CertificateStatusService
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"

METHODS: Final = {**ISSUANCE, **CEREMONIES, **STATUS, **INVENTORY, **RECONCILIATION, **EVIDENCE}


class CaService:
    """What the worker runs."""

    def __init__(
        self,
        authority: CertificateAuthority,
        status: CertificateStatusService,
        ceremonies: Ceremonies,
        inventory: Inventory,
        reconciler: Reconciler,
        server: Server,
    ) -> None:
        self._authority = authority
        self._status = status
        self._ceremonies = ceremonies
        self._inventory = inventory
        self._reconciler = reconciler
        self._server = server
        self._tried = False

    async def probe(self) -> None:
        """Do all that issuing and status need; the first time, try every profile too.

        Raises ProbeFailed, StorageUnavailable and ConfigurationError (DatabaseCorrupt, a profile that cannot be used).
        """
        # Here and not before the first call: a successor of a killed worker has callers that wait.
        if not self._tried:
            await self._authority.try_profiles()
            self._tried = True
        await self._authority.probe()
        await self._status.probe()

    async def drain(self) -> None:
        """Accept no more calls, answer those in flight, and get what was begun on record."""
        await self._server.drain()
        await self._ceremonies.finish()
        await self._reconciler.close()
        await self._authority.finish()
        await self._status.finish()

    async def close(self) -> None:
        """Close the record."""
        self._server.close()
        await self._inventory.close()
        await self._authority.close()


async def build(worker: Worker) -> CaService:
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    settings = worker.settings
    rules, hold = assembly.rules_of(settings), IssuanceHold()
    metrics = AuthorityMetrics(worker.metrics, rules.profiles)
    files = hierarchy_files(settings, assembly.keyring_of(worker))
    installation = await open_installation(settings, unix_seconds, worker.log, files)
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        transparency=assembly.transparency_log(worker, hold),
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    await authority.start()
    status = await assembly.open_status(worker, installation, metrics.counting_refusals)

    def adopt(hierarchy: Hierarchy) -> None:
        # Status first: whatever a new issuer certifies points to lists and answers that have to be there.
        authorities = authorities_of(hierarchy, settings.ca.crl_partitions)
        status.adopt(authorities, signings_of(authorities, settings))
        authority.adopt(hierarchy)

    ceremonies = Ceremonies(settings, installation.hierarchy, files, (adopt,), worker.log, unix_seconds)
    inventory = assembly.inventory_of(worker, installation.storage, (authority.items, status.items))
    reconciler = await assembly.open_reconciler(worker, installation.storage, status, rules, hold)
    composer = assembly.composer_of(worker, installation.storage, authority, status, metrics)
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
        "evidence": composer.evidence,
        "findings": reconciler.findings,
        **{name: getattr(ceremonies, name) for name in CEREMONIES},
    }
    server = Server(worker.sockets[LISTENER], {name: (asked, handlers[name]) for name, (asked, _) in METHODS.items()})
    server.start()
    inventory.start()
    return CaService(authority, status, ceremonies, inventory, reconciler, server)
