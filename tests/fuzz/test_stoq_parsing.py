"""Whatever octets arrive, the transport's parsers return a value or raise their own error, and nothing else."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import msgpack

from services.stoq import frames, signed, transfer
from services.stoq.frames import HEADER_OCTETS, End, FrameError, FrameType, Hello, Reply, Request
from services.stoq.messages import MAX_AROUND_BODY_OCTETS, MAX_BODY_OCTETS, Malformed, NotAccepted
from services.stoq.order import Direction, Frames, Order
from services.stoq.replay import ReplayWindow
from services.stoq.signed import Demands, SenderKeys, Statement
from services.stoq.transfer import ManifestError

OCTETS = st.binary(max_size=300)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
).map(msgpack.encode)
ID = bytes(range(16))
KEYS = SenderKeys(Ed25519PrivateKey.from_private_bytes(bytes(32)))
SIGNED = signed.sign(Statement("revocation", "ra-1", "ca-1", ID, 1_000, b"revoke 17"), KEYS)
MANIFEST = transfer.encode(transfer.manifest("tree.db", [bytes(10)], 4))
WHOLE = [
    frames.encode(Hello(1, ("a", "b"), MAX_BODY_OCTETS, 10, 30)),
    frames.encode(Request("ca", "issue", ID, 5_000, "", b"body")),
    frames.encode(Reply(ID, b"done")) + frames.encode(frames.Chunk(0, b"x")) + frames.encode(End(1)),
    frames.encode(frames.Failure(ID, "refused", "csr", "no", 5)),
]
TYPES = st.sampled_from([Hello, Request, Reply, frames.Failure, frames.Chunk, End])
DIRECTIONS = st.sampled_from(["client-hello", "server-hello", "client-call", "server-call"])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Octets with one change: something replaced, cut out, or put in."""
    at = draw(st.integers(0, len(whole)))
    until = draw(st.integers(at, min(len(whole), at + 8)))
    return whole[:at] + draw(st.binary(max_size=8)) + whole[until:]


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    content = draw(OCTETS | VALUES)
    return bytes((draw(st.integers(0, 8)),)) + len(content).to_bytes(4, "big") + content


@given(DIRECTIONS, st.lists(OCTETS | framed() | st.sampled_from(WHOLE).flatmap(damaged), max_size=5))
@example("client-call", [b"\x02\x00\x0f\xff\xff" + b"\x91" * 0x0FFFFF])
@example("client-call", [b"\x02\x00\x00\x00\x05\x96\xa1\xff\xa1m"])
def test_streams(direction: Direction, pieces: list[bytes]) -> None:
    reader = Frames(Order(direction, ID if direction == "server-call" else b""), max_body=64)
    try:
        for piece in pieces:
            reader.feed(piece)
            assert reader.unfinished < HEADER_OCTETS + MAX_AROUND_BODY_OCTETS + 64
        reader.finish()
    except FrameError:
        return


@given(TYPES, OCTETS | VALUES | st.sampled_from(WHOLE).flatmap(damaged).map(lambda octets: octets[HEADER_OCTETS:]))
@example(Request, b"\x91" * 100_000)
@example(End, b"\x91\xcc\x01")
def test_frames(kind: FrameType, content: bytes) -> None:
    try:
        frame = frames.decode(kind, content)
    except FrameError:
        return
    assert frames.encode(frame)[HEADER_OCTETS:] == content


@given(OCTETS | VALUES | damaged(SIGNED))
@example(SIGNED)
@example(b"\x93" * 100_000)
def test_signed_messages(octets: bytes) -> None:
    try:
        message = signed.parse(octets)
    except Malformed:
        return
    assert msgpack.encode(message) == octets


@given(OCTETS | VALUES | damaged(SIGNED).filter(lambda octets: octets != SIGNED))
def test_no_signed_message_but_the_one_that_was_signed_is_accepted(octets: bytes) -> None:
    window = ReplayWindow(1_000_000, 10, 10)
    demands = Demands("revocation", "ca-1", both=False)
    with pytest.raises(NotAccepted):
        signed.verify(octets, {"ra-1": KEYS.public()}, demands, window, 1_000)
    assert len(window) == 0


@given(OCTETS | VALUES | damaged(MANIFEST))
@example(MANIFEST)
@example(b"\x95" * 100_000)
def test_manifests(octets: bytes) -> None:
    try:
        manifest = transfer.parse(octets)
    except ManifestError:
        return
    assert transfer.encode(manifest) == octets
