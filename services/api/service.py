"""The API as one service: built from what the worker inherited, probed, drained, closed."""

from __future__ import annotations

import asyncio
import importlib.metadata
import resource
import socket
import ssl
from typing import Final

import msgspec

from services.api import openapi, tokens
from services.api.admission import PROBE, Admission
from services.api.callers import Identify, ProbePlaces, by_token
from services.api.certificate import OwnCertificate
from services.api.connections import ConnectionLimits, Connections, Interface
from services.api.durable import raise_if_no_room
from services.api.endpoints import Endpoints
from services.api.endpoints_ct import CtEndpoints
from services.api.endpoints_status import StatusEndpoints
from services.api.identity import names_of
from services.api.metrics import ApiMetrics
from services.api.peers import Peer
from services.api.probe import PlainProbe, Probe, TlsProbe
from services.api.problems import AUTHORITY, LOG
from services.api.routes import ROUTES
from services.api.routes_status import HTTP_ROUTES
from services.api.routing import RouteTable
from services.api.server import HttpServer, Site
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
    settings = worker.settings
    metrics = ApiMetrics(worker.metrics)
    probe_token = tokens.new_token()
    holders = tokens.TokenHolders({tokens.ADMINISTRATOR: _administrator_token(worker), PROBE: probe_token})
    certificate = _own_certificate(worker, metrics)
    await certificate.start()
    _allow_descriptors(settings.api.max_connections)
    places = ProbePlaces()
    interfaces = _interfaces(worker, metrics, certificate.context, by_token(holders), places.identify)
    limits = ConnectionLimits(
        max_connections=settings.api.max_connections,
        handshake=settings.api.body_timeout,
        headers=settings.api.body_timeout,
        answer=settings.api.body_timeout + settings.api.request_timeout + _READING_SECONDS,
    )
    probe = Probe(
        TlsProbe(worker.sockets["https"], settings.paths.root_certificate, probe_token),
        PlainProbe(worker.sockets["http"], certificate.issuer, places),
    )
    urls = [_url(scheme, listener) for scheme in ("https", "http") for listener in worker.sockets[scheme]]
    worker.log.info("serving", urls=urls, certificate_not_after=certificate.not_after)
    return ApiService(Connections(interfaces, limits, metrics), certificate, probe)


def _interfaces(
    worker: Worker, metrics: ApiMetrics, context: ssl.SSLContext, over_tls: Identify, over_plain: Identify
) -> tuple[Interface, Interface]:
    """What is answered over TLS and over plain HTTP; one admission counts the requests of both."""
    admission = Admission(worker.settings.api)
    authority = Peer(worker.peer("ca"), AUTHORITY)
    endpoints = {**Endpoints(authority, _description).by_route, **CtEndpoints(Peer(worker.peer("ct"), LOG)).by_route}
    hint = "GET /v1/openapi.json lists what there is"
    https = Site(table=RouteTable(ROUTES, hint), endpoints=endpoints, identify=over_tls)
    http = Site(table=RouteTable(HTTP_ROUTES), endpoints=StatusEndpoints(authority).by_route, identify=over_plain)

    def interface(scheme: str, site: Site, tls: ssl.SSLContext | None) -> Interface:
        seconds = worker.probe_timeout * _AUTHORITY_SHARE
        server = HttpServer(worker.settings.api, seconds, site, admission, metrics)
        return Interface(sockets=worker.sockets[scheme], context=tls, answer=server.answer, bad_http=server.bad_http)

    return interface("https", https, context), interface("http", http, None)


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


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


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
