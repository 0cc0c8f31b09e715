"""Who occupies the connections: which of them have used up their time, and which one makes room when all are taken.

Rules:
- A connection is in one of four phases and each phase has a limit, so none lives for ever without doing something: a
  peer that sends its headers octet by octet is still READING since the first one.
- Room is made at the cost of the address that holds the most connections, and never by ending a request that is being
  answered. So one client that opens connections and says nothing takes them from itself, not from the others.
- Who has just come, or has just got an answer, is left in peace for PATIENCE_SECONDS: with more busy clients than
  places, they wait for each other instead of throwing each other out.
- An address that holds more than its share has much less of that, CROWD_PATIENCE_SECONDS: otherwise it would need no
  more than all places in each PATIENCE_SECONDS to keep everybody out. Not none at all: clients behind one address that
  come all at once would end each other's handshakes before any is complete.
- `now` and `since` are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

PATIENCE_SECONDS: Final = 1.0
CROWD_PATIENCE_SECONDS: Final = 0.1
_SHARES: Final = 8
# With few places an eighth of them is not yet a crowd: one browser opens six connections.
_SMALLEST_SHARE: Final = 8


class Phase(Enum):
    """What a connection is doing. The values are label values of metrics."""

    HANDSHAKE = "handshake"
    IDLE = "idle"  # between two requests
    READING = "reading"  # a request has begun and its headers are not complete
    ANSWERING = "answering"  # from complete headers to the last octet of the response


@dataclass(slots=True, eq=False)
class Occupant:
    """One connection: where it comes from, and what it has been doing since when.

    `address` is what counts as one peer: an address_key of services.api.limits.
    """

    address: str
    phase: Phase
    since: float

    def enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.since = now


def overdue(occupants: Iterable[Occupant], limits: Mapping[Phase, float], now: float) -> list[Occupant]:
    """Those that have been in their phase for longer than its limit (seconds)."""
    return [occupant for occupant in occupants if now - occupant.since > limits[occupant.phase]]


def to_evict(occupants: Iterable[Occupant], places: int, now: float) -> Occupant | None:
    """The one that makes room among `places`: of the address with the most connections, the longest in its phase.

    None if all are being answered or still have a right to their place.
    """
    present = list(occupants)
    held = Counter(occupant.address for occupant in present)
    share = max(_SMALLEST_SHARE, places // _SHARES)
    patience = {
        address: CROWD_PATIENCE_SECONDS if number > share else PATIENCE_SECONDS for address, number in held.items()
    }
    candidates = [
        occupant
        for occupant in present
        if occupant.phase is not Phase.ANSWERING and now - occupant.since >= patience[occupant.address]
    ]
    return min(candidates, key=lambda occupant: (-held[occupant.address], occupant.since), default=None)
