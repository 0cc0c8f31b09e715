"""How much memory callers without a token may occupy with what they send and with what they do not read. Pure.

Rules:
- What is being received for somebody, or sent to somebody, is held for him until the last octet has left. Every
  connection may hold FREE_OCTETS; what is more is counted, for all addresses together and for each one.
- One address has at most its share of all, so that it takes eight of them to be in the way of the others. One thing
  that is larger than a share is let through when its address holds nothing else: else nobody could ever have it.
- What cannot be held is refused before it is there.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

FREE_OCTETS: Final = 65_536
SHARES: Final = 8


class Holdings:
    """What all connections hold together, at most `most` octets beyond what is free."""

    def __init__(self, most: int) -> None:
        if most < SHARES:
            raise ValueError("too little to be shared")
        self._most = most
        self._share = most // SHARES
        self._total = 0
        self._of: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Octets that are held now."""
        return self._total

    def take(self, address: str, octets: int) -> bool:
        """Whether `octets` more may be held for `address`; if so they are counted."""
        held = self._of.get(address, 0)
        if self._total + octets > self._most or (held and held + octets > self._share):
            return False
        self._total += octets
        self._of[address] = held + octets
        return True

    def give_back(self, address: str, octets: int) -> None:
        """Count `octets` off again."""
        self._total -= octets
        self._of[address] -= octets
        if not self._of[address]:
            del self._of[address]


class Holding:
    """What one connection holds. `address` is what counts as one peer."""

    def __init__(self, holdings: Holdings, address: str) -> None:
        self._holdings = holdings
        self._address = address
        self._octets = 0
        self._ended = False

    def reaches(self, octets: int) -> bool:
        """Whether this connection may hold `octets`, all told; if so they are counted until `release`."""
        more = octets - self._octets
        if octets <= FREE_OCTETS or more <= 0 or self._ended:
            return True
        if not self._holdings.take(self._address, more):
            return False
        self._octets = octets
        return True

    def release(self) -> None:
        """Nothing is held any more."""
        if self._octets:
            self._holdings.give_back(self._address, self._octets)
            self._octets = 0

    def end(self) -> None:
        """The connection is closed: nothing is held by it from now on, whatever its last request still does."""
        self.release()
        self._ended = True
