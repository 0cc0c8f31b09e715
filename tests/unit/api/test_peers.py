"""Calls to another service: bounded, repeatable, and never ending in anything but a reply or a problem."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.api.peers import MAX_WHOLE_OCTETS, Peer
from services.api.problems import AUTHORITY, LOG, Problem
from services.ca.messages import GetRoots, Roots
from services.ca.status.messages import CrlDocument, GetCrl
from services.ct.messages import GetTile, Part
from services.errors import DeadlineExceeded, Refused, RemoteError

ROOTS = Roots(certificates=["PEM"])


class Calls:
    """Records calls; each one waits for `gate` and ends with `outcome`."""

    def __init__(self, outcome: object = ROOTS) -> None:
        self.outcome = outcome
        self.gate = asyncio.Event()
        self.gate.set()
        self.made: list[dict[str, Any]] = []
        self.under_way = 0

    async def call(self, method: str, request: object, reply_type: Any, **how: Any) -> Any:
        self.made.append({"method": method, "request": request, "reply_type": reply_type, **how})
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if isinstance(self.outcome, RemoteError):
            raise self.outcome
        return self.outcome


async def ask(authority: Peer, seconds: float = 5.0) -> Roots:
    return await authority.ask("roots", GetRoots(), Roots, seconds, "trace")


def test_a_call_may_be_repeated_and_carries_deadline_and_trace() -> None:
    async def scenario() -> None:
        calls = Calls()
        assert await ask(Peer(calls, AUTHORITY)) is ROOTS
        (made,) = calls.made
        assert (made["idempotent"], made["trace"]) == (True, "trace")
        assert 4.0 < made["timeout"] <= 5.0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "kind"), [(Refused("not-found", "serial", "x"), "not-found"), (DeadlineExceeded("x"), "deadline")]
)
def test_an_error_is_a_problem(error: RemoteError, kind: str) -> None:
    async def scenario() -> None:
        with pytest.raises(Problem) as caught:
            await ask(Peer(Calls(error), AUTHORITY))
        assert caught.value.kind == kind

    asyncio.run(scenario())


def test_what_is_above_the_limit_waits_its_turn() -> None:
    async def scenario() -> None:
        calls = Calls()
        calls.gate.clear()
        authority = Peer(calls, AUTHORITY, in_flight=2)
        asked = [asyncio.ensure_future(ask(authority)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (calls.under_way, len(calls.made)) == (2, 2)
        calls.gate.set()
        assert await asyncio.gather(*asked) == [ROOTS] * 5
        assert len(calls.made) == 5

    asyncio.run(scenario())


def test_waiting_for_a_turn_ends_with_the_time_of_the_request() -> None:
    async def scenario() -> None:
        calls = Calls()
        calls.gate.clear()
        authority = Peer(calls, AUTHORITY, in_flight=1)
        first = asyncio.ensure_future(ask(authority))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            await ask(authority, seconds=0.0)
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
        calls.gate.set()
        assert await first is ROOTS
        assert await ask(authority) is ROOTS, "the turn that was waited for in vain is free again"

    asyncio.run(scenario())


def test_a_request_that_is_given_up_frees_its_turn() -> None:
    async def scenario() -> None:
        calls = Calls()
        calls.gate.clear()
        authority = Peer(calls, AUTHORITY, in_flight=1)
        given_up = asyncio.ensure_future(ask(authority))
        await asyncio.sleep(0)
        given_up.cancel()
        calls.gate.set()
        assert await ask(authority) is ROOTS

    asyncio.run(scenario())


class Parts:
    """Answers calls for parts of something by `part_at`, which gets the offset and how many calls there were before."""

    def __init__(self, part_at: Callable[[int, int], object]) -> None:
        self.part_at = part_at
        self.offsets: list[int] = []
        self.timeouts: list[float] = []

    async def call(self, method: str, request: Any, reply_type: Any, **how: Any) -> Any:
        assert (method, reply_type) in (("tile", Part), ("crl", CrlDocument))
        self.offsets.append(request.offset)
        self.timeouts.append(how["timeout"])
        return self.part_at(request.offset, len(self.offsets) - 1)


TILE = bytes(range(256)) * 4


def tile_at(offset: int) -> GetTile:
    return GetTile(level=0, index=0, width=256, offset=offset)


def whole(parts: Parts, seconds: float = 5.0, hold: Callable[[int], None] = lambda _: None) -> tuple[Any, bytes]:
    return asyncio.run(Peer(parts, LOG).ask_whole("tile", tile_at, Part, seconds, "trace", hold))


def test_something_in_parts_is_asked_for_part_by_part_within_one_time() -> None:
    parts = Parts(lambda offset, _: Part(content=TILE[offset : offset + 400], size=len(TILE)))
    first, content = whole(parts)
    assert content == TILE
    assert first == Part(content=TILE[:400], size=len(TILE))
    assert parts.offsets == [0, 400, 800]
    assert 5.0 >= parts.timeouts[0] >= parts.timeouts[1] >= parts.timeouts[2] > 4.0


@pytest.mark.parametrize("size", [0, 1, 400])
def test_what_is_small_is_one_call(size: int) -> None:
    parts = Parts(lambda *_: Part(content=TILE[:size], size=size))
    assert whole(parts)[1] == TILE[:size]
    assert parts.offsets == [0]


def test_what_changes_between_two_parts_is_asked_for_anew() -> None:
    """A revocation list may be signed anew at any time; its number tells."""
    old, new = b"old" * 100, b"new" * 150

    def part_at(offset: int, calls: int) -> CrlDocument:
        der, number = (old, 7) if calls < 2 else (new, 8)
        return CrlDocument(
            der=der[offset : offset + 100], size=len(der), number=number, this_update=number, next_update=0
        )

    def crl_at(offset: int) -> GetCrl:
        return GetCrl(issuer="0a", partition=0, offset=offset)

    parts = Parts(part_at)
    peer = Peer(parts, AUTHORITY)
    first, content = asyncio.run(peer.ask_whole("crl", crl_at, CrlDocument, 5.0, "trace", lambda _: None))
    assert (content, first.this_update) == (new, 8)
    assert parts.offsets == [0, 100, 200, 0, 100, 200, 300, 400]


def test_what_changes_all_the_time_is_given_up_with_the_time_of_the_request() -> None:
    parts = Parts(lambda _, calls: Part(content=b"x", size=2 + calls))
    with pytest.raises(Problem) as caught:
        whole(parts, seconds=0.05)
    assert caught.value.kind == "deadline"


@pytest.mark.parametrize(
    "part",
    [
        Part(content=b"", size=10),
        Part(content=b"xx", size=1),
        Part(content=b"x", size=-1),
        Part(content=b"x", size=MAX_WHOLE_OCTETS + 1),
    ],
)
def test_parts_that_do_not_make_a_whole_are_the_failure_of_who_gave_them(part: Part) -> None:
    with pytest.raises(Problem) as caught:
        whole(Parts(lambda *_: part))
    assert (caught.value.kind, caught.value.status) == ("log-failed", 502)


def test_the_size_is_told_before_the_rest_is_asked_for() -> None:
    parts = Parts(lambda offset, _: Part(content=TILE[offset : offset + 400], size=len(TILE)))

    def hold(octets: int) -> None:
        assert (octets, parts.offsets) == (len(TILE), [0])
        raise Problem("rate-limited", "too much")

    with pytest.raises(Problem, match="too much"):
        whole(parts, hold=hold)
    assert parts.offsets == [0]
