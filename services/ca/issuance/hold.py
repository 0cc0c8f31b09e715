"""Whether the log allows issuing: a log that is not what it was must not be added to.

Rules:
- Until the log was compared with what was seen of it nobody knows, and who wants to issue waits, for a short time.
- `promised` is the highest place that the log has given, -1 at first. The head over a place is durable before it is
  given, so that a smaller head later means that the log was put back.
- Once it contradicts nothing is issued until it continues what was seen again, or the operator accepts it as it is.
- Who cannot issue is not well, and says so with every probe: what to do is in that note, which has room for 160 octets.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.errors import Unavailable

PATIENCE_SECONDS: Final = 2.0
HELD: Final = (
    "nothing is issued: the log is not what was seen of it (`trustchain findings`); put it back, "
    "or accept it: file ca/accept-log, restart ca"
)
"""The state and the ways out of it, for /health: not longer than the note of a probe."""


class IssuanceHold:
    """Held back until somebody releases it."""

    def __init__(self) -> None:
        self._known = asyncio.Event()
        self._reason: str | None = None
        self.promised = -1

    @property
    def reason(self) -> str | None:
        """Why nothing is issued, if it was found out."""
        return self._reason

    def promise(self, place: int) -> None:
        """The log has given this place to a certificate."""
        self.promised = max(self.promised, place)

    def release(self) -> None:
        """The log continues what was seen of it."""
        self._reason = None
        self._known.set()

    def stop(self, reason: str) -> None:
        """It does not."""
        self._reason = reason
        self._known.set()

    async def passed(self) -> None:
        """Returns when issuing may go on. Raises Unavailable."""
        if not self._known.is_set():
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._known.wait()
            except TimeoutError:
                raise Unavailable(
                    "the log has not been compared with what was seen of it: it does not answer"
                ) from None
        if self._reason is not None:
            raise Unavailable(f"nothing is issued while the log contradicts what was seen of it: {self._reason}")
