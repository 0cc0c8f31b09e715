"""Calls to the certificate authority, as the endpoints make them.

Rules:
- Every call is sent again once if the authority dies while it works on it. For reads that is plainly harmless. For
  issuance it is harmless too: the first attempt may leave a certificate that nobody was told of, under its own serial
  number, as a client that repeats its request would. In return nobody sees an error because a worker was replaced.
- A call waits for an authority that is being restarted, but never beyond its time.
- No more than IN_FLIGHT calls are under way; the others wait their turn here, first come first served, instead of being
  refused there.
- Whatever a call ends with is a reply or a Problem.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from services.api.problems import Problem, of_remote
from services.errors import RemoteError

ReplyT = TypeVar("ReplyT", bound=Struct)

# Enough for the authority to commit many at once, and below what it takes from one connection.
IN_FLIGHT: Final = 128
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


class Authority:
    """Asks the certificate authority."""

    def __init__(self, calls: Calls, in_flight: int = IN_FLIGHT) -> None:
        self._calls = calls
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
            raise of_remote(error) from error
        finally:
            self._places.release()

    async def _wait_for_place(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Problem("unavailable", "the certificate authority is busy", retry_after=1) from None
