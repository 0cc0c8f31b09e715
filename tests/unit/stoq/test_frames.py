"""Frames: one way to write each, limits before memory, and no frame that the protocol does not have."""

from collections.abc import Callable

import pytest
from msgspec import msgpack

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
    TooLarge,
)
from services.stoq.messages import MAX_AROUND_BODY_OCTETS, MAX_BODY_OCTETS, MAX_FRAME_OCTETS

ID = bytes(range(16))
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
HELLO = Hello(1, ("mldsa", "transfer"), MAX_BODY_OCTETS, 100, 30)
REQUEST = Request("ca", "issue", ID, 5_000, TRACE, b"body")


def test_a_frame_is_a_type_a_length_and_one_array() -> None:
    content = msgpack.encode(["ca", "issue", ID, 5_000, TRACE, b"body"])
    assert frames.encode(REQUEST) == b"\x02" + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    ("frame", "number"),
    [
        (HELLO, 1),
        (REQUEST, 2),
        (Reply(ID, b""), 3),
        (Failure(b"", "refused", "csr", "too short", 5), 4),
        (Chunk(0, b"x"), 5),
        (End(1), 6),
    ],
)
def test_each_frame_has_its_number_and_is_read_as_it_was_written(frame: Frame, number: int) -> None:
    octets = frames.encode(frame)
    kind, length = frames.read_header(octets, 0, MAX_BODY_OCTETS)
    assert (octets[0], kind, length) == (number, type(frame), len(octets) - HEADER_OCTETS)
    assert frames.decode(kind, octets[HEADER_OCTETS:]) == frame


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hello(0, (), 1, 1, 1),
        lambda: Hello(256, (), 1, 1, 1),
        lambda: Hello(1, ("b", "a"), 1, 1, 1),
        lambda: Hello(1, ("a", "a"), 1, 1, 1),
        lambda: Hello(1, ("A",), 1, 1, 1),
        lambda: Hello(1, ("a" * 33,), 1, 1, 1),
        lambda: Hello(1, tuple(f"{n:02}" for n in range(33)), 1, 1, 1),
        lambda: Hello(1, (), 0, 1, 1),
        lambda: Hello(1, (), MAX_BODY_OCTETS + 1, 1, 1),
        lambda: Hello(1, (), 1, 0, 1),
        lambda: Hello(1, (), 1, 1, 0),
        lambda: Request("", "issue", ID, 1, "", b""),
        lambda: Request("ca", "is sue", ID, 1, "", b""),
        lambda: Request("ca", "issue\n", ID, 1, "", b""),
        lambda: Request("ca", "a" * 65, ID, 1, "", b""),
        lambda: Request("ca", "issue", ID[1:], 1, "", b""),
        lambda: Request("ca", "issue", ID, 0, "", b""),
        lambda: Request("ca", "issue", ID, 600_001, "", b""),
        lambda: Request("ca", "issue", ID, 1, TRACE.replace("a", "0"), b""),
        lambda: Request("ca", "issue", ID, 1, TRACE.replace("b", "0"), b""),
        lambda: Request("ca", "issue", ID, 1, TRACE.upper(), b""),
        lambda: Request("ca", "issue", ID, 1, "", bytes(MAX_BODY_OCTETS + 1)),
        lambda: Reply(b"", b""),
        lambda: Failure(b"1", "refused", None, "", None),
        lambda: Failure(ID, "unheard-of", None, "", None),  # type: ignore[arg-type]
        lambda: Failure(ID, "refused", None, "two\nlines", None),
        lambda: Failure(ID, "refused", None, "\ud800", None),
        lambda: Failure(ID, "refused", "f" * 65, "", None),
        lambda: Failure(ID, "refused", None, "d" * 513, None),
        lambda: Failure(ID, "refused", None, "", -1),
        lambda: Chunk(-1, b"x"),
        lambda: Chunk(2**32, b"x"),
        lambda: Chunk(0, b""),
        lambda: End(0),
    ],
)
def test_what_is_outside_its_limits_does_not_construct(make: Callable[[], Frame]) -> None:
    with pytest.raises(FrameError):
        make()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (End, b"\x91\xcc\x01"),  # 1, in two octets
        (End, b"\xdc\x00\x01\x01"),  # an array of one, with a length of 16 bits
        (End, b"\x91\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),  # 1.0
        (End, b"\x91\x01\x00"),  # something after it
        (End, b"\x92\x01\x02"),  # a member too many
        (End, b"\x90"),
        (End, b""),
        (End, b"\x81\xa6chunks\x01"),  # a map
        (Reply, b"\x92\xc4\x10" + ID + b"\xc5\x00\x01x"),
        (Reply, b"\x92\xb0" + b"a" * 16 + b"\xc4\x00"),  # text for octets
        (Hello, b"\x95\x01\x92\xa1b\xa1a\x01\x01\x01"),
        (Failure, b"\x91" * 5_000),
    ],
)
def test_there_is_one_way_to_write_a_frame(kind: FrameType, content: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        frames.decode(kind, content)
    assert caught.value.kind == "malformed"


def test_a_body_above_the_agreed_limit_is_neither_written_nor_read() -> None:
    assert frames.decode(Reply, frames.encode(Reply(ID, bytes(10)))[HEADER_OCTETS:], 10) == Reply(ID, bytes(10))
    with pytest.raises(TooLarge):
        frames.encode(Reply(ID, bytes(11)), 10)
    with pytest.raises(TooLarge):
        frames.decode(Reply, frames.encode(Reply(ID, bytes(11)))[HEADER_OCTETS:], 10)


def test_a_body_above_every_limit_is_too_large_and_not_malformed() -> None:
    content = msgpack.encode([ID, bytes(MAX_BODY_OCTETS + 1)])
    with pytest.raises(TooLarge):
        frames.decode(Reply, content)


@pytest.mark.parametrize("frame", [HELLO, Failure(ID, "refused", None, "", None), End(1)])
def test_a_frame_without_a_body_is_small_whatever_bodies_may_be(frame: Frame) -> None:
    number = frames.encode(frame)[:1]
    frames.read_header(number + MAX_AROUND_BODY_OCTETS.to_bytes(4, "big"), 0, MAX_BODY_OCTETS)
    with pytest.raises(TooLarge):
        frames.read_header(number + (MAX_AROUND_BODY_OCTETS + 1).to_bytes(4, "big"), 0, MAX_BODY_OCTETS)


def test_the_largest_body_fits_into_the_largest_frame() -> None:
    largest = Request("s" * 32, "m" * 64, ID, 600_000, TRACE, bytes(MAX_BODY_OCTETS))
    assert len(frames.encode(largest)) - HEADER_OCTETS <= MAX_FRAME_OCTETS


def test_the_longest_failure_and_hello_fit_into_a_frame_without_body() -> None:
    failure = Failure(ID, "unsupported-version", "\U00020000" * 64, "\U00020000" * 512, 3_600_000)
    hello = Hello(255, tuple(f"{n:032}" for n in range(32)), MAX_BODY_OCTETS, 1_000, 600)
    for frame in (failure, hello):
        assert len(frames.encode(frame)) - HEADER_OCTETS <= MAX_AROUND_BODY_OCTETS


@pytest.mark.parametrize("number", [0, 7, 255])
def test_no_other_type_is_known(number: int) -> None:
    with pytest.raises(FrameError, match="of type"):
        frames.read_header(bytes((number, 0, 0, 0, 0)), 0, MAX_BODY_OCTETS)
