"""How two workers talk over a stream: pure codec, bytes in and messages out.

A frame is a 4-octet big-endian length N (1 <= N <= limit) followed by N octets of MessagePack: an array whose first
element tells the message.

    [1, id, method, deadline_ns, trace, body]     Request    client -> server
    [2, id, body]                                 Reply      server -> client
    [3, id, kind, field, detail, retryable]       Failure    server -> client
    [4, id]                                       Cancel     client -> server
    [5, last_id]                                  Goodbye    server -> client

Rules:
- The ids of the requests on one connection grow. A reply, failure or cancel for an id that nobody waits for is ignored.
- `deadline_ns` is CLOCK_MONOTONIC of the one host that both ends share. `trace` is a W3C traceparent or empty.
- `body` is the MessagePack of whatever type the method takes or gives; it is decoded by whom it is for, not here.
- After Goodbye the server looks at no further request on this connection: requests above `last_id` may be sent again
  elsewhere, the others are answered before it closes.
- `Frames` either returns messages or raises FrameError, whatever the bytes; after an error the stream is unusable.
- Work is linear in the octets received: unfinished frames are appended to, never re-parsed.
"""

from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct, msgpack

HEADER_BYTES: Final = 4
DEFAULT_LIMIT: Final = 1_048_576


class FrameError(Exception):
    """The stream is not what this module describes; the connection has to be closed."""


class Request(Struct, array_like=True, frozen=True, tag=1, gc=False):
    """One call. `deadline_ns`: CLOCK_MONOTONIC nanoseconds after which nobody waits for the reply."""

    id: int
    method: str
    deadline_ns: int
    trace: str
    body: Raw


class Reply(Struct, array_like=True, frozen=True, tag=2, gc=False):
    """What the method returned."""

    id: int
    body: Raw


class Failure(Struct, array_like=True, frozen=True, tag=3, gc=False):
    """Why the method did not return. `field` names the faulty part of the request."""

    id: int
    kind: str
    field: str | None
    detail: str
    retryable: bool


class Cancel(Struct, array_like=True, frozen=True, tag=4, gc=False):
    """Nobody waits any more for the reply to `id`."""

    id: int


class Goodbye(Struct, array_like=True, frozen=True, tag=5, gc=False):
    """The server looks at no request above `last_id` on this connection."""

    last_id: int


ToServer = Request | Cancel
ToClient = Reply | Failure | Goodbye
Message = Request | Reply | Failure | Cancel | Goodbye

_encode = msgpack.Encoder().encode
_to_server = msgpack.Decoder(ToServer)
_to_client = msgpack.Decoder(ToClient)
_T = TypeVar("_T")


def encode(message: Message, limit: int = DEFAULT_LIMIT) -> bytes:
    """The frame of `message`. Raises FrameError when its content is larger than `limit` octets."""
    content = _encode(message)
    if len(content) > limit:
        raise FrameError(f"a message of {len(content)} octets is above the limit of {limit}")
    return len(content).to_bytes(HEADER_BYTES, "big") + content


class Frames(Generic[_T]):
    """Turns the octets of one direction of one connection into messages."""

    __slots__ = ("_decoder", "_expected", "_limit", "_unfinished")

    def __init__(self, decoder: msgpack.Decoder[_T], limit: int) -> None:
        self._decoder = decoder
        self._limit = limit
        self._unfinished = bytearray()
        self._expected = HEADER_BYTES  # octets that `_unfinished` must reach before it is worth looking at

    @property
    def unfinished(self) -> int:
        """Octets held of a frame that has not arrived whole; never above the limit plus the header."""
        return len(self._unfinished)

    def feed(self, data: bytes) -> list[_T]:
        """The messages that are complete with `data`, in order. Raises FrameError."""
        if self._unfinished:
            self._unfinished += data
            if len(self._unfinished) < self._expected:
                return []
            # The copy lets the messages refer to an immutable buffer. What it holds beyond the frame that has just been
            # completed came with `data`, so that no octet is copied here more than twice.
            data = bytes(self._unfinished)
            self._unfinished = bytearray()
        messages: list[_T] = []
        view = memoryview(data)
        position, size = 0, len(data)
        while size - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            end = start + self._length(data, position)
            if end > size:
                self._expected = end - position
                break
            messages.append(self._message(view[start:end]))
            position = end
        else:
            self._expected = HEADER_BYTES
        if position < size:
            self._unfinished += view[position:]
        return messages

    def _length(self, data: bytes, position: int) -> int:
        length = int.from_bytes(data[position : position + HEADER_BYTES], "big")
        if not 0 < length <= self._limit:
            raise FrameError(f"a frame of {length} octets, where 1 to {self._limit} are allowed")
        return length

    def _message(self, content: memoryview) -> _T:
        try:
            return self._decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a frame that is no message: {error}") from error


def from_clients(limit: int = DEFAULT_LIMIT) -> Frames[ToServer]:
    """The reader of a server."""
    return Frames(_to_server, limit)


def from_server(limit: int = DEFAULT_LIMIT) -> Frames[ToClient]:
    """The reader of a client."""
    return Frames(_to_client, limit)
