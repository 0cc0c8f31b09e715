"""Calls to the services behind this interface, as the endpoints make them.

Rules:
- Every call is sent again once if the service dies while it works on it. For reads that is plainly harmless. For
  issuance it is harmless too: the first attempt may leave a certificate that nobody was told of, under its own serial
  number, as a client that repeats its request would. The log answers a chain that it has with the same SCT. In return
  nobody sees an error because a worker was replaced.
- A call waits for a service that is being restarted, but never beyond its time.
- No more than IN_FLIGHT calls to one service are under way; the others wait their turn here, first come first served,
  instead of being refused there.
- What is larger than one message comes in parts, one call for each, all within the time of one request.
- Whatever a call ends with is a reply or a Problem.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from services.api.problems import PeerName, Problem, of_remote
from services.ca.status.messages import CrlDocument
from services.ct.messages import Part
from services.errors import RemoteError

ReplyT = TypeVar("ReplyT", bound=Struct)
PartT = TypeVar("PartT", Part, CrlDocument)

# Enough for a service to commit many at once, and below what it takes from one connection.
IN_FLIGHT: Final = 128
# A data tile of 256 entries, each with the largest certificates that a log takes, has half of this.
MAX_WHOLE_OCTETS: Final = 67_108_864
_SHORTEST_CALL: Final = 0.05


class Calls(Protocol):
    """The asking end of calls between workers (services.rpc_client.Client)."""

    async def call(
        self,
        method: str,
        request: object,
        reply_type: type[ReplyT],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline that crosses the wire
        trace: str = "",
        idempotent: bool = False,
    ) -> ReplyT: ...


class Peer:
    """Asks one service over `calls`; `name` is what clients get to read of it."""

    def __init__(self, calls: Calls, name: PeerName, in_flight: int = IN_FLIGHT) -> None:
        self._calls = calls
        self._name = name
        self._places = asyncio.Semaphore(in_flight)

    async def ask(self, method: str, request: Struct, reply_type: type[ReplyT], seconds: float, trace: str) -> ReplyT:
        """Return the reply to `request` within `seconds`. Raises Problem."""
        deadline = time.monotonic() + seconds
        if self._places.locked():
            await self._wait_for_place(seconds)
        else:
            await self._places.acquire()
        try:
            left = max(_SHORTEST_CALL, deadline - time.monotonic())
            return await self._calls.call(method, request, reply_type, timeout=left, trace=trace, idempotent=True)
        except RemoteError as error:
            raise of_remote(error, self._name) from error
        finally:
            self._places.release()

    async def ask_whole(
        self,
        method: str,
        request_at: Callable[[int], Struct],
        reply_type: type[PartT],
        seconds: float,
        trace: str,
        hold: Callable[[int], None],
    ) -> tuple[PartT, bytes]:
        """Ask for all parts of one thing; `request_at` makes the request for the part at an offset.

        `hold` is told the size of the whole before the rest is asked for, and raises Problem if that is too much now.
        Returns the first part and the whole content. What changes between two parts is asked for anew. Raises Problem.
        """
        deadline = time.monotonic() + seconds

        async def part_at(offset: int) -> PartT:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Problem("deadline", f"{self._name.text} did not give all of it in time")
            return await self.ask(method, request_at(offset), reply_type, left, trace)

        while True:
            first = await part_at(0)
            hold(_read(first)[1])
            content = await self._gathered(first, part_at)
            if content is not None:
                return first, content

    async def _gathered(self, first: PartT, part_at: Callable[[int], Awaitable[PartT]]) -> bytes | None:
        """All parts from the first on, or None if they are not of the same thing."""
        content, *same = _read(first)
        size, gathered = same[0], bytearray(content)
        while content and len(gathered) < size <= MAX_WHOLE_OCTETS:
            content, *found = _read(await part_at(len(gathered)))
            if found != same:
                return None
            gathered += content
        if len(gathered) != size:
            raise Problem(self._name.failure, f"{self._name.text} gave {len(gathered)} octets of {size}")
        return bytes(gathered)

    async def _wait_for_place(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Problem("unavailable", f"{self._name.text} is busy", retry_after=1) from None


def _read(part: Part | CrlDocument) -> tuple[bytes, int, int]:
    """Its octets, the size of the whole, and of which version of the whole it is."""
    if isinstance(part, Part):
        return part.content, part.size, 0
    return part.der, part.size, part.number
