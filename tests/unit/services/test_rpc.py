"""What both ends of a call promise, with the transport replaced by one that keeps what was written."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest
from msgspec import Raw, msgpack

from services import framing, rpc_server
from services.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Internal,
    Overloaded,
    PeerGone,
    Refused,
    RemoteError,
    StorageUnavailable,
    Unavailable,
)
from services.framing import Cancel, Failure, Goodbye, Reply, Request
from services.logs import TRACE
from services.rpc_client import _error
from services.rpc_server import Call, Handler, Server, _Connection

FAR = 2**62


class Question(msgspec.Struct):
    number: int
    parts: list[str] = []


class OwnRefusal(Exception):
    """As a service declares it in its messages, without knowing of calls."""

    counts_as = "rejected"

    def __init__(self) -> None:
        super().__init__("no")
        self.kind, self.field, self.detail = "bad-key", "csr", "use a longer key"


class KeptTransport(asyncio.Transport):
    """Keeps what is written, and what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = [True]
        self.closed: str | None = None
        self.ended = False

    def write_eof(self) -> None:
        self.ended = True

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)


class Peer:
    """One connection of a server under test, seen from its other side."""

    def __init__(self, server: Server) -> None:
        self.transport = KeptTransport()
        self.connection = _Connection(server)
        self.connection.connection_made(self.transport)

    def send(self, *messages: framing.ToServer) -> None:
        self.connection.data_received(b"".join(framing.encode(message) for message in messages))

    async def answers(self, turns: int = 5) -> list[Any]:
        """All that the server has said, after some turns of the loop."""
        for _ in range(turns):
            await asyncio.sleep(0)
        return cast(list[Any], framing.from_server().feed(b"".join(self.transport.writes)))


def request(number: int, method: str = "echo", body: object = None, deadline_ns: int = FAR, trace: str = "") -> Request:
    return Request(number, method, deadline_ns, trace, Raw(msgpack.encode(body or Question(number))))


async def echo(question: Question, _call: Call) -> Question:
    return question


async def never(_question: Question, _call: Call) -> None:
    await asyncio.get_running_loop().create_future()


def serving(handler: Handler = echo, **bounds: Any) -> Server:
    return Server((), {"echo": (Question, handler)}, **bounds)


def failing(error: Exception) -> Handler:
    async def fail(_question: Question, _call: Call) -> None:
        raise error

    return fail


def in_a_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    asyncio.run(run())


def told(handler: Handler, *messages: framing.ToServer, **bounds: Any) -> list[Any]:
    """What a server with `handler` says to `messages`."""

    async def scenario() -> list[Any]:
        peer = Peer(serving(handler, **bounds))
        peer.send(*messages)
        return await peer.answers()

    return asyncio.run(scenario())


def test_a_call_is_answered_under_its_own_number() -> None:
    replies = told(echo, request(1), request(5))
    assert [(reply.id, msgpack.decode(reply.body, type=Question).number) for reply in replies] == [(1, 1), (5, 5)]


def test_replies_of_one_turn_of_the_loop_are_one_write() -> None:
    async def scenario() -> None:
        peer = Peer(serving())
        peer.send(*(request(number) for number in range(1, 11)))
        assert len(await peer.answers()) == 10
        assert len(peer.transport.writes) == 1

    in_a_loop(scenario)


def test_a_handler_knows_deadline_method_and_trace() -> None:
    seen: list[object] = []

    async def note(_question: Question, call: Call) -> None:
        seen.extend((call, TRACE.get()))

    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    told(note, request(1, deadline_ns=FAR, trace=trace))
    assert seen == [Call("echo", FAR, trace), trace]


def test_a_call_that_arrives_too_late_is_not_begun() -> None:
    begun: list[object] = []

    async def note(question: Question, _call: Call) -> None:
        begun.append(question)

    (failure,) = told(note, request(1, deadline_ns=1))
    assert (failure.kind, failure.retryable, begun) == ("deadline-exceeded", True, [])


def test_an_unknown_method_is_refused_by_name() -> None:
    (failure,) = told(echo, request(1, method="isue"))
    assert (failure.kind, failure.field, failure.retryable) == ("unknown-method", "method", False)
    assert "'isue'" in failure.detail


@pytest.mark.parametrize(
    ("body", "field"),
    [({"number": "1"}, "number"), ({}, None), ({"number": 1, "parts": ["a", 2]}, "parts[1]"), ([1], None)],
)
def test_a_bad_body_is_refused_with_the_path_of_its_field(body: object, field: str | None) -> None:
    (failure,) = told(echo, request(1, body=msgspec.Raw(msgpack.encode(body))))
    assert (failure.kind, failure.field) == ("malformed", field)
    assert "Expected" in failure.detail or "missing" in failure.detail


def test_too_many_calls_on_one_connection_are_overload() -> None:
    failures = told(never, *(request(number) for number in range(1, 6)), per_connection=3)
    assert [(failure.id, failure.kind, failure.retryable) for failure in failures] == [
        (4, "overloaded", True),
        (5, "overloaded", True),
    ]


def test_too_many_calls_in_all_are_overload_whichever_connection_they_come_from() -> None:
    async def scenario() -> None:
        server = serving(never, in_all=2)
        first, second = Peer(server), Peer(server)
        first.send(request(1), request(2))
        second.send(request(1))
        assert await first.answers() == []
        assert [failure.kind for failure in await second.answers()] == ["overloaded"]

    in_a_loop(scenario)


def test_a_finished_call_makes_room_for_the_next() -> None:
    async def scenario() -> None:
        server = serving(echo, per_connection=1)
        peer = Peer(server)
        for number in range(1, 4):
            peer.send(request(number))
            assert isinstance((await peer.answers())[-1], Reply)
        assert server.in_flight == 0

    in_a_loop(scenario)


def test_cancel_stops_the_work_and_nothing_is_answered() -> None:
    stopped: list[int] = []

    async def wait(question: Question, _call: Call) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            stopped.append(question.number)
            raise

    async def scenario() -> None:
        server = serving(wait)
        peer = Peer(server)
        peer.send(request(1), request(2))
        await peer.answers()
        peer.send(Cancel(1), Cancel(99))
        assert await peer.answers() == []
        assert (stopped, server.in_flight) == ([1], 1)

    in_a_loop(scenario)


def test_a_call_cancelled_before_its_first_step_is_forgotten_too() -> None:
    async def scenario() -> None:
        server = serving(never)
        peer = Peer(server)
        peer.send(request(1), Cancel(1))
        assert await peer.answers() == []
        assert server.in_flight == 0

    in_a_loop(scenario)


def test_work_for_a_peer_that_left_is_cancelled() -> None:
    async def scenario() -> None:
        server = serving(never)
        peer = Peer(server)
        peer.send(request(1))
        peer.connection.connection_lost(None)
        await peer.answers()
        assert server.in_flight == 0

    in_a_loop(scenario)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        framing.encode(Reply(1, Raw(b"\xc0"))),
        framing.encode(request(2)) + framing.encode(request(2)),
        framing.encode(request(0)),
    ],
)
def test_a_peer_that_does_not_speak_this_is_cut_off(stream: bytes) -> None:
    async def scenario() -> None:
        peer = Peer(serving(never))
        peer.connection.data_received(stream)
        assert peer.transport.closed == "aborted"
        peer.connection.connection_lost(None)
        await peer.answers()

    in_a_loop(scenario)


@pytest.mark.parametrize(
    ("error", "kind", "field", "retryable"),
    [
        (Refused("forbidden-name", "csr", "x"), "forbidden-name", "csr", False),
        (OwnRefusal(), "bad-key", "csr", False),
        (StorageUnavailable("the disk is full"), "unavailable", None, True),
        (Overloaded("x"), "overloaded", None, True),
        (PeerGone("x"), "peer-gone", None, True),
        (ConfigurationError("/var/lib/x is damaged"), "unavailable", None, True),
        (OSError(errno.EIO, "x"), "internal", None, False),
    ],
)
def test_what_a_handler_raises_reaches_the_caller_typed(
    error: Exception, kind: str, field: str | None, retryable: bool
) -> None:
    (failure,) = told(failing(error), request(1))
    assert (failure.kind, failure.field, failure.retryable) == (kind, field, retryable)


def test_an_unforeseen_error_tells_the_caller_nothing_of_its_text() -> None:
    (failure,) = told(failing(ValueError("key 5ec2e7")), request(1))
    assert failure.kind == "internal"
    assert "5ec2e7" not in failure.detail


def test_a_detail_that_cannot_be_encoded_or_is_huge_is_told_all_the_same() -> None:
    (failure,) = told(failing(Unavailable("\udcff" + "x" * 10_000)), request(1))
    assert failure.detail.startswith("\\udcff")
    assert len(failure.detail) < 3000


def test_a_reply_above_the_limit_is_an_error_and_not_silence() -> None:
    async def long(_question: Question, _call: Call) -> str:
        return "x" * 5000

    (failure,) = told(long, request(1), limit=4096)
    assert (failure.kind, failure.id) == ("internal", 1)
    assert "too large" in failure.detail


def test_drain_answers_what_was_begun_says_up_to_where_and_reads_no_further() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def wait(question: Question, _call: Call) -> Question:
            await release.wait()
            return question

        server = serving(wait)
        peer = Peer(server)
        peer.send(request(1), request(2))
        drained = asyncio.ensure_future(server.drain())
        assert await peer.answers() == [Goodbye(2)]
        peer.send(request(3))
        assert (await peer.answers(), peer.transport.closed, drained.done()) == ([Goodbye(2)], None, False)
        release.set()
        goodbye, *replies = await peer.answers()
        assert (goodbye, [reply.id for reply in replies]) == (Goodbye(2), [1, 2])
        assert (peer.transport.ended, peer.transport.closed) == (True, None), "the peer may still write, and read"
        peer.send(request(4))
        assert len(await peer.answers()) == 3
        peer.connection.connection_lost(None)
        await drained

    in_a_loop(scenario)


def test_a_peer_that_does_not_read_its_last_reply_is_left_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "LINGER_SECONDS", 0.0)

    async def scenario() -> None:
        peer = Peer(serving(echo))
        peer.connection.say_goodbye()
        await peer.answers()
        assert (peer.transport.ended, peer.transport.closed) == (True, "aborted")

    in_a_loop(scenario)


def test_a_peer_that_does_not_read_is_not_read_either_until_it_does() -> None:
    async def scenario() -> None:
        peer = Peer(serving())
        peer.connection.pause_writing()
        assert peer.transport.reading == [True, False]
        peer.connection.resume_writing()
        assert peer.transport.reading == [True, False, True]
        peer.connection.connection_lost(None)

    in_a_loop(scenario)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure(1, "unavailable", None, "d", retryable=True), Unavailable),
        (Failure(1, "deadline-exceeded", None, "d", retryable=True), DeadlineExceeded),
        (Failure(1, "overloaded", None, "d", retryable=True), Overloaded),
        (Failure(1, "peer-gone", None, "d", retryable=True), PeerGone),
        (Failure(1, "internal", None, "d", retryable=False), Internal),
        (Failure(1, "bad-key", "csr", "d", retryable=False), Refused),
        (Failure(1, "not-yet-known", None, "d", retryable=True), Unavailable),
    ],
)
def test_a_failure_arrives_as_its_type(failure: Failure, expected: type[RemoteError]) -> None:
    error = _error(failure)
    assert type(error) is expected
    assert error.retryable == failure.retryable
    assert "d" in error.detail


def test_a_refusal_counts_as_rejected_and_names_its_field() -> None:
    error = _error(Failure(1, "bad-key", "csr", "use a longer key", retryable=False))
    assert isinstance(error, Refused)
    assert (error.counts_as, error.kind, error.field) == ("rejected", "bad-key", "csr")
    assert str(error) == "bad-key: csr: use a longer key"
