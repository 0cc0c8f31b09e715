"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Final

from services.ca import assembly
from services.ca.assembly import ProfileTrial, unix_seconds
from services.ca.evidence.messages import METHODS as EVIDENCE
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.messages import METHODS as CEREMONIES
from services.ca.hierarchy.server import Ceremonies
from services.ca.installation import hierarchy_files, open_installation
from services.ca.inventory.expiry import Item
from services.ca.inventory.messages import METHODS as INVENTORY
from services.ca.inventory.server import Inventory
from services.ca.issuance.hold import IssuanceHold
from services.ca.messages import METHODS as ISSUANCE
from services.ca.metrics import AuthorityMetrics
from services.ca.opening import Opening
from services.ca.reconciliation.messages import METHODS as RECONCILIATION
from services.ca.reconciliation.reconciler import Reconciler
from services.ca.server import CertificateAuthority
from services.ca.status.authorities import authorities_of
from services.ca.status.crl_publication import signings_of
from services.ca.status.messages import METHODS as STATUS
from services.ca.status.server import CertificateStatusService
from services.rpc_server import Call, Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"
FIRST_ISSUING_SECONDS: Final = 0.05  # for those who waited

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
        trial: ProfileTrial,
        server: Server,
    ) -> None:
        self._authority = authority
        self._status = status
        self._ceremonies = ceremonies
        self._inventory = inventory
        self._reconciler = reconciler
        self._trial = trial
        self._server = server

    async def probe(self) -> None:
        """Do all that issuing and status need; the first time, try profiles that were not tried yet.

        Raises ProbeFailed, StorageUnavailable and ConfigurationError (DatabaseCorrupt, a profile that cannot be used).
        """
        await self._trial.passed()
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
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable.

    Issuing is answered first: a successor of a killed worker has callers that wait. What needs the lists and positions
    on record (certificates with their status, revocation, ceremonies) waits until these are read, a moment later or
    when it is asked for.
    """
    settings = worker.settings
    rules, hold = assembly.rules_of(settings), IssuanceHold()
    metrics = AuthorityMetrics(worker.metrics, rules.profiles)
    files = hierarchy_files(settings, assembly.keyring_of(worker))
    installation = await open_installation(settings, unix_seconds, worker.log, files)
    storage = installation.storage
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        transparency=assembly.transparency_log(worker, hold),
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    authority.start()
    status = Opening(assembly.open_status(worker, installation, metrics.counting_refusals))
    reconciler = Opening(assembly.open_reconciler(worker, storage, authority, status, rules, hold))

    def adopt(hierarchy: Hierarchy) -> None:
        # Status first: whatever a new issuer certifies points to lists and answers that have to be there.
        authorities = authorities_of(hierarchy, settings.ca.crl_partitions)
        status.opened.adopt(authorities, signings_of(authorities, settings))
        authority.adopt(hierarchy)

    def items() -> Iterable[Item]:
        return (*authority.items(), *status.opened.items())

    ceremonies = Ceremonies(settings, installation.hierarchy, files, (adopt,), worker.log, unix_seconds)
    inventory = assembly.inventory_of(worker, storage, (items,))
    composer = assembly.composer_of(worker, storage, authority, status, metrics)
    handlers: dict[str, Handler] = {
        **{name: getattr(authority, name) for name in ISSUANCE},
        # What a restored record says of a certificate may have been revoked since, and only the lists know.
        "get": _after(status, authority.get),
        "list": _after(status, authority.list),
        **{name: _of(status, name) for name in STATUS},
        **{name: _after(status, getattr(ceremonies, name)) for name in CEREMONIES},
        **{name: _of(reconciler, name) for name in RECONCILIATION},
        **{name: getattr(composer, name) for name in EVIDENCE},
        "inventory": inventory.inventory,
        "expiry": _after(status, inventory.expiry),
    }
    server = Server(worker.sockets[LISTENER], {name: (asked, handlers[name]) for name, (asked, _) in METHODS.items()})
    server.start()
    try:
        # Nothing is issued before the reconciler has seen the log; reading the lists takes longer than a certificate.
        comparing = await reconciler
        await asyncio.sleep(FIRST_ISSUING_SECONDS)
        answering = await status
    except BaseException:
        server.close()
        await reconciler.abandon(Reconciler.close)
        await ceremonies.finish()
        await authority.finish()
        await status.abandon(CertificateStatusService.finish)
        await authority.close()
        raise
    inventory.start()
    trial = assembly.profile_trial(settings, authority)
    return CaService(authority, answering, ceremonies, inventory, comparing, trial, server)


def _of(part: Opening[Any], method: str) -> Handler:
    """A method of something that is being opened."""

    async def call(request: Any, context: Call) -> object:
        return await getattr(await part, method)(request, context)

    return call


def _after(part: Opening[Any], handler: Handler) -> Handler:
    """A method that needs something which is being opened."""

    async def call(request: Any, context: Call) -> object:
        await part
        return await handler(request, context)

    return call
