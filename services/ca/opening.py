"""Parts of the authority that are opened when they are needed: issuing comes first, since callers may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

Part = TypeVar("Part")


class Opening(Generic[Part]):
    """A part that is opened as soon as somebody waits for it, once.

    Awaiting it gives the part, or raises what opening it raised, to everybody who waits.
    """

    def __init__(self, opening: Coroutine[Any, Any, Part]) -> None:
        self._opening = opening
        self._part: asyncio.Task[Part] | None = None

    def __await__(self) -> Generator[object, None, Part]:
        if self._part is None:
            self._part = asyncio.get_running_loop().create_task(self._opening)
        return asyncio.shield(self._part).__await__()

    @property
    def opened(self) -> Part:
        """The part. Raises LookupError as long as it is not open."""
        if self._part is None or not self._part.done():
            raise LookupError("it is not open yet")
        return self._part.result()

    async def abandon(self, close: Callable[[Part], Awaitable[object]]) -> None:
        """Open it no more, or close it; what went wrong with it was told to those who waited."""
        if self._part is None:
            self._part = asyncio.get_running_loop().create_task(self._opening)
        self._part.cancel()
        await asyncio.wait((self._part,))
        # Looked at in any case: asyncio would complain if nobody did.
        if not self._part.cancelled() and self._part.exception() is None:
            await close(self._part.result())
