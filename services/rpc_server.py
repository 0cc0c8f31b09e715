"""The answering end of calls between workers, over the Unix sockets that the supervisor bound.

Rules:
- The listening sockets are never closed, unlinked or re-bound here: they belong to the supervisor, and connections that
  are not accepted wait in their backlog for the next worker.
- Only processes of the same user, or root, are answered (SO_PEERCRED).
- Everything is bounded: connections, calls in flight on one connection and in all, octets of a message, and how long a
  peer may leave its replies unread. Beyond a bound a call is answered `overloaded`; nothing queues.
- A call whose deadline has passed on arrival is not begun. A call is cancelled when its caller cancels it or goes away;
  a handler that must not stop half-way shields that part.
- A handler takes (request, call) and returns the reply. It may raise any RemoteError, or a refusal of its own service;
  anything else is logged here with its traceback and told to the caller as `internal`, without detail.
- `drain` tells every peer up to which call it is answered (Goodbye): what was sent later, the peers send again to the
  next worker. Then only our side of the connection ends; the peer ends its own when it has read everything, for which
  it has LINGER_SECONDS. So a planned replacement loses no call.
"""

import asyncio
import os
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
import structlog
from msgspec import Raw, msgpack

from services import framing
from services.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Internal,
    Overloaded,
    Refused,
    RemoteError,
    Unavailable,
)
from services.framing import Failure, FrameError, Goodbye, Reply, Request
from services.logs import TRACE

PER_CONNECTION: Final = 512
IN_ALL: Final = 1024
CONNECTIONS: Final = 128
UNREAD_SECONDS: Final = 30.0
LINGER_SECONDS: Final = 1.0
TOLD_CHARACTERS: Final = 2048

_ACCEPT_PAUSE_SECONDS: Final = 0.1
_PEER_CREDENTIALS: Final = struct.Struct("3i")
_FIELD_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")

_log = structlog.stdlib.get_logger()
_encode = msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is told about the call beside the request. `deadline_ns`: CLOCK_MONOTONIC."""

    method: str
    deadline_ns: int
    trace: str


Handler = Callable[[Any, Call], Awaitable[object]]


class _Method:
    __slots__ = ("decode", "handler")

    def __init__(self, request_type: Any, handler: Handler) -> None:
        self.decode = msgpack.Decoder(request_type).decode
        self.handler = handler


def know(types: Iterable[type]) -> None:
    """Have the codec study these types once, in the process whose children will serve or ask with them."""
    for each in types:
        msgpack.Decoder(each)


class Server:
    """Answers `methods`, a mapping of name to (request type, handler), on `sockets`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        methods: Mapping[str, tuple[Any, Handler]],
        *,
        limit: int = framing.DEFAULT_LIMIT,
        per_connection: int = PER_CONNECTION,
        in_all: int = IN_ALL,
        connections: int = CONNECTIONS,
        unread_seconds: float = UNREAD_SECONDS,
    ) -> None:
        self.limit = limit
        self.per_connection = per_connection
        self.in_all = in_all
        self.unread_seconds = unread_seconds
        self.in_flight = 0
        self._connection_limit = connections
        self._sockets = tuple(sockets)
        self._methods = {name: _Method(kind, handler) for name, (kind, handler) in methods.items()}
        self._connections: set[_Connection] = set()
        self._listening = False
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._arrivals: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Begin to accept connections, those that already wait in the backlog first."""
        for listener in self._sockets:
            listener.setblocking(False)
        self._listen()

    async def drain(self) -> None:
        """Stop accepting, finish the calls in flight, and return when every peer has read its last reply."""
        self._draining = True
        self._pause_listening()
        for connection in tuple(self._connections):
            connection.say_goodbye()
        while self._connections or self._arrivals:
            self._idle.clear()
            await self._idle.wait()

    def close(self) -> None:
        """Stop at once: calls in flight are cancelled, their callers learn that the peer is gone."""
        self._draining = True
        self._pause_listening()
        for connection in tuple(self._connections):
            connection.abort()

    def method(self, name: str) -> _Method | None:
        return self._methods.get(name)

    def joined(self, connection: "_Connection") -> None:
        self._connections.add(connection)
        if self._draining:
            connection.say_goodbye()

    def left(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        self._idle.set()
        if not self._draining and not self._listening:
            self._listen()

    def _listen(self) -> None:
        if self._draining or self._listening:
            return
        self._listening = True
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.add_reader(listener, self._accept, listener)

    def _pause_listening(self) -> None:
        if self._listening:
            self._listening = False
            loop = asyncio.get_running_loop()
            for listener in self._sockets:
                loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._connections) + len(self._arrivals) >= self._connection_limit:
            self._pause_listening()  # the others wait in the backlog until one of these leaves
            return
        try:
            peer, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors or memory: the connection stays in the backlog, and asking again at once would spin.
            _log.warning("cannot accept a call connection", error=str(error))
            self._pause_listening()
            asyncio.get_running_loop().call_later(_ACCEPT_PAUSE_SECONDS, self._listen)
            return
        if not _same_user(peer):
            peer.close()
            return
        peer.setblocking(False)
        arrival = asyncio.get_running_loop().create_task(self._arrive(peer))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrived)

    async def _arrive(self, peer: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _Connection(self), peer)

    def _arrived(self, arrival: "asyncio.Task[object]") -> None:
        self._arrivals.discard(arrival)
        self._idle.set()


class _Connection(asyncio.Protocol):
    """One peer. Replies are gathered and written once in each turn of the loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = framing.from_clients(server.limit)
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last_id = 0
        self._leaving = False
        self._out: list[bytes] = []
        self._unread: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.joined(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.resume_writing()
        self._leaving = True
        if self._lingering is not None:
            self._lingering.cancel()
        for task in tuple(self._tasks.values()):
            task.cancel()
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                if isinstance(message, Request):
                    self._begin(message)
                elif (task := self._tasks.get(message.id)) is not None:
                    task.cancel()
        except FrameError as error:
            _log.warning("a call connection is closed: its peer sends what is no message", error=str(error))
            self.abort()

    def pause_writing(self) -> None:
        # The peer does not read its replies: its requests are not read either, so that what it can make us hold is
        # bounded by its calls in flight.
        self._transport.pause_reading()
        self._unread = self._loop.call_later(self._server.unread_seconds, self._give_up)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def say_goodbye(self) -> None:
        """Answer what has arrived, and nothing after it."""
        if not self._leaving:
            self._leaving = True
            self._send(framing.encode(Goodbye(self._last_id)))
            self._leave_when_done()

    def abort(self) -> None:
        self._leaving = True
        self._transport.abort()

    def _give_up(self) -> None:
        _log.warning("a call connection is closed: its peer does not read", seconds=self._server.unread_seconds)
        self.abort()

    def _begin(self, request: Request) -> None:
        if self._leaving:
            return
        if request.id <= self._last_id:
            raise FrameError(f"request {request.id} after request {self._last_id}")
        self._last_id = request.id
        try:
            method, argument = self._admit(request)
        except RemoteError as error:
            self._fail(request.id, error)
            return
        number = request.id
        call = Call(request.method, request.deadline_ns, request.trace)
        task = self._tasks[number] = self._loop.create_task(self._answer(number, method, argument, call))
        self._server.in_flight += 1
        # Not in a `finally` of the coroutine: a task that is cancelled before its first step never enters it.
        task.add_done_callback(lambda _: self._ended(number))

    def _admit(self, request: Request) -> tuple[_Method, object]:
        if request.deadline_ns <= time.monotonic_ns():
            raise DeadlineExceeded("the deadline had passed when the call arrived; it was not begun")
        if len(self._tasks) >= self._server.per_connection or self._server.in_flight >= self._server.in_all:
            raise Overloaded(f"{self._server.in_flight} calls are in flight; this one was not begun")
        method = self._server.method(request.method)
        if method is None:
            raise Refused("unknown-method", "method", f"there is no method {request.method[:64]!r}")
        try:
            return method, method.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(error) from None

    async def _answer(self, number: int, method: _Method, argument: object, call: Call) -> None:
        TRACE.set(call.trace)
        try:
            reply = Reply(number, Raw(_encode(await method.handler(argument, call))))
            self._send(framing.encode(reply, self._server.limit))
        except Exception as error:  # noqa: BLE001 - the caller is told, and the log has the traceback
            self._fail(number, _told(error, call))

    def _fail(self, number: int, error: RemoteError) -> None:
        field = None if error.field is None else _told_text(error.field)
        self._send(framing.encode(Failure(number, error.kind, field, _told_text(error.detail), error.retryable)))

    def _ended(self, number: int) -> None:
        del self._tasks[number]
        self._server.in_flight -= 1
        if self._leaving:
            self._leave_when_done()

    def _leave_when_done(self) -> None:
        """End our side only: a peer that writes into a closed connection loses what it has not read yet."""
        if not self._tasks and self._lingering is None and not self._transport.is_closing():
            self._flush()
            self._transport.write_eof()
            self._lingering = self._loop.call_later(LINGER_SECONDS, self.abort)

    def _send(self, frame: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


def _same_user(peer: socket.socket) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
    if uid in {os.geteuid(), 0}:
        return True
    _log.warning("a call connection is refused: it comes from another user", pid=pid, uid=uid)
    return False


def _told_text(text: str) -> str:
    """Bounded and encodable: what a peer or a file name brought in may be neither."""
    return text[:TOLD_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _malformed(error: Exception) -> Refused:
    text = str(error)
    path = _FIELD_PATH.search(text)
    if path is None:
        return Refused("malformed", None, text)
    return Refused("malformed", path[1] or None, text[: path.start()])


def _told(error: Exception, call: Call) -> RemoteError:
    """The error as the caller gets to see it."""
    if isinstance(error, RemoteError):
        return error
    if getattr(error, "counts_as", None) == "rejected":
        kind, detail = getattr(error, "kind", None), getattr(error, "detail", None)
        if isinstance(kind, str) and isinstance(detail, str):
            return Refused(kind, getattr(error, "field", None), detail)
    if isinstance(error, ConfigurationError):
        _log.critical("a call failed for what only an operator can mend", method=call.method, error=str(error))
        return Unavailable(f"{call.method} cannot be done before an operator has acted; the log says what is wrong")
    if isinstance(error, FrameError):
        return Internal(f"the reply of {call.method} is too large: {error}")
    _log.error("a call failed unexpectedly", method=call.method, exc_info=error)
    return Internal(f"{call.method} failed unexpectedly; the log of the service has the traceback")
