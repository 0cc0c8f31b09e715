"""What the codec of calls between workers promises, byte by byte."""

import pytest
from msgspec import Raw, msgpack

from services import framing
from services.framing import Cancel, Failure, FrameError, Goodbye, Reply, Request

REQUEST = Request(7, "issue", 123_456_789, "", Raw(msgpack.encode({"n": 1})))


def test_the_documented_bytes_are_what_is_sent() -> None:
    assert framing.encode(Cancel(5)) == b"\x00\x00\x00\x03" + b"\x92\x04\x05"
    assert framing.encode(Goodbye(3)) == b"\x00\x00\x00\x03" + b"\x92\x05\x03"
    assert framing.encode(Reply(2, Raw(b"\xc3"))) == b"\x00\x00\x00\x04" + b"\x93\x02\x02\xc3"


def test_a_message_arrives_whole_however_the_stream_is_cut() -> None:
    stream = framing.encode(REQUEST) + framing.encode(Cancel(7))
    for cut in range(len(stream) + 1):
        frames = framing.from_clients()
        messages = frames.feed(stream[:cut]) + frames.feed(stream[cut:])
        assert [type(message) for message in messages] == [Request, Cancel]
        assert isinstance(messages[0], Request)
        assert bytes(messages[0].body) == bytes(REQUEST.body)
        assert frames.unfinished == 0


def test_octet_by_octet_nothing_is_lost() -> None:
    frames = framing.from_server()
    stream = framing.encode(Failure(1, "malformed", "csr", "no", retryable=False)) * 3
    messages = [message for octet in stream for message in frames.feed(bytes([octet]))]
    assert messages == [Failure(1, "malformed", "csr", "no", retryable=False)] * 3


@pytest.mark.parametrize("length", [0, 101, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_its_content_arrives(length: int) -> None:
    with pytest.raises(FrameError, match="1 to 100 are allowed"):
        framing.from_clients(limit=100).feed(length.to_bytes(4, "big"))


def test_the_limit_itself_is_allowed_both_ways() -> None:
    content = len(framing.encode(REQUEST)) - framing.HEADER_BYTES
    frame = framing.encode(REQUEST, limit=content)
    assert len(framing.from_clients(limit=content).feed(frame)) == 1
    with pytest.raises(FrameError):
        framing.encode(REQUEST, limit=content - 1)


@pytest.mark.parametrize(
    "content",
    [
        b"\xc1",  # never used by MessagePack
        b"\x92\x09\x01",  # no such message
        b"\x92\x02\x01",  # a reply is not for a server
        b"\x92\x04\xa1x",  # an id that is no number
        b"\x92\x04\x05\x00",  # something after the message
        b"\x96\x01\x01\xa1\xff\x01\xa0\xc0",  # a method that is not UTF-8
        b"\x96\x01\x01\xa1m\x01\xa0" + b"\x91" * 100_000,  # nested without end
        b"\x96\x01\x01\xa1m\x01\xa0\xdd\xff\xff\xff\xff",  # four billion elements, none there
    ],
)
def test_what_is_no_message_to_a_server_is_a_frame_error(content: bytes) -> None:
    with pytest.raises(FrameError):
        framing.from_clients().feed(len(content).to_bytes(4, "big") + content)


def test_what_is_held_never_exceeds_one_frame() -> None:
    frames = framing.from_clients(limit=1000)
    frames.feed((1000).to_bytes(4, "big"))
    for _ in range(99):
        frames.feed(bytes(10))
    assert frames.unfinished == 994
    with pytest.raises(FrameError):
        frames.feed(bytes(10))


def test_a_message_does_not_change_when_the_next_octets_arrive() -> None:
    """Bodies refer to the buffer they came in: it must not be reused."""
    frames = framing.from_clients()
    first, second = framing.encode(REQUEST), framing.encode(Request(8, "get", 1, "", Raw(msgpack.encode("x" * 50))))
    frames.feed(first[:10])
    (message,) = frames.feed(first[10:] + second[:20])
    frames.feed(second[20:])
    assert isinstance(message, Request)
    assert msgpack.decode(message.body) == {"n": 1}
