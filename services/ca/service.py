"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import os
import time
from typing import Final

from services.ca import ceremony_messages, messages
from services.ca.ceremonies import Ceremonies
from services.ca.installation import hierarchy_files, open_installation
from services.ca.keyring import Keyring
from services.ca.metrics import AuthorityMetrics
from services.ca.server import CertificateAuthority, rules_of
from services.ca.token_keys import Pkcs11Token
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"


class CaService:
    """What the worker runs."""

    def __init__(self, authority: CertificateAuthority, ceremonies: Ceremonies, server: Server) -> None:
        self._authority = authority
        self._ceremonies = ceremonies
        self._server = server

    async def probe(self) -> None:
        """Do all that issuing needs. Raises ProbeFailed, StorageUnavailable or DatabaseCorrupt."""
        await self._authority.probe()

    async def drain(self) -> None:
        """Accept no more calls, answer those in flight, and get what was begun on record."""
        await self._server.drain()
        await self._ceremonies.finish()
        await self._authority.finish()

    async def close(self) -> None:
        """Close the record."""
        self._server.close()
        await self._authority.close()


async def build(worker: Worker) -> CaService:
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    rules = rules_of(worker.settings.ca)
    files = hierarchy_files(worker.settings, keyring_of(worker))
    installation = await open_installation(worker.settings, unix_seconds, worker.log, files)
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        metrics=AuthorityMetrics(worker.metrics),
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    await authority.start()
    ceremonies = Ceremonies(
        worker.settings, installation.hierarchy, files, (authority.adopt,), worker.log, unix_seconds
    )
    handlers: dict[str, Handler] = {
        "issue": authority.issue,
        "get": authority.get,
        "list": authority.list,
        "roots": authority.roots,
        **{name: getattr(ceremonies, name) for name in ceremony_messages.METHODS},
    }
    known = {**messages.METHODS, **ceremony_messages.METHODS}
    methods = {name: (request, handlers[name]) for name, (request, _) in known.items()}
    server = Server(worker.sockets[LISTENER], methods)
    server.start()
    return CaService(authority, ceremonies, server)


def keyring_of(worker: Worker) -> Keyring:
    """What opens the authority's keys, by settings and secrets."""
    ca = worker.settings.ca
    token = Pkcs11Token(ca.pkcs11_module, ca.pkcs11_token, worker.secret("pkcs11_pin")) if ca.pkcs11_module else None
    return Keyring(worker.secret("key_passphrase"), token)


def unix_seconds() -> int:
    """The clock that certificates go by: the wall clock of the host, whole seconds since the Unix epoch."""
    return int(time.time())
