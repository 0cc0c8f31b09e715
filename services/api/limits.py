"""Rate limits: token buckets for a bounded number of keys.

Rules:
- A bucket is one integer, the time at which it will be full again (the virtual scheduling form of the leaky bucket,
  ITU-T I.371, annex A). A full bucket is the same as no bucket, so forgetting one is never unfair to its owner.
- `now_ns` is monotonic nanoseconds and an argument.
- A refused request takes nothing: waiting as long as it is told is always enough.
- When there are more keys than may be kept, the key that was used longest ago is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

NANOSECONDS: Final = 1_000_000_000
# A host gets a whole /64 and picks addresses in it as it likes (RFC 8981), so that is what a limit must count.
_IPV6_HOST_BITS: Final = 64


class TokenBuckets:
    """Allows `burst` requests at once and `rate` a second after that, for each key."""

    def __init__(self, rate: float, burst: int, max_keys: int) -> None:
        if rate <= 0 or burst < 1 or max_keys < 1:
            raise ValueError("a rate limit needs a positive rate, a burst of at least 1 and room for at least 1 key")
        self._interval_ns = max(1, round(NANOSECONDS / rate))
        self._tolerance_ns = self._interval_ns * (burst - 1)
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now_ns: int) -> int:
        """Take one token. Returns 0 if there was one, else the nanoseconds until there will be."""
        full_at = max(self._full_at.get(key, now_ns), now_ns)
        wait_ns = full_at - now_ns - self._tolerance_ns
        if wait_ns > 0:
            self._full_at.move_to_end(key)
            return wait_ns
        self._full_at[key] = full_at + self._interval_ns
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._max_keys:
            self._full_at.popitem(last=False)
        return 0


def retry_after_seconds(wait_ns: int) -> int:
    """What Retry-After says: whole seconds, rounded up (RFC 9110, section 10.2.3)."""
    return max(1, -(-wait_ns // NANOSECONDS))


def address_key(address: str) -> str:
    """The key under which a peer address is limited: an IPv4 address, or the /64 of an IPv6 address.

    An IPv4 client of a dual-stack socket counts as the IPv4 address that it is (RFC 4291, section 2.5.5.2).
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS)) + "/64"
