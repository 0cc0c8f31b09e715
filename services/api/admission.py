"""Who asks, and whether the request is let in now: three limits, each for its own kind of caller.

Rules:
- The bearer of a valid token is limited by the token. Nothing that others do can use that up.
- Who needs no token and shows none is limited by address, generously: whole logs are read that way.
- Who shows a token that is not valid, or asks without one for what needs one, or for what is not there, is limited by
  address to what a person does by mistake: this is the limit against guessing.
- The worker's own probe is not limited: others must not be able to make it fail.
- `now_ns` is monotonic nanoseconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from config.schema import Api
from services.api.limits import TokenBuckets, address_key, retry_after_seconds
from services.api.problems import Problem

PROBE: Final = "probe"
_MAX_LIMITED_ADDRESSES: Final = 4096
_MAX_HOLDERS: Final = 4096


class Caller(NamedTuple):
    """Who asks. `holder` is whose valid token was shown, `claims` tells that any token was shown."""

    address: str
    holder: str | None = None
    claims: bool = False


class Admission:
    """Counts the requests of all callers, over whichever interface they come."""

    def __init__(self, settings: Api) -> None:
        self._of_holders = TokenBuckets(settings.rate_limit, settings.rate_burst, _MAX_HOLDERS)
        self._of_public = TokenBuckets(settings.public_rate, settings.public_burst, _MAX_LIMITED_ADDRESSES)
        self._of_others = TokenBuckets(settings.unauthorized_rate, settings.unauthorized_burst, _MAX_LIMITED_ADDRESSES)

    def admit(self, caller: Caller, *, public: bool, now_ns: int) -> None:
        """Count one request. `public` tells that its route needs no token. Raises Problem `rate-limited`."""
        if caller.holder == PROBE:
            return
        if caller.holder is not None:
            wait_ns, whose = self._of_holders.take(caller.holder, now_ns), "with this token"
        elif public and not caller.claims:
            wait_ns, whose = self._of_public.take(address_key(caller.address), now_ns), "from this address"
        else:
            wait_ns = self._of_others.take(address_key(caller.address), now_ns)
            whose = "without a valid token from this address"
        if wait_ns:
            raise Problem("rate-limited", f"too many requests {whose}", retry_after=retry_after_seconds(wait_ns))
