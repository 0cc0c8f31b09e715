"""Which frames may follow each other on a stream, and what the reader keeps of those that may not."""

import pytest

from services.stoq import frames
from services.stoq.frames import Chunk, End, Failure, Frame, FrameError, Hello, Reply, Request, TooLarge, Truncated
from services.stoq.messages import MAX_BODY_OCTETS
from services.stoq.order import Direction, Frames, NoHello, Order, OutOfOrder

ID = bytes(range(16))
HELLO = Hello(1, (), MAX_BODY_OCTETS, 100, 30)
REQUEST = Request("ca", "issue", ID, 5_000, "", b"body")
REPLY = Reply(ID, b"done")
FAILURE = Failure(ID, "refused", None, "no", None)
ENDLESS = b"\xff\xff\xff\xff"


def reader(direction: Direction) -> Frames:
    return Frames(Order(direction, ID if direction == "server-call" else b""))


def octets(*sent: Frame) -> bytes:
    return b"".join(frames.encode(each) for each in sent)


@pytest.mark.parametrize(
    ("direction", "sent"),
    [
        ("client-hello", [HELLO]),
        ("server-hello", [HELLO]),
        ("server-hello", [Failure(b"", "unsupported-version", None, "", None)]),
        ("client-call", [REQUEST]),
        ("server-call", [REPLY]),
        ("server-call", [FAILURE]),
        ("server-call", [Failure(b"", "malformed", None, "", None)]),
        ("server-call", [REPLY, Chunk(0, b"a"), Chunk(1, b"b"), End(2)]),
        ("server-call", [REPLY, Chunk(7, b"a"), Chunk(8, b"b"), End(2)]),
        ("server-call", [REPLY, Chunk(0, b"a"), FAILURE]),
    ],
)
def test_a_whole_exchange_is_read_and_may_end(direction: Direction, sent: list[Frame]) -> None:
    stream = reader(direction)
    assert stream.feed(octets(*sent)) == sent
    stream.finish()


@pytest.mark.parametrize(
    ("direction", "sent"),
    [
        ("client-hello", [HELLO, HELLO]),
        ("client-hello", [HELLO, REQUEST]),
        ("client-call", [REQUEST, REQUEST]),
        ("client-call", [HELLO]),
        ("client-call", [REPLY]),
        ("client-call", [Chunk(0, b"a")]),
        ("server-call", [REQUEST]),
        ("server-call", [REPLY, REPLY]),
        ("server-call", [REPLY, FAILURE]),
        ("server-call", [REPLY, End(1)]),
        ("server-call", [FAILURE, REPLY]),
        ("server-call", [Reply(bytes(16), b"")]),
        ("server-call", [Failure(bytes(16), "refused", None, "", None)]),
        ("server-call", [REPLY, Chunk(0, b"a"), Chunk(0, b"a")]),
        ("server-call", [REPLY, Chunk(0, b"a"), Chunk(2, b"a")]),
        ("server-call", [REPLY, Chunk(1, b"a"), Chunk(0, b"a")]),
        ("server-call", [REPLY, Chunk(0, b"a"), End(2)]),
        ("server-call", [REPLY, Chunk(0, b"a"), End(1), Chunk(1, b"a")]),
    ],
)
def test_anything_else_is_out_of_order(direction: Direction, sent: list[Frame]) -> None:
    stream = reader(direction)
    stream.feed(octets(*sent[:-1]))
    with pytest.raises(OutOfOrder):
        stream.feed(octets(sent[-1]))


@pytest.mark.parametrize("direction", ["client-hello", "server-hello"])
def test_what_comes_instead_of_a_hello_is_told_as_no_hello(direction: Direction) -> None:
    with pytest.raises(NoHello) as caught:
        reader(direction).feed(octets(REQUEST))
    assert caught.value.kind == "no-hello"


@pytest.mark.parametrize(
    ("direction", "sent"),
    [("client-hello", []), ("client-call", []), ("server-call", []), ("server-call", [REPLY, Chunk(0, b"a")])],
)
def test_a_stream_that_ends_too_early_is_an_error(direction: Direction, sent: list[Frame]) -> None:
    stream = reader(direction)
    stream.feed(octets(*sent))
    with pytest.raises(OutOfOrder):
        stream.finish()


def test_a_stream_that_ends_in_a_frame_is_truncated_wherever_it_is_cut() -> None:
    whole = octets(REQUEST)
    for end in range(1, len(whole)):
        stream = reader("client-call")
        assert stream.feed(whole[:end]) == []
        with pytest.raises(Truncated):
            stream.finish()


def test_a_frame_above_its_limit_is_refused_with_the_last_octet_of_its_header() -> None:
    stream = reader("client-call")
    stream.feed(b"\x02" + ENDLESS[:3])
    with pytest.raises(TooLarge):
        stream.feed(ENDLESS[3:] + bytes(10_000))
    assert stream.unfinished == 0


def test_a_frame_that_may_not_come_is_refused_before_its_content_comes() -> None:
    with pytest.raises(OutOfOrder):
        reader("client-call").feed(octets(REPLY)[:5])


def test_no_more_is_kept_than_one_frame() -> None:
    stream = Frames(Order("client-call"), max_body=100)
    stream.feed(frames.encode(Request("ca", "issue", ID, 1, "", bytes(100)))[:-1])
    assert stream.unfinished < 200


def test_after_an_error_nothing_more_is_taken() -> None:
    stream = reader("client-call")
    with pytest.raises(FrameError):
        stream.feed(b"\x09\x00\x00\x00\x00")
    with pytest.raises(FrameError, match="failed before"):
        stream.feed(octets(REQUEST))
    with pytest.raises(FrameError, match="failed before"):
        stream.finish()


@pytest.mark.parametrize(("direction", "request_id"), [("server-call", b""), ("client-call", ID)])
def test_only_an_answer_has_a_request_before_it(direction: Direction, request_id: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        Order(direction, request_id)


@pytest.mark.parametrize("max_body", [0, MAX_BODY_OCTETS + 1])
def test_a_reader_has_no_limit_above_that_of_the_protocol(max_body: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        Frames(Order("client-call"), max_body)
