"""Connections: accepted, bounded in number and in time, and turned into HTTP requests.

Rules:
- Connections of all interfaces, with TLS and without, share one number of places, one set of limits, and one drain.
- The listening sockets belong to the supervisor and are never closed here. What is not accepted waits in their backlog,
  for this process or for its successor.
- No more than `max_connections` are open, TLS handshakes included. When all are taken, one that is not being answered
  makes room (services.api.occupancy says which).
- No phase of a connection lasts longer than its limit; a sweep once a second ends those that do. The HTTP library by
  itself bounds only idle time and the size of headers.
- What callers without a token send and do not read is bounded for all of them together (services.api.holdings).
- A drain tells clients through `Connection: close` in their next answer, and only then ends what is idle: a client that
  keeps sending requests meets no closed connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from aiohttp import web

from services.api.holdings import Holding, Holdings
from services.api.limits import address_key
from services.api.metrics import ApiMetrics
from services.api.occupancy import Occupant, Phase, overdue, to_evict

IDLE_SECONDS: Final = 75.0
MAX_LINE_BYTES: Final = 8190
MAX_HEADERS: Final = 64
# Beyond 64 KiB for each connection: bodies and answers of callers without a token.
MAX_HELD_OCTETS: Final = 134_217_728

_SWEEP_SECONDS: Final = 1.0
_ACCEPT_PAUSE_SECONDS: Final = 0.1
_TLS_CLOSE_SECONDS: Final = 0.5
_LAST_REQUEST_SECONDS: Final = 0.5
# How long the rest of a refused body is read and thrown away. Without it our close becomes a reset at the peer, and the
# response that says why is lost (RFC 9112, section 9.6).
_LINGER_SECONDS: Final = 1.0
_LIBRARY_LIMITS: Final[dict[str, Any]] = {
    "keepalive_timeout": IDLE_SECONDS,
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_LINE_BYTES,
    "max_headers": MAX_HEADERS,
    "lingering_time": _LINGER_SECONDS,
    "auto_decompress": False,  # no request is compressed here, so none may expand
    "access_log": None,
}

_log = structlog.stdlib.get_logger()

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
BadHttp = Callable[[web.BaseRequest], web.StreamResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Listening sockets, and who answers what comes in there. Without `context` it is plain HTTP."""

    sockets: Sequence[socket.socket]
    context: ssl.SSLContext | None
    answer: Answer
    bad_http: BadHttp


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """`handshake`, `headers` and `answer` are seconds; `answer` ends a client that does not read its response."""

    max_connections: int
    handshake: float
    headers: float
    answer: float

    def of_phases(self) -> dict[Phase, float]:
        return {
            Phase.HANDSHAKE: self.handshake,
            Phase.IDLE: IDLE_SECONDS,
            Phase.READING: self.headers,
            Phase.ANSWERING: self.answer,
        }


class Connection(web.RequestHandler):
    """The HTTP library's connection, with what it is doing since when."""

    __slots__ = ("_connections", "holding", "interface", "occupant")

    def __init__(self, connections: Connections, interface: Interface, occupant: Occupant, library: web.Server) -> None:
        super().__init__(library, loop=asyncio.get_running_loop(), **_LIBRARY_LIMITS)
        self._connections = connections
        self.interface = interface
        self.occupant = occupant
        self.holding = Holding(connections.holdings, occupant.address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.enter(Phase.IDLE)
        self._connections.joined(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.left(self.occupant)
        self.holding.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.occupant.phase is Phase.IDLE:
            self.enter(Phase.READING)
        super().data_received(data)

    def log_access(self, *_: object) -> None:
        """The library calls this when the last octet of a response has been handed to the transport."""
        self.enter(Phase.IDLE)
        self.holding.release()

    def handle_error(self, request: web.BaseRequest, *_: object) -> web.StreamResponse:
        """The library calls this for what is not HTTP; every other error is a response by then."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response was already begun")
        return self.interface.bad_http(request)

    def enter(self, phase: Phase) -> None:
        self.occupant.enter(phase, self._loop.time())

    def abort(self) -> None:
        """End it at once: a graceful TLS close would wait for the peer that is being ended for not answering."""
        if self.transport is not None:
            self.transport.abort()


class Unreadable(web.BaseRequest):
    """A request whose target the HTTP library let through and cannot read; it stands in for it with the path alone."""


class Connections:
    """Accepts from the sockets of `interfaces` and gives every request to the one it came in by."""

    def __init__(self, interfaces: Sequence[Interface], limits: ConnectionLimits, metrics: ApiMetrics) -> None:
        self.draining = False
        self.holdings = Holdings(MAX_HELD_OCTETS)
        self._listeners = [(listener, interface) for interface in interfaces for listener in interface.sockets]
        self._limits = limits
        self._metrics = metrics
        self._library = web.Server(self._answered, request_factory=_request)
        self._open: dict[Occupant, Connection | None] = {}  # None during the handshake
        self._handshakes: dict[Occupant, asyncio.Task[None]] = {}
        self._listening = False
        self._left = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept, what already waits in the backlog first."""
        for listener, _ in self._listeners:
            listener.setblocking(False)
        self._listen()
        self._sweep_overdue()

    async def drain(self) -> None:
        """Stop accepting; return when every request that has begun is answered and every connection is closed."""
        self.draining = True
        self._pause_listening()
        try:
            async with asyncio.timeout(_LAST_REQUEST_SECONDS):
                await self._empty()
        except TimeoutError:
            self._close_idle()
        await self._empty()

    def close(self) -> None:
        """Stop at once."""
        self.draining = True
        self._pause_listening()
        if self._sweep is not None:
            self._sweep.cancel()
        for occupant in tuple(self._open):
            self._end(occupant)

    def joined(self, connection: Connection) -> None:
        self._open[connection.occupant] = connection

    def left(self, occupant: Occupant) -> None:
        self._open.pop(occupant, None)
        self._metrics.connections.set(len(self._open))
        self._left.set()
        self._listen()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.enter(Phase.ANSWERING)
        interface = connection.interface
        response = interface.bad_http(request) if isinstance(request, Unreadable) else await interface.answer(request)
        if self.draining:
            response.force_close()
        return response

    def _listen(self) -> None:
        if self.draining or self._listening:
            return
        self._listening = True
        for listener, interface in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, interface)

    def _pause_listening(self) -> None:
        if self._listening:
            self._listening = False
            for listener, _ in self._listeners:
                asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket, interface: Interface) -> None:
        if len(self._open) >= self._limits.max_connections and not self._make_room():
            # The others wait in the backlog until one of these leaves, becomes idle or has been silent for long enough.
            self._pause_listening()
            asyncio.get_running_loop().call_later(_ACCEPT_PAUSE_SECONDS, self._listen)
            return
        try:
            peer, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors or memory: the connection stays in the backlog, and asking again at once would spin.
            _log.warning("cannot accept a connection", error=str(error))
            self._pause_listening()
            asyncio.get_running_loop().call_later(_ACCEPT_PAUSE_SECONDS, self._listen)
            return
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        occupant = Occupant(address_key(str(address[0])), Phase.HANDSHAKE, loop.time())
        self._open[occupant] = None
        self._metrics.connections.set(len(self._open))
        handshake = self._handshakes[occupant] = loop.create_task(self._begin(peer, interface, occupant))
        handshake.add_done_callback(lambda _: self._handshakes.pop(occupant, None))

    async def _begin(self, peer: socket.socket, interface: Interface, occupant: Occupant) -> None:
        tls: dict[str, Any] = {}
        if interface.context is not None:
            tls = {
                "ssl": interface.context,
                "ssl_handshake_timeout": self._limits.handshake,
                "ssl_shutdown_timeout": _TLS_CLOSE_SECONDS,
            }
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self, interface, occupant, self._library), peer, **tls
            )
        except OSError as error:
            self._metrics.handshake_failures[_handshake_failure(error)].inc()
            _log.debug("TLS handshake failed", address=occupant.address, error=str(error))
            self.left(occupant)

    def _make_room(self) -> bool:
        occupant = to_evict(self._open, self._limits.max_connections, asyncio.get_running_loop().time())
        if occupant is None:
            return False
        self._metrics.connections_ended["room"].inc()
        self._end(occupant)
        return True

    def _sweep_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        for occupant in overdue(self._open, self._limits.of_phases(), loop.time()):
            self._metrics.connections_ended[occupant.phase.value].inc()
            self._end(occupant)
        self._sweep = loop.call_later(_SWEEP_SECONDS, self._sweep_overdue)

    def _end(self, occupant: Occupant) -> None:
        """Its place is free at once; its descriptor when the loop comes to it."""
        connection = self._open[occupant]
        if connection is not None:
            connection.abort()
        else:
            self._handshakes[occupant].cancel()
        self.left(occupant)

    def _close_idle(self) -> None:
        for occupant, connection in tuple(self._open.items()):
            if connection is None:
                self._end(occupant)
            elif occupant.phase is Phase.IDLE:
                connection.force_close()

    async def _empty(self) -> None:
        while self._open:
            self._left.clear()
            await self._left.wait()


def _request(message: Any, payload: Any, protocol: web.RequestHandler, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    try:
        return web.BaseRequest(message, payload, protocol, writer, task, loop)
    except ValueError:
        # `GET https://xn--a/`: the name is decoded only here, where an error would leave the peer without an answer.
        readable = message._replace(url=message.url.relative())
        return Unreadable(readable, payload, protocol, writer, task, loop)


def _handshake_failure(error: OSError) -> str:
    if isinstance(error, TimeoutError) or "timeout" in str(error).lower() or "longer than" in str(error):
        return "timeout"
    return "tls" if isinstance(error, ssl.SSLError) else "closed"
