"""The octets on one QUIC stream: pure codec and reader. This docstring is the protocol.

A frame is its type (1 octet), the length N of its content (4 octets, big-endian), and N octets of MessagePack: one
array, whose elements are the members of the struct in their order.

    1 Hello     version, capabilities, max_body, max_streams, idle_s            the first stream, both directions
    2 Request   service, method, request_id, deadline_ms, trace, body           client -> server
    3 Reply     request_id, body                                                server -> client
    4 Failure   request_id, kind, field, detail, retry_after_ms                 server -> client
    5 Chunk     sequence, octets                                                server -> client, after Reply
    6 End       chunks                                                          server -> client, after Chunk

Rules:
- There is one way to write a frame. What decodes but is encoded differently is refused.
- Every stream is opened by the client and carries one exchange, in the order that `services.stoq.order` tells; the
  first carries the two HELLOs. A type that may not come next and a length above its limit are refused by the header.
- `max_body` limits a body and the octets of a chunk. Frames without either have at most MAX_AROUND_BODY_OCTETS.
- `request_id` is chosen by the client and is the idempotency key: the same id means the same request. In a Failure it
  is empty if the request could not be read.
- `deadline_ms` is how long the client still waits; two hosts share no clock. `trace` is a W3C traceparent or empty.
- The layout of Hello is that of all versions to come, so that a peer of any version can be told why it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Final

import msgspec
from msgspec import Struct, msgpack

from services.stoq.messages import (
    ERROR_KINDS,
    MAX_AROUND_BODY_OCTETS,
    MAX_BODY_OCTETS,
    MAX_CAPABILITIES,
    MAX_CAPABILITY_CHARACTERS,
    MAX_DEADLINE_MS,
    MAX_DETAIL_CHARACTERS,
    MAX_FIELD_CHARACTERS,
    MAX_IDLE_S,
    MAX_METHOD_CHARACTERS,
    MAX_RETRY_AFTER_MS,
    MAX_SERVICE_CHARACTERS,
    MAX_STREAMS,
    MAX_TRACE_CHARACTERS,
    REQUEST_ID_OCTETS,
    ErrorKind,
)

HEADER_OCTETS: Final = 5
MAX_VERSION: Final = 255
MAX_SEQUENCE: Final = 2**32 - 1

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
_CAPABILITY: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
# W3C Trace Context, section 3.2.2: ids of zeros only are invalid.
_TRACE: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class FrameError(ValueError):
    """The stream is not what this module describes; it has to be reset. `kind` is what the peer is told."""

    kind: ErrorKind = "malformed"


class TooLarge(FrameError):
    """A frame, body or chunk above its limit."""

    kind = "too-large"


class Truncated(FrameError):
    """The stream ended in the middle of a frame."""


class Hello(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What one end speaks (up to `version`), can do, and takes. `idle_s`: seconds of silence that it bears."""

    version: int
    capabilities: tuple[str, ...]
    max_body: int
    max_streams: int
    idle_s: int

    def __post_init__(self) -> None:
        _between("version", self.version, 1, MAX_VERSION)
        _between("number of capabilities", len(self.capabilities), 0, MAX_CAPABILITIES)
        for each in self.capabilities:
            _named("capability", each, _CAPABILITY, MAX_CAPABILITY_CHARACTERS)
        if list(self.capabilities) != sorted(set(self.capabilities)):
            raise FrameError("capabilities are sorted, and each is there once")
        _between("max_body", self.max_body, 1, MAX_BODY_OCTETS)
        _between("max_streams", self.max_streams, 1, MAX_STREAMS)
        _between("idle_s", self.idle_s, 1, MAX_IDLE_S)


class Request(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """One call. `body` is for the method to decode."""

    service: str
    method: str
    request_id: bytes
    deadline_ms: int
    trace: str
    body: bytes

    def __post_init__(self) -> None:
        _named("service", self.service, _NAME, MAX_SERVICE_CHARACTERS)
        _named("method", self.method, _NAME, MAX_METHOD_CHARACTERS)
        _between("octets of request_id", len(self.request_id), REQUEST_ID_OCTETS, REQUEST_ID_OCTETS)
        _between("deadline_ms", self.deadline_ms, 1, MAX_DEADLINE_MS)
        if self.trace:
            _named("trace", self.trace, _TRACE, MAX_TRACE_CHARACTERS)
        _fits(self.body, MAX_BODY_OCTETS)


class Reply(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the method returned."""

    request_id: bytes
    body: bytes

    def __post_init__(self) -> None:
        _between("octets of request_id", len(self.request_id), REQUEST_ID_OCTETS, REQUEST_ID_OCTETS)
        _fits(self.body, MAX_BODY_OCTETS)


class Failure(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """Why the method did not return. `field` names the faulty part of the request; `detail` is one printable line."""

    request_id: bytes
    kind: ErrorKind
    field: str | None
    detail: str
    retry_after_ms: int | None

    def __post_init__(self) -> None:
        if len(self.request_id) not in {0, REQUEST_ID_OCTETS}:
            raise FrameError("the request_id of a failure is that of a request, or empty")
        if self.kind not in ERROR_KINDS:
            raise FrameError("no failure is of such a kind")
        _printable("field", self.field or "", MAX_FIELD_CHARACTERS)
        _printable("detail", self.detail, MAX_DETAIL_CHARACTERS)
        _between("retry_after_ms", self.retry_after_ms or 0, 0, MAX_RETRY_AFTER_MS)


class Chunk(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A part of a large object; `sequence` is its place among the chunks of the object, from 0."""

    sequence: int
    octets: bytes

    def __post_init__(self) -> None:
        _between("sequence", self.sequence, 0, MAX_SEQUENCE)
        if not self.octets:
            raise FrameError("a chunk is not empty")
        _fits(self.octets, MAX_BODY_OCTETS)


class End(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """All chunks were sent: so many on this stream."""

    chunks: int

    def __post_init__(self) -> None:
        _between("chunks", self.chunks, 1, MAX_SEQUENCE)


Frame = Hello | Request | Reply | Failure | Chunk | End
FrameType = type[Hello] | type[Request] | type[Reply] | type[Failure] | type[Chunk] | type[End]

_NUMBERS: Final[dict[FrameType, int]] = {Hello: 1, Request: 2, Reply: 3, Failure: 4, Chunk: 5, End: 6}
_TYPES: Final[dict[int, FrameType]] = {number: kind for kind, number in _NUMBERS.items()}
_WITH_BODY: Final[frozenset[FrameType]] = frozenset((Request, Reply, Chunk))
_decoders: Final[dict[FrameType, msgpack.Decoder[Frame]]] = {kind: msgpack.Decoder(kind) for kind in _NUMBERS}
_encode: Final = msgpack.Encoder().encode


def encode(frame: Frame, max_body: int = MAX_BODY_OCTETS) -> bytes:
    """The frame as it goes on the stream. Raises TooLarge when its body is larger than `max_body` octets."""
    _fits(_body(frame), max_body)
    content = _encode(frame)
    return bytes((_NUMBERS[type(frame)],)) + len(content).to_bytes(4, "big") + content


def read_header(octets: bytes, at: int, max_body: int) -> tuple[FrameType, int]:
    """Type and length of the frame whose header is at `at`. Raises FrameError; looks at no content."""
    kind = _TYPES.get(octets[at])
    if kind is None:
        raise FrameError(f"no frame is of type {octets[at]}")
    length = int.from_bytes(octets[at + 1 : at + HEADER_OCTETS], "big")
    limit = MAX_AROUND_BODY_OCTETS + (max_body if kind in _WITH_BODY else 0)
    if length > limit:
        raise TooLarge(f"a {kind.__name__} of {length} octets, where {limit} are allowed")
    return kind, length


def decode(kind: FrameType, content: bytes | memoryview, max_body: int = MAX_BODY_OCTETS) -> Frame:
    """The frame of this type with this content. Raises FrameError for all that is not written the one way."""
    try:
        frame = _decoders[kind].decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error.__cause__, FrameError):
            raise error.__cause__ from error
        raise FrameError(f"it is no {kind.__name__}: {str(error)[:200]}") from error
    if _encode(frame) != content:
        raise FrameError(f"it is not written as a {kind.__name__} is")
    _fits(_body(frame), max_body)
    return frame


def _body(frame: Frame) -> bytes:
    if isinstance(frame, Chunk):
        return frame.octets
    return frame.body if isinstance(frame, Request | Reply) else b""


def _fits(body: Sized, limit: int) -> None:
    if len(body) > limit:
        raise TooLarge(f"{len(body)} octets, where {limit} are allowed")


def _between(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise FrameError(f"{what}: {value} is not from {least} to {most}")


def _named(what: str, text: str, form: re.Pattern[str], most: int) -> None:
    if len(text) > most or not form.fullmatch(text):
        raise FrameError(f"{what}: not one that can be")


def _printable(what: str, text: str, most: int) -> None:
    if len(text) > most or not text.isprintable():
        raise FrameError(f"{what}: at most {most} printable characters")
