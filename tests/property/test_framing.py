"""The codec of calls between workers, against any message, any cut and any bytes."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw, msgpack

from services import framing
from services.framing import Cancel, Failure, FrameError, Goodbye, Message, Reply, Request

_IDS = st.integers(-(2**63), 2**64 - 1)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_BODIES = _VALUES.map(lambda value: Raw(msgpack.encode(value)))
_TO_SERVER = st.lists(st.one_of(st.builds(Request, _IDS, _TEXT, _IDS, _TEXT, _BODIES), st.builds(Cancel, _IDS)))
_TO_CLIENT = st.lists(
    st.one_of(
        st.builds(Reply, _IDS, _BODIES),
        st.builds(Failure, _IDS, _TEXT, st.none() | _TEXT, _TEXT, st.booleans()),
        st.builds(Goodbye, _IDS),
    )
)


def _plain(message: Message) -> object:
    return msgpack.decode(msgpack.encode(message))


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(_TO_SERVER, st.lists(st.integers(0, 10_000), max_size=8))
def test_a_server_reads_what_a_client_wrote_however_it_is_cut(sent: list[Message], cuts: list[int]) -> None:
    frames = framing.from_clients()
    pieces = _pieces(b"".join(framing.encode(message) for message in sent), cuts)
    assert [_plain(message) for piece in pieces for message in frames.feed(piece)] == [_plain(m) for m in sent]
    assert frames.unfinished == 0


@given(_TO_CLIENT, st.lists(st.integers(0, 10_000), max_size=8))
def test_a_client_reads_what_a_server_wrote_however_it_is_cut(sent: list[Message], cuts: list[int]) -> None:
    frames = framing.from_server()
    pieces = _pieces(b"".join(framing.encode(message) for message in sent), cuts)
    assert [_plain(message) for piece in pieces for message in frames.feed(piece)] == [_plain(m) for m in sent]
    assert frames.unfinished == 0


_FRAMED = st.binary(max_size=60).map(lambda content: len(content).to_bytes(4, "big") + content)


@given(st.lists(st.binary(max_size=60) | _FRAMED, max_size=6))
@example([b"\x00\x00\x00\x06\x96\x01\x01\xa1m\x01"])
@example([(70_007).to_bytes(4, "big") + b"\x96\x01\x01\xa1m\x01\xa0" + b"\x91" * 70_000])
def test_any_bytes_are_messages_or_a_frame_error(pieces: list[bytes]) -> None:
    for frames in (framing.from_clients(limit=100_000), framing.from_server(limit=100_000)):
        try:
            for piece in pieces:
                frames.feed(piece)
                assert frames.unfinished <= 100_000 + framing.HEADER_BYTES
        except FrameError:
            continue


@given(_TO_SERVER.filter(bool), st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_octet_is_another_message_or_a_frame_error(sent: list[Message], place: int, mask: int) -> None:
    stream = bytearray(b"".join(framing.encode(message) for message in sent))
    stream[place % len(stream)] ^= mask
    try:
        framing.from_clients().feed(bytes(stream))
    except FrameError:
        return
