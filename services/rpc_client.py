"""The asking end of calls between workers: one connection to one peer, many calls in flight on it.

Rules:
- A call ends within its timeout, by a reply or by a RemoteError. One timer watches all deadlines; no call has its own.
- The supervisor keeps the peer's listening socket: after the peer's death connecting succeeds at once, and the calls
  wait in the backlog for its successor.
- Calls in flight when the peer dies fail with PeerGone, for nobody knows whether they took effect. With
  `idempotent=True` such a call is sent once more within its deadline; without it never.
- Calls of which the peer said that it did not look at them (Goodbye) are sent again whatever they are.
- Cancelling a call, and its deadline, cancel the work at the peer. Late replies are ignored.
- Everything is bounded: calls in flight, octets of a message, octets waiting to be written.
"""

import asyncio
import time
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Raw, msgpack

from services import framing
from services.errors import DeadlineExceeded, Internal, Overloaded, PeerGone, Refused, RemoteError, Unavailable
from services.framing import Cancel, Failure, FrameError, Goodbye, Reply, Request

IN_FLIGHT: Final = 1024
UNWRITTEN_OCTETS: Final = 8 * 1_048_576

_BACKOFF_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25)
_SWEEP_SECONDS: Final = 0.005
_KINDS: Final[dict[str, type[RemoteError]]] = {
    kind.kind: kind for kind in (Unavailable, DeadlineExceeded, PeerGone, Overloaded, Internal)
}

_T = TypeVar("_T")
_encode = msgpack.Encoder().encode


class _NeverRead(Exception):
    pass


class Client:
    """Calls the service that listens on the Unix socket `path`. Connects at the first call, and again when needed."""

    def __init__(self, path: str | Path, *, limit: int = framing.DEFAULT_LIMIT, in_flight: int = IN_FLIGHT) -> None:
        self.name = Path(path).stem
        self.limit = limit
        self.in_flight = in_flight
        self._path = str(path)
        self._link: _Link | None = None
        self._links: set[_Link] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[_Link]] = []
        self._refusal = "no answer yet"
        self._deadlines = _Deadlines(self.name)
        self._decoders: dict[Any, msgpack.Decoder[Any]] = {}
        self._closed = False

    async def call(
        self,
        method: str,
        request: object,
        reply_type: type[_T],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline that crosses the wire; asyncio.timeout would cost a timer a call
        trace: str = "",
        idempotent: bool = False,
    ) -> _T:
        """Return the reply of `method`, decoded as `reply_type`.

        `timeout` is in seconds and includes connecting; `trace` is a traceparent. Raises RemoteError: Refused (the
        request is at fault), Unavailable and Overloaded (not begun), DeadlineExceeded and PeerGone (unknown whether it
        took effect), Internal.
        """
        deadline_ns = time.monotonic_ns() + int(timeout * 1e9)
        body = Raw(_encode(request))
        may_repeat = idempotent
        while True:
            link = self._link or await self._connected(deadline_ns)
            try:
                return self._decoded(method, await self._exchange(link, method, deadline_ns, trace, body), reply_type)
            except _NeverRead:
                continue
            except PeerGone:
                if not may_repeat:
                    raise
                may_repeat = False

    async def close(self) -> None:
        """Close the connection: calls in flight fail with PeerGone, later ones with Unavailable."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for link in tuple(self._links):
            link.close()
        self._settle_waiting(None)
        self._deadlines.close()

    def left(self, link: "_Link") -> None:
        """New calls go to a new connection; `link` may still answer the old ones."""
        if self._link is link:
            self._link = None

    def lost(self, link: "_Link") -> None:
        self.left(link)
        self._links.discard(link)

    async def _exchange(self, link: "_Link", method: str, deadline_ns: int, trace: str, body: Raw) -> Raw:
        number, reply = link.send(method, deadline_ns, trace, body)
        self._deadlines.watch(reply, deadline_ns)
        try:
            return await reply
        except (asyncio.CancelledError, DeadlineExceeded):
            link.abandon(number)
            if reply.done() and not reply.cancelled():
                reply.exception()  # it failed in the moment of cancellation; asyncio would complain that nobody looked
            raise
        finally:
            self._deadlines.forget(reply)

    def _decoded(self, method: str, body: Raw, reply_type: type[_T]) -> _T:
        decoder = self._decoders.get(reply_type)
        if decoder is None:
            decoder = self._decoders[reply_type] = msgpack.Decoder(reply_type)
        try:
            reply: _T = decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Internal(f"{self.name} answers {method} with something else than was agreed: {error}") from error
        return reply

    async def _connected(self, deadline_ns: int) -> "_Link":
        if self._closed:
            raise Unavailable(f"the connection to {self.name} has been closed here")
        if len(self._waiting) >= self.in_flight:
            raise Overloaded(f"{len(self._waiting)} calls already wait for a connection to {self.name}")
        loop = asyncio.get_running_loop()
        connected: asyncio.Future[_Link] = loop.create_future()
        self._waiting.append(connected)
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect())
        self._deadlines.watch(connected, deadline_ns)
        try:
            return await connected
        except DeadlineExceeded:
            raise Unavailable(f"no connection to {self.name} at {self._path}: {self._refusal}") from None
        finally:
            self._deadlines.forget(connected)
            if connected in self._waiting:
                self._waiting.remove(connected)

    async def _connect(self) -> None:
        try:
            attempt = 0
            while self._waiting:
                try:
                    _, link = await asyncio.get_running_loop().create_unix_connection(self._new_link, self._path)
                except OSError as error:
                    # Refused only while the supervisor itself starts or stops, or when the backlog is full.
                    self._refusal = error.strerror or str(error)
                    await asyncio.sleep(_BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)])
                    attempt += 1
                else:
                    self._links.add(link)
                    self._link = link
                    self._settle_waiting(link)
        finally:
            self._connecting = None

    def _new_link(self) -> "_Link":
        return _Link(self)

    def _settle_waiting(self, link: "_Link | None") -> None:
        waiting, self._waiting = self._waiting, []
        for connected in waiting:
            if connected.done():
                continue
            if link is None:
                connected.set_exception(Unavailable(f"the connection to {self.name} has been closed here"))
            else:
                connected.set_result(link)


class _Link(asyncio.Protocol):
    """One connection. Requests are gathered and written once in each turn of the loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._frames = framing.from_server(client.limit)
        self._replies: dict[int, asyncio.Future[Raw]] = {}
        self._last_id = 0
        self._out: list[bytes] = []
        self._gone = False
        self._full = False
        self._transport: asyncio.Transport

    def send(self, method: str, deadline_ns: int, trace: str, body: Raw) -> "tuple[int, asyncio.Future[Raw]]":
        """Raises Overloaded or Refused when the call cannot be sent; _NeverRead when this connection is over."""
        if self._gone:
            raise _NeverRead
        if len(self._replies) >= self._client.in_flight or self._unwritten() > UNWRITTEN_OCTETS:
            raise Overloaded(f"{len(self._replies)} calls to {self._client.name} are in flight; this one was not sent")
        number = self._last_id + 1
        try:
            frame = framing.encode(Request(number, method, deadline_ns, trace, body), self._client.limit)
        except FrameError as error:
            raise Refused("too-large", None, str(error)) from None
        self._last_id = number
        reply = self._replies[number] = self._loop.create_future()
        self._write(frame)
        return number, reply

    def abandon(self, number: int) -> None:
        """Nobody waits any more for this reply, if it is still to come."""
        if self._replies.pop(number, None) is not None and not self._gone:
            self._write(framing.encode(Cancel(number)))

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._gone = True
        self._client.lost(self)
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_exception(
                    PeerGone(f"{self._client.name} ended before it answered; unknown if it took effect")
                )

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._received(message)
        except FrameError:
            self._transport.abort()  # not what we speak to; calls in flight learn that the peer is gone

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def _received(self, message: framing.ToClient) -> None:
        if isinstance(message, Goodbye):
            self._leave(message.last_id)
            return
        reply = self._replies.pop(message.id, None)
        if reply is None or reply.done():
            return
        if isinstance(message, Reply):
            reply.set_result(message.body)
        else:
            reply.set_exception(_error(message))

    def _leave(self, last_id: int) -> None:
        self._client.left(self)
        for number in [number for number in self._replies if number > last_id]:
            reply = self._replies.pop(number)
            if not reply.done():
                reply.set_exception(_NeverRead())

    def _unwritten(self) -> int:
        return self._transport.get_write_buffer_size() if self._full else 0

    def _write(self, frame: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


class _Deadlines:
    """Fails futures whose time is over. One timer, armed for the earliest; late by at most the sweep interval."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._open: dict[asyncio.Future[Any], int] = {}
        self._armed_for = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, future: "asyncio.Future[Any]", deadline_ns: int) -> None:
        self._open[future] = deadline_ns
        if self._timer is None or deadline_ns < self._armed_for:
            self._arm(deadline_ns)

    def forget(self, future: "asyncio.Future[Any]") -> None:
        self._open.pop(future, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline_ns
        delay = max(_SWEEP_SECONDS, (deadline_ns - time.monotonic_ns()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic_ns()
        for future in [future for future, deadline_ns in self._open.items() if deadline_ns <= now]:
            del self._open[future]
            if not future.done():
                future.set_exception(
                    DeadlineExceeded(f"{self._peer} did not answer in time; unknown if it took effect")
                )
        if self._open:
            self._arm(min(self._open.values()))


def _error(failure: Failure) -> RemoteError:
    known = _KINDS.get(failure.kind)
    if known is not None:
        return known(failure.detail, field=failure.field)
    if failure.retryable:
        return Unavailable(f"{failure.kind}: {failure.detail}", field=failure.field)
    return Refused(failure.kind, failure.field, failure.detail)
