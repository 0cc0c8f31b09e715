"""The API as one service: built from what the worker inherited, probed, drained, closed."""

from __future__ import annotations

import asyncio
import importlib.metadata
import resource
import socket
from typing import Final

import msgspec

from services.api import openapi, tokens
from services.api.authority import Authority
from services.api.certificate import OwnCertificate
from services.api.connections import ConnectionLimits, Connections
from services.api.durable import raise_if_no_room
from services.api.endpoints import Endpoints
from services.api.identity import names_of
from services.api.metrics import ApiMetrics
from services.api.probe import Probe
from services.api.routes import ROUTES
from services.api.server import HttpsServer
from services.ca.messages import OWN_API, Certificate, IssueRequest
from services.worker import Worker

_PROFILE: Final = "tls-server"
# Of the time for a probe: the rest is for the handshakes, so that a slow authority is found out by the request's own
# deadline and not by the probe's.
_AUTHORITY_SHARE: Final = 0.6
# What a client may take to read its response, beyond the time that a request may take.
_READING_SECONDS: Final = 10.0
# Listening sockets, the call to the authority, files, the block, and what libraries open.
_OTHER_DESCRIPTORS: Final = 128


class ApiService:
    """Serves from the moment it exists."""

    def __init__(self, connections: Connections, certificate: OwnCertificate, probe: Probe) -> None:
        self._connections = connections
        self._certificate = certificate
        self._probe = probe
        self._renewing = asyncio.ensure_future(certificate.keep_valid())
        connections.start()

    async def probe(self) -> None:
        self._certificate.check()
        await self._probe.run()

    async def drain(self) -> None:
        self._renewing.cancel()
        await self._connections.drain()

    async def close(self) -> None:
        self._renewing.cancel()
        self._connections.close()


async def build(worker: Worker) -> ApiService:
    """Load or create token and certificate, and serve.

    Raises ConfigurationError for what an operator has to mend, StorageUnavailable while nothing can be written.
    """
    settings, sockets = worker.settings, worker.sockets["https"]
    metrics = ApiMetrics(worker.metrics)
    probe_token = tokens.new_token()
    holders = tokens.TokenHolders({tokens.ADMINISTRATOR: _administrator_token(worker), tokens.PROBE: probe_token})
    certificate = _own_certificate(worker, metrics)
    await certificate.start()
    _allow_descriptors(settings.api.max_connections)
    endpoints = Endpoints(Authority(worker.peer("ca")), _description)
    server = HttpsServer(settings.api, worker.probe_timeout * _AUTHORITY_SHARE, holders, endpoints, metrics)
    limits = ConnectionLimits(
        max_connections=settings.api.max_connections,
        handshake=settings.api.body_timeout,
        headers=settings.api.body_timeout,
        answer=settings.api.body_timeout + settings.api.request_timeout + _READING_SECONDS,
    )
    connections = Connections(sockets, certificate.context, limits, metrics, server.answer, server.bad_http)
    worker.log.info(
        "serving", urls=[_url(listener) for listener in sockets], certificate_not_after=certificate.not_after
    )
    return ApiService(connections, certificate, Probe(sockets, settings.paths.root_certificate, probe_token))


def _administrator_token(worker: Worker) -> str:
    try:
        return tokens.load_or_create(worker.settings.paths.admin_token)
    except OSError as error:
        raise_if_no_room(error, "the administrator's token cannot be stored")
        raise


def _own_certificate(worker: Worker, metrics: ApiMetrics) -> OwnCertificate:
    settings = worker.settings
    lifetime = min(settings.api.certificate_validity, settings.ca.max_validity)
    bound = [str(listener.getsockname()[0]) for listener in worker.sockets["https"]]
    names = names_of(settings.server.domain, socket.gethostname(), settings.api.names, bound)

    async def ask(csr: bytes) -> Certificate:
        request = IssueRequest(csr=csr, profile=_PROFILE, validity_seconds=lifetime, requester=OWN_API)
        # Issuing twice is harmless here as it is for clients: only one of the two is ever presented.
        return await worker.peer("ca").call(
            "issue", request, Certificate, timeout=settings.api.request_timeout, idempotent=True
        )

    return OwnCertificate(settings.paths, names, ask, metrics)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files as far as needed and allowed: a shell's default is below our connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _description() -> bytes:
    return msgspec.json.encode(openapi.document(ROUTES, _version()))


def _version() -> str:
    try:
        return importlib.metadata.version("trustchain")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"  # run from a checkout that is not installed
