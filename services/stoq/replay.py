"""The replay window: which signed messages were accepted lately, so that none is accepted twice. Pure.

Rules:
- Times are milliseconds of the Unix epoch. A message is in time when its own time is at most `span_ms` before or after
  `now_ms`; whatever else it says, it is refused otherwise.
- A sender and request id that are remembered are refused, at whichever time they claim to be.
- What is too old to be accepted again is forgotten, in slots of a part of the span: each id at most a slot later than
  it could be. A clock that is set back does not bring back what was forgotten: what was too old once stays so.
- A sender has at most `max_per_sender` ids in the window. When they are all fresh a new one of his is refused; none is
  ever forgotten to make room, and nobody is refused for what others sent. Senders are known hosts; at most
  `max_senders` of them are in the window at once.
- A window is empty when its process begins. `since_ms` is for that: no message of an earlier time is accepted. Whoever
  had accepted messages before gives his last `now_ms` plus the span, or admits again what he kept.
- Each message costs a constant time, averaged over the messages.
"""

from __future__ import annotations

from typing import Final

from services.stoq.messages import FromTheFuture, Replayed, TooOld, WindowFull

_SLOTS_OF_A_SPAN: Final = 16


class ReplayWindow:
    """Remembers the accepted messages of `span_ms` before and after now."""

    __slots__ = ("_floor_ms", "_max_per_sender", "_max_senders", "_seen", "_slot_ms", "_slots", "_span_ms")

    def __init__(self, span_ms: int, max_per_sender: int, max_senders: int, since_ms: int = 0) -> None:
        if min(span_ms, max_per_sender, max_senders) < 1:
            raise ValueError("a replay window spans at least 1 ms and has room for a sender and a message")
        self._span_ms = span_ms
        self._slot_ms = max(1, span_ms // _SLOTS_OF_A_SPAN)
        self._max_per_sender = max_per_sender
        self._max_senders = max_senders
        self._floor_ms = since_ms
        self._seen: dict[str, set[bytes]] = {}
        self._slots: dict[int, list[tuple[str, bytes]]] = {}

    def __len__(self) -> int:
        return sum(len(ids) for ids in self._seen.values())

    def check_time(self, time_ms: int, now_ms: int) -> None:
        """Check that a message is in time, and forget what is not any more. Raises TooOld or FromTheFuture."""
        self._forget_before(now_ms - self._span_ms)
        if time_ms < self._floor_ms:
            raise TooOld(f"it was signed {self._floor_ms - time_ms} ms before what is still accepted")
        if time_ms > now_ms + self._span_ms:
            raise FromTheFuture(f"it was signed {time_ms - now_ms} ms ahead; {self._span_ms} ms are allowed")

    def admit(self, sender: str, request_id: bytes, time_ms: int, now_ms: int) -> None:
        """Remember an authentic message. Raises TooOld, FromTheFuture, Replayed or WindowFull, and then does not."""
        self.check_time(time_ms, now_ms)
        ids = self._seen.get(sender)
        if ids is None:
            if len(self._seen) >= self._max_senders:
                raise WindowFull(f"{self._max_senders} senders have messages in the window")
            ids = self._seen[sender] = set()
        elif request_id in ids:
            raise Replayed("a message with this request id was accepted before")
        elif len(ids) >= self._max_per_sender:
            raise WindowFull(f"{self._max_per_sender} messages of this sender are in the window")
        ids.add(request_id)
        self._slots.setdefault(time_ms // self._slot_ms, []).append((sender, request_id))

    def _forget_before(self, floor_ms: int) -> None:
        if floor_ms <= self._floor_ms:
            return
        slot_changes = floor_ms // self._slot_ms != self._floor_ms // self._slot_ms
        self._floor_ms = floor_ms
        if not slot_changes:
            return
        # There are never more slots than twice the span has, and a few at its ends.
        for slot in [slot for slot in self._slots if slot < floor_ms // self._slot_ms]:
            for sender, request_id in self._slots.pop(slot):
                self._forget(sender, request_id)

    def _forget(self, sender: str, request_id: bytes) -> None:
        ids = self._seen[sender]
        ids.remove(request_id)
        if not ids:
            del self._seen[sender]
