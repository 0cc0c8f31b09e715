"""Signed OCSP answers in memory: the least recently asked ones make room. Pure: time is an argument.

Rules:
- At most so many serial numbers, with an answer for each way in which their issuer is named.
- An answer is given until it is due; from then on it is signed anew by whoever asks, or before that in the background
  if anybody asked since it was signed. One that nobody asks for ends in peace.
- A revocation drops all answers about its serial number at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

from services.ca.status.ocsp import Answer, CertId

DEFAULT_SERIALS: Final = 8192
AHEAD_SHARE: Final = 4  # of an answer's time until it is due, the last quarter is when it is signed ahead

Known = Literal["good", "revoked"]


@dataclass(slots=True)
class _Entry:
    answer: Answer
    outcome: Known
    signed_at: int
    due: int
    asked: bool = False


class AnswerCache:
    """Answers by what was asked."""

    def __init__(self, most_serials: int = DEFAULT_SERIALS) -> None:
        if most_serials < 1:
            raise ValueError("a cache without room")
        self._most = most_serials
        self._by_serial: OrderedDict[int, dict[CertId, _Entry]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._by_serial.values()))

    def get(self, asked: CertId, now: int) -> tuple[Known, Answer] | None:
        """The answer, if there is one that is not due to be signed anew. `now` is in seconds since the Unix epoch."""
        entry = self._by_serial.get(asked.serial, {}).get(asked)
        if entry is None or not entry.answer.this_update <= now < entry.due:
            return None
        entry.asked = True
        self._by_serial.move_to_end(asked.serial)
        return entry.outcome, entry.answer

    def put(self, asked: CertId, outcome: Known, answer: Answer, now: int) -> None:
        """Keep an answer that was signed now; it is due at half of its time."""
        entries = self._by_serial.setdefault(asked.serial, {})
        entries[asked] = _Entry(answer, outcome, now, now + (answer.next_update - now) // 2)
        self._by_serial.move_to_end(asked.serial)
        while len(self._by_serial) > self._most:
            self._by_serial.popitem(last=False)

    def drop(self, serial: int) -> None:
        """Forget all that was said of a serial number."""
        self._by_serial.pop(serial, None)

    def to_sign_ahead(self, now: int, most: int) -> list[CertId]:
        """Up to `most` answers that were asked for and will be due soon. Those that nobody asked for are forgotten."""
        ahead: list[CertId] = []
        gone: list[CertId] = []
        for entries in self._by_serial.values():
            for asked, entry in entries.items():
                life = entry.due - entry.signed_at
                if entry.asked and entry.due - life // AHEAD_SHARE <= now:
                    ahead.append(asked)
                elif not entry.asked and entry.due <= now:
                    gone.append(asked)
            if len(ahead) >= most:
                break
        for asked in gone:
            self._forget(asked)
        return ahead[:most]

    def _forget(self, asked: CertId) -> None:
        entries = self._by_serial[asked.serial]
        del entries[asked]
        if not entries:
            del self._by_serial[asked.serial]
