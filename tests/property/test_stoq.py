"""The pure part of the transport, against any cut, any mutation and any sequence of events."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stoq import frames, transfer
from services.stoq.connections import Accept, Connections, Drop, Limits, Retry
from services.stoq.frames import HEADER_OCTETS, Chunk, End, Failure, Frame, FrameError, Hello, Reply, Request
from services.stoq.idempotency import Again, Conflict, Full, IdempotencyTable, InProgress, New, Outcome
from services.stoq.idempotency import Limits as TableLimits
from services.stoq.messages import (
    MAX_AROUND_BODY_OCTETS,
    MAX_BODY_OCTETS,
    ErrorKind,
    FromTheFuture,
    NotAccepted,
    Replayed,
    TooOld,
    WindowFull,
)
from services.stoq.order import Direction, Frames, Order
from services.stoq.replay import ReplayWindow
from services.stoq.transfer import Receiver, TransferError

IDS = st.binary(min_size=16, max_size=16)
BODIES = st.binary(max_size=300)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
TRACES = st.just("") | st.from_regex(r"00-[1-9a-f][0-9a-f]{31}-[1-9a-f][0-9a-f]{15}-[0-9a-f]{2}", fullmatch=True)
PRINTABLE = st.text(max_size=60).filter(str.isprintable)
CAPABILITIES = st.lists(NAMES.map(lambda name: name.replace("_", "-")), unique=True, max_size=5)
HELLOS = st.builds(
    Hello,
    st.integers(1, 255),
    CAPABILITIES.map(lambda names: tuple(sorted(names))),
    st.integers(1, MAX_BODY_OCTETS),
    st.integers(1, 1_000),
    st.integers(1, 600),
)
REQUESTS = st.builds(Request, NAMES, NAMES, IDS, st.integers(1, 600_000), TRACES, BODIES)
KINDS = st.sampled_from(get_args(ErrorKind))


def failures(request_id: bytes) -> st.SearchStrategy[Failure]:
    ids = st.sampled_from([b"", request_id])
    return st.builds(Failure, ids, KINDS, st.none() | PRINTABLE, PRINTABLE, st.none() | st.integers(0, 3_600_000))


@dataclass(frozen=True)
class Exchange:
    """One direction of one stream, as the protocol allows it."""

    direction: Direction
    request_id: bytes
    sent: list[Frame]

    def reader(self) -> Frames:
        return Frames(Order(self.direction, self.request_id))

    def octets(self) -> bytes:
        return b"".join(frames.encode(each) for each in self.sent)


@st.composite
def answers(draw: st.DrawFn) -> Exchange:
    request_id = draw(IDS)
    if draw(st.booleans()):
        return Exchange("server-call", request_id, [draw(failures(request_id))])
    sent: list[Frame] = [Reply(request_id, draw(BODIES))]
    parts = draw(st.lists(st.binary(min_size=1, max_size=80), max_size=5))
    first = draw(st.integers(0, 2**20))
    sent += [Chunk(first + n, part) for n, part in enumerate(parts)]
    if parts:
        sent.append(draw(st.just(End(len(parts))) | failures(request_id)))
    return Exchange("server-call", request_id, sent)


EXCHANGES = st.one_of(
    answers(),
    REQUESTS.map(lambda each: Exchange("client-call", b"", [each])),
    HELLOS.map(lambda each: Exchange("client-hello", b"", [each])),
    (HELLOS | failures(b"")).map(lambda each: Exchange("server-hello", b"", [each])),
)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(EXCHANGES, CUTS)
def test_frames_arrive_the_same_however_they_are_cut(exchange: Exchange, cuts: list[int]) -> None:
    reader = exchange.reader()
    assert [each for piece in pieces(exchange.octets(), cuts) for each in reader.feed(piece)] == exchange.sent
    reader.finish()


@given(EXCHANGES)
def test_frames_arrive_the_same_octet_by_octet(exchange: Exchange) -> None:
    reader = exchange.reader()
    octets = exchange.octets()
    assert [each for n in range(len(octets)) for each in reader.feed(octets[n : n + 1])] == exchange.sent
    reader.finish()


@given(EXCHANGES, st.integers(0, 10_000))
def test_a_stream_that_is_cut_off_ends_only_where_a_reply_may(exchange: Exchange, end: int) -> None:
    octets = exchange.octets()
    reader = exchange.reader()
    read = reader.feed(octets[: end % len(octets)])
    if len(read) == 1 and isinstance(read[0], Reply) and not reader.unfinished:
        reader.finish()
        return
    with pytest.raises(FrameError):
        reader.finish()


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Exchange, bytes]:
    exchange = draw(EXCHANGES)
    octets = exchange.octets()
    at = draw(st.integers(0, len(octets)))
    until = draw(st.integers(at, min(len(octets), at + 4)))
    return exchange, octets[:at] + draw(st.binary(max_size=4)) + octets[until:]


@given(mutated(), CUTS)
def test_mutated_octets_are_refused_or_are_what_the_frames_read_encode_to(
    given_: tuple[Exchange, bytes], cuts: list[int]
) -> None:
    exchange, octets = given_
    reader = exchange.reader()
    read: list[Frame] = []
    try:
        for piece in pieces(octets, cuts):
            read += reader.feed(piece)
    except FrameError:
        assert reader.unfinished == 0
        return
    whole = len(octets) - reader.unfinished
    assert b"".join(frames.encode(each) for each in read) == octets[:whole]


@given(REQUESTS, st.integers(1, 300))
def test_no_reader_keeps_more_than_its_limit_and_what_a_frame_has_around_its_body(request: Request, limit: int) -> None:
    reader = Frames(Order("client-call"), limit)
    octets = frames.encode(request)
    if len(request.body) > limit:
        with pytest.raises(frames.TooLarge):
            reader.feed(octets)
        assert reader.unfinished == 0
    else:
        reader.feed(octets[:-1])
        assert reader.unfinished == len(octets) - 1 <= limit + MAX_AROUND_BODY_OCTETS + HEADER_OCTETS


@dataclass
class NaiveWindow:
    """Remembers everything for ever, and judges each message by all of it."""

    span: int
    room: int
    latest: int = 0
    accepted: list[tuple[str, bytes, int]] = field(default_factory=list)

    def judge(self, sender: str, request_id: bytes, time: int, now: int) -> type[NotAccepted] | None:
        self.latest = max(self.latest, now)
        if time < self.latest - self.span:
            return TooOld
        if time > now + self.span:
            return FromTheFuture
        fresh = [each for each in self.accepted if each[2] >= self.latest - self.span]
        if any(each[:2] == (sender, request_id) for each in fresh):
            return Replayed
        if sum(each[0] == sender for each in fresh) >= self.room:
            return WindowFull
        return None


SPAN = 15  # below 16, so that a slot is 1 ms and the window forgets to the millisecond
ARRIVALS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(-SPAN - 3, SPAN + 3), st.integers(-10, 12)),
    max_size=60,
)


@given(ARRIVALS)
def test_the_replay_window_judges_as_one_that_remembers_everything(arrivals: list[tuple[str, int, int, int]]) -> None:
    window, naive = ReplayWindow(SPAN, 4, 2), NaiveWindow(SPAN, 4)
    now = 1_000
    for sender, number, offset, step in arrivals:
        now += step
        request_id = bytes((number,)) * 16
        expected = naive.judge(sender, request_id, now + offset, now)
        if expected is None:
            window.admit(sender, request_id, now + offset, now)
            naive.accepted.append((sender, request_id, now + offset))
        else:
            with pytest.raises(expected):
                window.admit(sender, request_id, now + offset, now)
        assert len(window) <= 8


@given(st.integers(16, 500), ARRIVALS)
def test_no_span_accepts_a_message_twice(span: int, arrivals: list[tuple[str, int, int, int]]) -> None:
    window, accepted = ReplayWindow(span, 1_000, 2), Counter[tuple[str, int, int]]()
    now = 10_000
    for sender, number, offset, step in arrivals:
        now += step * span // 8
        signed_at = now + offset * span // SPAN
        # The same message comes twice, and each earlier one again.
        for message in [(sender, number, signed_at)] * 2 + list(accepted):
            try:
                window.admit(message[0], bytes((message[1],)) * 16, message[2], now)
            except NotAccepted:
                continue
            accepted[message] += 1
    assert set(accepted.values()) <= {1}


TABLE = TableLimits(keep_ms=20, max_per_peer=3, max_octets=50, max_peers=2)
CALLS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 4),
        st.integers(0, 1),
        st.integers(0, 9),
        st.sampled_from(["settle", "give up", "leave"]),
    ),
    max_size=60,
)


@given(CALLS)
def test_no_request_is_done_twice_while_its_reply_is_kept(calls: list[tuple[str, int, int, int, str]]) -> None:
    table = IdempotencyTable(TABLE)
    begun: dict[tuple[str, int], int] = {}
    done: dict[tuple[str, int], tuple[int, bytes, int]] = {}
    now = 0
    for serial, (peer, number, variant, step, then) in enumerate(calls):
        now += step
        key = (peer, number)
        done = {each: value for each, value in done.items() if value[2] > now}
        outcome = table.begin(peer, bytes((number,)) * 16, bytes((variant,)) * 32, now)
        assert outcome == expected_outcome(begun, done, key, variant)
        if isinstance(outcome, New):
            begun[key] = variant
        if key in begun and then != "leave":
            settled = begun.pop(key)
            if then == "settle":
                reply = bytes((serial,)) * 20
                table.settle(peer, bytes((number,)) * 16, reply, now)
                done[key] = (settled, reply, now + TABLE.keep_ms)
            else:
                table.give_up(peer, bytes((number,)) * 16)
        assert len(table) <= TABLE.max_per_peer * TABLE.max_peers


def expected_outcome(
    begun: dict[tuple[str, int], int],
    done: dict[tuple[str, int], tuple[int, bytes, int]],
    key: tuple[str, int],
    variant: int,
) -> Outcome:
    if key in begun:
        return InProgress() if begun[key] == variant else Conflict()
    if key in done:
        return Again(done[key][1]) if done[key][0] == variant else Conflict()
    of_peer = [each for each in [*begun, *done] if each[0] == key[0]]
    octets = sum(len(value[1]) for each, value in done.items() if each[0] == key[0])
    peers = {each[0] for each in [*begun, *done]} | {key[0]}
    full = len(of_peer) >= TABLE.max_per_peer or octets >= TABLE.max_octets or len(peers) > TABLE.max_peers
    return Full() if full else New()


LIMITS = st.builds(
    Limits,
    max_connections=st.integers(5, 8),
    max_connections_of_address=st.integers(1, 5),
    max_handshakes=st.integers(3, 5),
    max_handshakes_of_address=st.integers(1, 3),
    handshake_ns=st.integers(1, 20),
    rate=st.sampled_from([1e8, 1e9, 5e8]),
    burst=st.integers(1, 10),
    always_retry=st.booleans(),
    retry_from=st.sampled_from([0.5, 0.75, 1.0]),
    retry_until=st.sampled_from([0.0, 0.25]),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "arrive validated", "arrive validated", "establish", "close", "overdue"]),
        st.integers(0, 15),
        st.sampled_from(["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]),
        st.integers(-3, 10),
    ),
    max_size=80,
)
HOSTS = {"192.0.2.1": 1, "::ffff:192.0.2.1": 1, "192.0.2.2": 2, "2001:db8::1": 3, "2001:db8::2": 3}


@given(LIMITS, EVENTS)
def test_connections_are_never_beyond_their_limits(limits: Limits, events: list[tuple[str, int, str, int]]) -> None:
    connections = Connections(limits)
    hosts: dict[bytes, int] = {}  # what the caller believes is there
    shaking: set[bytes] = set()
    now = 1_000
    for event, number, address, step in events:
        now += step
        name = bytes((number,))
        if event.startswith("arrive"):
            validated = event.endswith("validated")
            decision = connections.arrive(name, address, now, validated=validated)
            assert validated or not (limits.always_retry and isinstance(decision, Accept))
            assert not (validated and isinstance(decision, Retry))
            assert (decision == Drop("known")) == (name in hosts)
            if isinstance(decision, Accept):
                hosts[name] = HOSTS[address]
                shaking.add(name)
        elif event == "establish":
            if connections.establish(name, now):
                shaking.remove(name)
        elif event == "close":
            connections.close(name)
            hosts.pop(name, None)
            shaking.discard(name)
        else:
            for gone in connections.overdue(now):
                shaking.remove(gone)
                del hosts[gone]
        assert (len(connections), connections.handshakes) == (len(hosts), len(shaking))
        assert len(hosts) <= limits.max_connections
        assert len(shaking) <= limits.max_handshakes
        assert max(Counter(hosts.values()).values(), default=0) <= limits.max_connections_of_address
        of_shaking = Counter(hosts[each] for each in shaking)
        assert max(of_shaking.values(), default=0) <= limits.max_handshakes_of_address


@given(st.integers(1, 20), st.lists(st.integers(0, 3), max_size=80))
def test_no_interval_has_more_new_connections_than_the_burst_and_the_rate(burst: int, steps: list[int]) -> None:
    limits = Limits(1_000, 1_000, 1_000, 1_000, 1_000_000, 5e8, burst)  # one each 2 ns
    connections, times = Connections(limits), list[int]()
    now = 1_000
    for number, step in enumerate(steps):
        now += step
        if connections.arrive(bytes((number,)), "192.0.2.1", now, validated=True) == Accept():
            times.append(now)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - begin) / 2


@given(st.binary(max_size=200), st.integers(1, 50), CUTS, CUTS)
def test_an_object_arrives_as_it_was(octets: bytes, size: int, cuts: list[int], other_cuts: list[int]) -> None:
    manifest = transfer.manifest("object", pieces(octets, cuts), size)
    assert transfer.parse(transfer.encode(manifest)) == manifest
    receiver = Receiver(manifest)
    parts = list(transfer.chunks(pieces(octets, other_cuts), size))
    assert b"".join(receiver.take(n, part) for n, part in enumerate(parts)) == octets
    receiver.finish()


@given(st.binary(min_size=1, max_size=120), st.integers(1, 30), st.data())
def test_a_receiver_hands_on_nothing_but_the_object(octets: bytes, size: int, data: st.DataObject) -> None:
    manifest = transfer.manifest("object", [octets], size)
    parts = list(transfer.chunks([octets], size))
    index = transfer.resume_at(manifest, [octets[: data.draw(st.integers(0, len(octets)))]])
    held = b"".join(parts[:index])
    receiver = Receiver(manifest, index)
    offers = st.tuples(st.integers(-1, len(parts)), st.sampled_from(parts) | st.binary(max_size=30))
    for sequence, offered in data.draw(st.lists(offers, max_size=20)) + list(enumerate(parts)):
        with suppress(TransferError):
            held += receiver.take(sequence, offered)
        assert octets.startswith(held)
    receiver.finish()
    assert held == octets
