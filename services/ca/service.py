"""The certificate authority as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import os
import time
from typing import Final

from config.problems import ConfigError
from config.profile_files import load_profiles
from config.schema import Settings
from services.ca import messages
from services.ca.installation import open_installation
from services.ca.metrics import AuthorityMetrics
from services.ca.rules import Rules
from services.ca.server import CertificateAuthority
from services.ca.transparency import TransparencyLog
from services.errors import ConfigurationError
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"
LOG_SHARE: Final = 0.5  # of the time for a probe: so that a log that hangs is found out before the probe is too late


class CaService:
    """What the worker runs."""

    def __init__(self, authority: CertificateAuthority, server: Server) -> None:
        self._authority = authority
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
        await self._authority.close()


async def build(worker: Worker) -> CaService:
    """Open the authority, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    rules = rules_of(worker.settings)
    installation = await open_installation(worker.settings, unix_seconds, worker.log)
    probe_seconds = worker.probe_timeout * LOG_SHARE
    authority = CertificateAuthority(
        installation=installation,
        rules=rules,
        transparency=TransparencyLog(worker.peer("ct"), worker.log, unix_milliseconds, probe_seconds),
        metrics=AuthorityMetrics(worker.metrics, rules.profiles),
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
    )
    await authority.start()
    handlers: dict[str, Handler] = {
        "issue": authority.issue,
        "get": authority.get,
        "list": authority.list,
        "roots": authority.roots,
    }
    methods = {name: (request, handlers[name]) for name, (request, _) in messages.METHODS.items()}
    server = Server(worker.sockets[LISTENER], methods)
    server.start()
    return CaService(authority, server)


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


def unix_seconds() -> int:
    """The clock that certificates go by: the wall clock of the host, whole seconds since the Unix epoch."""
    return int(time.time())
