"""Which frame may come next on a stream, and the reader that takes no other. Pure.

    the first stream     client: Hello.      server: Hello, or Failure.
    every other          client: Request.    server: Failure; or Reply; or Reply, Chunk..., then End or Failure.

Rules:
- After the last frame of its direction each end closes it; a direction that is closed earlier is an error.
- The chunks of one stream follow each other: the first has any sequence (a resumed transfer), each next one more.
- A reply is for the request that was sent on its stream. A failure also, or it names none.
- The reader either returns frames or raises FrameError, whatever the octets; after an error it takes nothing more.
- It keeps one unfinished frame at most, and of that no octet before its header is accepted. Work is linear in the
  octets received.
"""

from __future__ import annotations

from typing import Final, Literal

from services.stoq import frames
from services.stoq.frames import (
    HEADER_OCTETS,
    Chunk,
    End,
    Failure,
    Frame,
    FrameError,
    FrameType,
    Hello,
    Reply,
    Request,
    Truncated,
)
from services.stoq.messages import MAX_BODY_OCTETS, ErrorKind

Direction = Literal["client-hello", "server-hello", "client-call", "server-call"]
_State = Literal["client-hello", "server-hello", "client-call", "server-call", "replied", "chunks", "over"]

_NEXT: Final[dict[_State, dict[FrameType, _State]]] = {
    "client-hello": {Hello: "over"},
    "server-hello": {Hello: "over", Failure: "over"},
    "client-call": {Request: "over"},
    "server-call": {Reply: "replied", Failure: "over"},
    "replied": {Chunk: "chunks"},
    "chunks": {Chunk: "chunks", End: "over", Failure: "over"},
    "over": {},
}
_MAY_END: Final[frozenset[_State]] = frozenset(("replied", "over"))


class OutOfOrder(FrameError):
    """A frame that may not come here, or a stream that may not end here."""


class NoHello(OutOfOrder):
    """The first stream of a connection carries something other than HELLO."""

    kind: ErrorKind = "no-hello"


class Order:
    """What has come in one direction of one stream. `request_id` is that of the request which a server answers."""

    __slots__ = ("_chunks", "_request_id", "_sequence", "_state")

    def __init__(self, direction: Direction, request_id: bytes = b"") -> None:
        if (direction == "server-call") != bool(request_id):
            raise ValueError("the answer to a request has its request_id, and nothing else has one")
        self._state: _State = direction
        self._request_id = request_id
        self._sequence: int | None = None
        self._chunks = 0

    def expect(self, kind: FrameType) -> None:
        """Check that a frame of this type may come next. Raises OutOfOrder."""
        if kind in _NEXT[self._state]:
            return
        error = NoHello if self._state in {"client-hello", "server-hello"} else OutOfOrder
        raise error(f"a {kind.__name__} cannot come here")

    def take(self, frame: Frame) -> None:
        """Note that this frame came next. Raises OutOfOrder if it may not."""
        self.expect(type(frame))
        if isinstance(frame, Chunk):
            if self._sequence not in {None, frame.sequence}:
                raise OutOfOrder(f"chunk {frame.sequence} came where {self._sequence} is next")
            self._sequence = frame.sequence + 1
            self._chunks += 1
        elif isinstance(frame, End) and frame.chunks != self._chunks:
            raise OutOfOrder(f"{self._chunks} chunks came of {frame.chunks}")
        elif isinstance(frame, Reply) and frame.request_id != self._request_id:
            raise OutOfOrder("the reply is to another request")
        elif isinstance(frame, Failure) and frame.request_id not in {b"", self._request_id}:
            raise OutOfOrder("the failure is of another request")
        self._state = _NEXT[self._state][type(frame)]

    def finish(self) -> None:
        """Check that the stream may end here. Raises OutOfOrder."""
        if self._state not in _MAY_END:
            raise OutOfOrder("the stream ended before all had come")


class Frames:
    """Turns the octets of one direction of one stream into frames."""

    __slots__ = ("_expected", "_failed", "_max_body", "_order", "_unfinished")

    def __init__(self, order: Order, max_body: int = MAX_BODY_OCTETS) -> None:
        if not 0 < max_body <= MAX_BODY_OCTETS:
            raise ValueError(f"a limit of {max_body} octets, where {MAX_BODY_OCTETS} are the most")
        self._order = order
        self._max_body = max_body
        self._unfinished = bytearray()
        self._expected = HEADER_OCTETS  # octets that `_unfinished` must reach before it is worth looking at
        self._failed = False

    @property
    def unfinished(self) -> int:
        """Octets held of a frame that has not arrived whole."""
        return len(self._unfinished)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with `data`, in order. Raises FrameError."""
        if self._failed:
            raise FrameError("the stream failed before")
        try:
            return self._read(data)
        except FrameError:
            self._failed = True
            self._unfinished = bytearray()
            raise

    def finish(self) -> None:
        """The stream has ended. Raises FrameError when a frame is incomplete or missing."""
        if self._failed:
            raise FrameError("the stream failed before")
        if self._unfinished:
            raise Truncated(f"the stream ended {len(self._unfinished)} octets into a frame")
        self._order.finish()

    def _read(self, data: bytes) -> list[Frame]:
        if self._unfinished:
            self._unfinished += data
            if len(self._unfinished) < self._expected:
                return []
            data = bytes(self._unfinished)
            self._unfinished = bytearray()
        return self._whole(data)

    def _whole(self, data: bytes) -> list[Frame]:
        found: list[Frame] = []
        view = memoryview(data)
        position, size = 0, len(data)
        self._expected = HEADER_OCTETS
        while size - position >= HEADER_OCTETS:
            kind, length = self._header(data, position)
            end = position + HEADER_OCTETS + length
            if end > size:
                self._expected = end - position
                break
            frame = frames.decode(kind, view[position + HEADER_OCTETS : end], self._max_body)
            self._order.take(frame)
            found.append(frame)
            position = end
        self._unfinished += view[position:]
        return found

    def _header(self, data: bytes, position: int) -> tuple[FrameType, int]:
        kind, length = frames.read_header(data, position, self._max_body)
        self._order.expect(kind)
        return kind, length
