"""What a state-changing request with a known id gets: done once, answered as often as it is asked. Pure.

Rules:
- A request is known by its peer (as authenticated) and its request id. The digest is that of all that decides what is
  done: service, method and body.
- Begun, then settled: with the reply, or by being given up when nothing was done. Nobody knows more of what is begun
  and not settled, so that is never forgotten: whoever began it settles it, also after a restart.
- A reply is kept `keep_ms` after it was settled. A client repeats no request later than that.
- A peer has at most `max_per_peer` requests in the table, and begins none while its replies have `max_octets` or more;
  what is fresh is never forgotten to make room. So one peer holds less than `max_octets` and one reply more for each
  request that was in progress. Peers are known hosts; at most `max_peers` of them are in the table at once.
- `now_ms` may go back; then nothing is forgotten until it is where it was.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from services.stoq.frames import Request


@dataclass(frozen=True, slots=True)
class New:
    """It is to be done now, and to be settled then."""


@dataclass(frozen=True, slots=True)
class Again:
    """It was done: this was the reply."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class InProgress:
    """It is being done: ask again later."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Its id belongs to another request of this peer."""


@dataclass(frozen=True, slots=True)
class Full:
    """It was not begun: the table keeps too much of this peer, or of too many peers."""


Outcome = New | Again | InProgress | Conflict | Full


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, and how long."""

    keep_ms: int
    max_per_peer: int
    max_octets: int
    max_peers: int

    def __post_init__(self) -> None:
        if min(self.keep_ms, self.max_per_peer, self.max_octets, self.max_peers) < 1:
            raise ValueError("each limit is at least 1")


class NotBegun(Exception):
    """Something was settled that is not in progress: a mistake of whoever calls."""


@dataclass(slots=True)
class _OfPeer:
    # The digest of what is in progress, the digest and reply of what is settled.
    begun: dict[bytes, bytes] = field(default_factory=dict)
    settled: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    octets: int = 0


def digest(request: Request) -> bytes:
    """What tells one request of a peer from another with the same id."""
    fields = (request.service.encode(), request.method.encode(), request.body)
    return sha256(b"".join(len(each).to_bytes(4, "big") + each for each in fields)).digest()


class IdempotencyTable:
    """What is known of the requests of all peers."""

    __slots__ = ("_limits", "_peers", "_until")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._peers: dict[str, _OfPeer] = {}
        self._until: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(each.begun) + len(each.settled) for each in self._peers.values())

    def begin(self, peer: str, request_id: bytes, request_digest: bytes, now_ms: int) -> Outcome:
        """What is to be done with a request; New notes that it is in progress."""
        self._forget_until(now_ms)
        known = self._peers.get(peer)
        if known is not None:
            found = self._known(known, request_id, request_digest)
            if found is not None:
                return found
            if self._is_full(known):
                return Full()
        elif len(self._peers) >= self._limits.max_peers:
            return Full()
        self._peers.setdefault(peer, _OfPeer()).begun[request_id] = request_digest
        return New()

    def settle(self, peer: str, request_id: bytes, reply: bytes, now_ms: int) -> None:
        """It was done, with this reply. Raises NotBegun."""
        known, request_digest = self._take(peer, request_id)
        known.settled[request_id] = (request_digest, reply)
        known.octets += len(reply)
        self._until[peer, request_id] = now_ms + self._limits.keep_ms

    def give_up(self, peer: str, request_id: bytes) -> None:
        """Nothing was done: the same request may begin again. Raises NotBegun."""
        known, _ = self._take(peer, request_id)
        self._drop_if_empty(peer, known)

    def _known(self, known: _OfPeer, request_id: bytes, request_digest: bytes) -> Outcome | None:
        if request_id in known.settled:
            settled_digest, reply = known.settled[request_id]
            return Again(reply) if settled_digest == request_digest else Conflict()
        if request_id in known.begun:
            return InProgress() if known.begun[request_id] == request_digest else Conflict()
        return None

    def _is_full(self, known: _OfPeer) -> bool:
        count = len(known.begun) + len(known.settled)
        return count >= self._limits.max_per_peer or known.octets >= self._limits.max_octets

    def _take(self, peer: str, request_id: bytes) -> tuple[_OfPeer, bytes]:
        known = self._peers.get(peer)
        if known is None or request_id not in known.begun:
            raise NotBegun("no such request is in progress")
        return known, known.begun.pop(request_id)

    def _forget_until(self, now_ms: int) -> None:
        # Times grow along the table. One that does not, after the clock was set back, waits for those before it.
        while self._until:
            (peer, request_id), until = next(iter(self._until.items()))
            if until > now_ms:
                return
            del self._until[peer, request_id]
            known = self._peers[peer]
            known.octets -= len(known.settled.pop(request_id)[1])
            self._drop_if_empty(peer, known)

    def _drop_if_empty(self, peer: str, known: _OfPeer) -> None:
        if not known.begun and not known.settled:
            del self._peers[peer]
