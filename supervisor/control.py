"""The control socket: one JSON object a line in each direction, for `trustchain status|start|stop|restart`.

Rules:
- The peer is root or the user that runs the supervisor, as the kernel says (SO_PEERCRED); its mode 0600 says so too.
- Nothing here waits. Lines and connections are bounded; who sends too much, or what is no request, is cut off, and
  supervision goes on meanwhile.
- The next request is read when the answer to the last one has been taken: one answer at a time is kept for a client.
"""

import os
import selectors
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from supervisor.child import SECOND
from supervisor.messages import Reply, Request
from supervisor.sockets import open_unix

MAX_REQUEST: Final = 4096
MAX_CONNECTIONS: Final = 32
IDLE_NS: Final = 120 * SECOND
"""A connection that neither asked nor took anything for so long is closed."""

_PEER: Final = struct.Struct("3i")

Callback = Callable[[int], None]


class Registry(Protocol):
    """Where descriptors are watched: the loop."""

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Call `callback` with the events that happened; replaces an earlier one."""

    def forget(self, descriptor: int) -> None:
        """Watch it no more."""


@dataclass(eq=False, slots=True)
class Connection:
    """One client. `busy` while its request is being carried out, `reading` while its lines are gone through."""

    socket: socket.socket
    active_at: int
    received: bytes = b""
    unsent: bytearray = field(default_factory=bytearray)
    busy: bool = False
    reading: bool = False
    open: bool = True

    @property
    def has_request(self) -> bool:
        """Whether the next line can be answered now."""
        return self.open and not self.busy and not self.unsent and b"\n" in self.received


class ControlServer:
    """Takes requests and hands them to `answer`, which replies through `reply` now or later."""

    def __init__(
        self, path: Path, registry: Registry, clock: Callable[[], int], answer: Callable[[Connection, Request], None]
    ) -> None:
        """Listen at `path`. Raises OSError."""
        self._path = path
        self._registry = registry
        self._clock = clock
        self._answer = answer
        self._connections: set[Connection] = set()
        self._listener = open_unix(path)
        self._listener.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        self._registry.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def reply(self, connection: Connection, reply: Reply) -> None:
        """Send the answer to the request that this connection is busy with; it may have gone meanwhile."""
        if not connection.open:
            return
        connection.busy = False
        connection.unsent += msgspec.json.encode(reply) + b"\n"
        self._send(connection)
        self._read_requests(connection)

    def expire(self, now: int) -> None:
        """Close the connections of clients that have gone quiet; accept again after running out of descriptors."""
        self._listen()
        for connection in [each for each in self._connections if not each.busy and now - each.active_at > IDLE_NS]:
            self._close(connection)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for connection in list(self._connections):
            self._close(connection)
        self._registry.forget(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left, and the client goes on waiting: without this we would spin.
            self._registry.forget(self._listener.fileno())
            return
        _, uid, _ = _PEER.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in (0, os.geteuid()) or not self._make_room():
            accepted.close()
            return
        accepted.setblocking(False)
        connection = Connection(accepted, self._clock())
        self._connections.add(connection)
        self._watch(connection)

    def _make_room(self) -> bool:
        """Close the quietest connection if there are too many: nobody locks the operator out by saying nothing."""
        if len(self._connections) < MAX_CONNECTIONS:
            return True
        quiet = [each for each in self._connections if not each.busy]
        if quiet:
            self._close(min(quiet, key=lambda each: each.active_at))
        return bool(quiet)

    def _watch(self, connection: Connection) -> None:
        events = selectors.EVENT_WRITE if connection.unsent else selectors.EVENT_READ
        self._registry.watch(connection.socket.fileno(), events, lambda events: self._serve(connection, events))

    def _serve(self, connection: Connection, events: int) -> None:
        connection.active_at = self._clock()
        if events & selectors.EVENT_WRITE:
            self._send(connection)
            self._read_requests(connection)
        if events & selectors.EVENT_READ and connection.open:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        if not data or len(connection.received) > MAX_REQUEST:
            self._close(connection)
        else:
            self._read_requests(connection)

    def _read_requests(self, connection: Connection) -> None:
        if connection.reading:
            return  # a reply came from within the loop below, which goes on by itself
        connection.reading = True
        while connection.has_request:
            line, _, connection.received = connection.received.partition(b"\n")
            self._take_line(connection, line)
        connection.reading = False

    def _take_line(self, connection: Connection, line: bytes) -> None:
        connection.busy = True
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.reply(connection, Reply(ok=False, message=f"not a request: {error}"))
            self._close(connection)
        else:
            self._answer(connection, request)

    def _send(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent) if connection.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        del connection.unsent[:sent]
        self._watch(connection)

    def _close(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            self._connections.discard(connection)
            self._registry.forget(connection.socket.fileno())
            connection.socket.close()
