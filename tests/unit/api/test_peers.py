"""Calls to another service: bounded, repeatable, and never ending in anything but a reply or a problem."""

import asyncio
from typing import Any

import pytest

from services.api.peers import Peer
from services.api.problems import AUTHORITY, Problem
from services.ca.messages import GetRoots, Roots
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
