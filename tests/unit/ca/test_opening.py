"""A part is opened once, by whoever waits for it first, and its failure reaches everybody who waits."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.ca.opening import Opening


class Parts:
    """Opens parts, and counts how often it was asked to; knows what was closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[str] = []

    async def close(self, part: str) -> None:
        self.closed.append(part)

    async def open(self) -> str:
        self.opened += 1
        await asyncio.sleep(0)
        return "a part"

    async def fail(self) -> str:
        await asyncio.sleep(0)
        raise OSError("no room")


def running(test: Callable[[Parts], Awaitable[None]]) -> None:
    async def whole() -> None:
        await test(Parts())

    asyncio.run(whole())


def test_nothing_is_opened_before_somebody_waits_for_it() -> None:
    async def test(parts: Parts) -> None:
        part = Opening(parts.open())
        await asyncio.sleep(0.01)
        assert parts.opened == 0
        with pytest.raises(LookupError):
            _ = part.opened
        await part.abandon(parts.close)

    running(test)


def test_all_who_wait_get_the_same_part() -> None:
    async def test(parts: Parts) -> None:
        part = Opening(parts.open())

        async def wait() -> str:
            return await part

        assert await asyncio.gather(*(wait() for _ in range(3))) == ["a part"] * 3
        assert (part.opened, parts.opened) == ("a part", 1)

    running(test)


def test_all_who_wait_hear_what_went_wrong() -> None:
    async def test(parts: Parts) -> None:
        part = Opening(parts.fail())
        for _ in range(2):
            with pytest.raises(OSError, match="no room"):
                await part
        await part.abandon(parts.close)

    running(test)


def test_one_who_waits_no_longer_does_not_stop_it_for_the_others() -> None:
    async def test(parts: Parts) -> None:
        part = Opening(parts.open())

        async def wait() -> str:
            return await part

        first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "a part"

    running(test)


def test_an_abandoned_part_is_not_opened_further() -> None:
    async def test(parts: Parts) -> None:
        async def never() -> str:
            await asyncio.sleep(60)
            return await parts.open()

        part = Opening(never())

        async def wait() -> str:
            return await part

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        await part.abandon(parts.close)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (parts.opened, parts.closed) == (0, [])

    running(test)


def test_an_abandoned_part_that_is_open_is_closed() -> None:
    async def test(parts: Parts) -> None:
        part = Opening(parts.open())
        await part
        await part.abandon(parts.close)
        assert parts.closed == ["a part"]

    running(test)
