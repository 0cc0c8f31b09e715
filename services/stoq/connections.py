"""Which QUIC connections are let in: what bounds the memory and work that strangers can cause. Pure.

Rules:
- `now_ns` is monotonic nanoseconds. A connection is known by its id: it arrives, is established when its handshake is
  complete, and is closed. One that is not established `handshake_ns` after it arrived is overdue; whoever asks for the
  overdue ones closes them. Until then they count.
- The address of an arrival is `validated` when it returned the token of a Retry (RFC 9000, section 8.1.2); until then
  anybody may have written it. A Retry costs no state, and takes no token of the rate.
- A Retry is wanted always, if so set, and while handshakes in progress are many: from `retry_from` of their limit on,
  until they are down to `retry_until` of it. It is also what an arrival gets that is not validated and would be dropped
  for its address: it may be another's doing. Only validated ones are dropped for that.
- Unless it is set to always, who forges the address of another can hold that address's handshakes until they are
  overdue. So it is set to always wherever strangers can send.
- An address is an IPv4 address or the /64 of an IPv6 address: a host picks addresses in its /64 as it likes (RFC 8981).
- What is kept is bounded by `max_connections`: one entry for each, and for each one's address.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

NANOSECONDS: Final = 1_000_000_000
_IPV6_HOST_BITS: Final = 64

RetryReason = Literal["always", "many-handshakes", "address"]
DropReason = Literal[
    "known",  # a connection with this id is there
    "connections",
    "connections-of-address",
    "handshakes",
    "handshakes-of-address",
    "rate",
]


@dataclass(frozen=True, slots=True)
class Accept:
    """It is let in, and counts from now on."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It is asked to prove its address, and does not count."""

    reason: RetryReason


@dataclass(frozen=True, slots=True)
class Drop:
    """It gets no answer, and does not count."""

    reason: DropReason


Decision = Accept | Retry | Drop


@dataclass(frozen=True, slots=True)
class Limits:
    """How many, how fast, and from when on addresses are validated. `rate` is new connections a second."""

    max_connections: int
    max_connections_of_address: int
    max_handshakes: int
    max_handshakes_of_address: int
    handshake_ns: int
    rate: float
    burst: int
    always_retry: bool = True
    retry_from: float = 0.5
    retry_until: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.max_handshakes_of_address <= self.max_handshakes <= self.max_connections:
            raise ValueError("handshakes are limited to at least 1, and to no more than connections")
        if not 1 <= self.max_connections_of_address <= self.max_connections:
            raise ValueError("an address is limited to at least 1 connection, and to no more than there may be")
        if self.handshake_ns < 1 or not self.rate > 0 or self.burst < 1:
            raise ValueError("a handshake has time, and a rate is positive with a burst of at least 1")
        if not 0 <= self.retry_until < self.retry_from <= 1:
            raise ValueError("0 <= retry_until < retry_from <= 1")


class Connections:
    """Counts the connections of one listening socket."""

    __slots__ = ("_addresses", "_full_at", "_handshakes", "_handshakes_of", "_interval_ns", "_limits", "_many", "_of")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._interval_ns = max(1, round(NANOSECONDS / limits.rate))
        self._full_at = 0  # when the bucket of the rate is full again (ITU-T I.371, annex A)
        self._many = False
        self._addresses: dict[bytes, str] = {}
        self._handshakes: OrderedDict[bytes, int] = OrderedDict()  # when each is overdue, which only grows
        self._of: Counter[str] = Counter()
        self._handshakes_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def handshakes(self) -> int:
        """How many handshakes are in progress."""
        return len(self._handshakes)

    @property
    def many_handshakes(self) -> bool:
        """Whether addresses are validated because handshakes are many."""
        return self._many

    @property
    def next_overdue_ns(self) -> int | None:
        """When the first handshake will be overdue, if one is in progress."""
        return next(iter(self._handshakes.values()), None)

    def arrive(self, connection: bytes, address: str, now_ns: int, *, validated: bool) -> Decision:
        """Decide on the first packet of a connection; `connection` is the id by which it will be known."""
        key = address_key(address)
        refused = self._refused(connection, key, validated=validated)
        if refused is not None:
            return refused
        full_at = max(self._full_at, now_ns)
        if full_at - now_ns > self._interval_ns * (self._limits.burst - 1):
            return Drop("rate")
        self._full_at = full_at + self._interval_ns
        self._addresses[connection] = key
        latest = next(reversed(self._handshakes.values()), 0)
        self._handshakes[connection] = max(latest, now_ns + self._limits.handshake_ns)
        self._of[key] += 1
        self._handshakes_of[key] += 1
        self._weigh()
        return Accept()

    def establish(self, connection: bytes, now_ns: int) -> bool:
        """Note that a handshake is complete. False if it is overdue or not in progress: it is then to be closed."""
        overdue_at = self._handshakes.get(connection)
        if overdue_at is None or overdue_at <= now_ns:
            return False
        self._end_handshake(connection)
        return True

    def close(self, connection: bytes) -> None:
        """Note that a connection is gone. One that is not known was gone before."""
        if connection in self._handshakes:
            self._end_handshake(connection)
        key = self._addresses.pop(connection, None)
        if key is not None:
            _count_down(self._of, key)

    def overdue(self, now_ns: int) -> list[bytes]:
        """The connections whose handshakes took too long, which are gone with this; the caller closes them."""
        found: list[bytes] = []
        for connection, overdue_at in self._handshakes.items():
            if overdue_at > now_ns:
                break
            found.append(connection)
        for connection in found:
            self.close(connection)
        return found

    def _refused(self, connection: bytes, key: str, *, validated: bool) -> Retry | Drop | None:
        limits = self._limits
        if connection in self._addresses:
            return Drop("known")
        if len(self._addresses) >= limits.max_connections:
            return Drop("connections")
        if not validated and (limits.always_retry or self._many):
            return Retry("always" if limits.always_retry else "many-handshakes")
        if len(self._handshakes) >= limits.max_handshakes:
            return Drop("handshakes")
        reason = self._of_address(key)
        if reason is None:
            return None
        return Drop(reason) if validated else Retry("address")

    def _of_address(self, key: str) -> DropReason | None:
        if self._of[key] >= self._limits.max_connections_of_address:
            return "connections-of-address"
        if self._handshakes_of[key] >= self._limits.max_handshakes_of_address:
            return "handshakes-of-address"
        return None

    def _end_handshake(self, connection: bytes) -> None:
        del self._handshakes[connection]
        _count_down(self._handshakes_of, self._addresses[connection])
        self._weigh()

    def _weigh(self) -> None:
        count, limits = len(self._handshakes), self._limits
        if count >= limits.retry_from * limits.max_handshakes:
            self._many = True
        elif count <= limits.retry_until * limits.max_handshakes:
            self._many = False


def address_key(address: str) -> str:
    """The key under which an address is counted. An IPv4-mapped address is the IPv4 address (RFC 4291, 2.5.5.2)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)) + "/64"


def _count_down(counter: Counter[str], key: str) -> None:
    # A count of 0 is not kept, so that nothing remains of an address that has left.
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
