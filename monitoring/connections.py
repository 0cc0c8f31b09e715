"""Connections of the monitoring endpoints: accepted, bounded in number and idle time, and turned into HTTP requests.

Rules:
- The listening sockets belong to the supervisor and are never closed here. What is not accepted waits in their backlog,
  for this process or for its successor.
- Never more than `places()` are open, and the soft limit of open files leaves room for them and for the surveys. When
  all are taken, the one idle for longest makes room before the next one is accepted; one that is being answered only if
  all are, so that clients which do not read their answers cannot keep others out.
- What is not HTTP is answered as every other error, and the HTTP library writes nothing to the log by itself.
"""

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import structlog
from aiohttp import web

MAX_CONNECTIONS: Final = 256
FEWEST_CONNECTIONS: Final = 16
IDLE_SECONDS: Final = 15.0
MAX_LINE_BYTES: Final = 8190

_OTHER_DESCRIPTORS: Final = 64
"""Block, leash, listeners, event loop and log take about 25; a survey opens a few files at a time."""
_ACCEPT_PAUSE_SECONDS: Final = 0.1
_LEAST_DRAIN_SECONDS: Final = 0.01
_LIBRARY_LIMITS: Final[dict[str, Any]] = {
    "keepalive_timeout": IDLE_SECONDS,
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_LINE_BYTES,
    "lingering_time": 1.0,
    "auto_decompress": False,
    "access_log": None,
}

_log = structlog.stdlib.get_logger()

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
BadHttp = Callable[[web.BaseRequest], web.StreamResponse]


class Connection(web.RequestHandler):
    """The HTTP library's connection, with whether it is being answered."""

    __slots__ = ("_connections", "answering")

    def __init__(self, connections: "Connections", library: web.Server) -> None:
        """Make one for a peer that was accepted; it is idle."""
        super().__init__(library, loop=asyncio.get_running_loop(), **_LIBRARY_LIMITS)
        self._connections = connections
        self.answering = False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free its place."""
        self._connections.left(self)
        super().connection_lost(exc)

    def log_access(self, *_: object) -> None:
        """The library calls this when the last octet of a response has been handed to the transport."""
        self._connections.answered(self)

    def log_exception(self, *_: object, exc_info: BaseException | None = None, **__: object) -> None:
        """The library calls this for an error outside of any answer."""
        _log.error("a connection failed", exc_info=exc_info)

    def handle_error(self, request: web.BaseRequest, *_: object) -> web.StreamResponse:
        """The library calls this for what is not HTTP; every other error is a response by then."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response was already begun")
        return self._connections.bad_http(request)

    def abort(self) -> None:
        """End it at once, whatever was not sent yet."""
        if self.transport is not None:
            self.transport.abort()


class Unreadable(web.BaseRequest):
    """A request whose target the HTTP library let through and cannot read; it stands in for it with the path alone."""


class Connections:
    """Accepts from `sockets` and gives every request to `answer`; `bad_http` answers what is not HTTP."""

    def __init__(self, sockets: Sequence[socket.socket], answer: Answer, bad_http: BadHttp) -> None:
        """Needs a running event loop. Raises the soft limit of open files as far as needed and allowed."""
        self.bad_http = bad_http
        self._sockets, self._answer = tuple(sockets), answer
        self._library = web.Server(self._answered, request_factory=_request)
        self._places = places()
        self._open: dict[Connection, None] = {}  # the longest idle first
        self._joining: set[asyncio.Task[object]] = set()
        self._listening = False
        self._starved = False

    def start(self) -> None:
        """Begin to accept, what already waits in the backlog first."""
        self._listening = True
        for listener in self._sockets:
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let what is being answered end within `seconds`, and close everything."""
        self._listening = False
        for listener in self._sockets:
            asyncio.get_running_loop().remove_reader(listener)
        if self._joining:
            await asyncio.wait(self._joining)
        self._library.pre_shutdown()
        await self._library.shutdown(max(seconds, _LEAST_DRAIN_SECONDS))  # it takes 0 for "without limit"

    def answered(self, connection: Connection) -> None:
        """Take note that `connection` is idle from now on."""
        connection.answering = False
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def left(self, connection: Connection) -> None:
        """Take note that `connection` has ended."""
        self._open.pop(connection, None)

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        cast(Connection, request.protocol).answering = True
        return self.bad_http(request) if isinstance(request, Unreadable) else await self._answer(request)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._open) >= self._places and not self._make_room():
            return
        try:
            peer, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause(listener, error)
            return
        self._starved = False
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        connection = Connection(self, self._library)
        self._open[connection] = None
        joining = loop.create_task(self._join(connection, peer))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)

    async def _join(self, connection: Connection, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, peer)
        except OSError as error:
            _log.debug("a connection ended before it began", error=str(error))
            peer.close()
            self.left(connection)

    def _make_room(self) -> bool:
        """Free the place of the longest idle one; its descriptor follows within the same turn of the loop."""
        joined = (connection for connection in self._open if connection.transport is not None)
        evicted = min(joined, key=lambda connection: connection.answering, default=None)
        if evicted is None:
            return False  # all came in this very moment; the listener stays readable, so this is asked again
        evicted.abort()
        self.left(evicted)
        return True

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Leave the peer in the backlog for a moment: out of descriptors or memory, asking again at once would spin."""
        if not self._starved:
            self._starved = True
            _log.warning("cannot accept connections; trying on", error=str(error), open_connections=len(self._open))
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_ACCEPT_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if self._listening:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)


def _request(message: Any, payload: Any, protocol: web.RequestHandler, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    try:
        return web.BaseRequest(message, payload, protocol, writer, task, loop)
    except ValueError:
        # `GET http://xn--a/`: the name is decoded only here, where an error would leave the peer without an answer, its
        # connection open for ever, and a traceback in the log.
        readable = message._replace(url=message.url.relative())
        return Unreadable(readable, payload, protocol, writer, task, loop)


def places() -> int:
    """Raise the soft limit of open files as far as needed and allowed; return the connections that it has room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MAX_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return MAX_CONNECTIONS
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(FEWEST_CONNECTIONS, allowed - _OTHER_DESCRIPTORS)
