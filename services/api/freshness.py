"""How long an answer may be kept by caches, and whether a client has it already. Pure; times are seconds since 1970.

Rules:
- What is signed for a span of time may be kept until its nextUpdate and not a second longer (RFC 5019, section 6.2).
- A cache that holds it beyond that must ask again: `must-revalidate`. It must not change it: `no-transform`.
- What has no span, or is past it, is not kept by anybody.
- If-None-Match is compared weakly (RFC 9110, section 13.1.2).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# More than this is no client's list; the header size limit alone would allow thousands.
_MAX_ENTITY_TAGS: Final = 64
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31, what X.509 and HTTP dates can tell


def caching_headers(tag: str, this_update: int, next_update: int, now: float) -> dict[str, str]:
    """The header fields of something that is valid from `this_update` to `next_update`; `tag` names this version.

    `tag` is visible ASCII without quotes. Nothing is said beside the tag when there is no time left.
    """
    headers = {"ETag": f'"{tag}"'}
    seconds = int(min(next_update, _LAST_SECOND) - now)
    if this_update <= 0 or seconds <= 0:
        return headers
    return headers | {
        "Cache-Control": f"public, max-age={seconds}, no-transform, must-revalidate",
        "Expires": http_date(next_update),
        "Last-Modified": http_date(this_update),
    }


def is_known(if_none_match: str, tag: str) -> bool:
    """Whether a client that sent If-None-Match has the version `tag`."""
    if if_none_match.strip() == "*":
        return True
    found = _ENTITY_TAG.findall(if_none_match)[:_MAX_ENTITY_TAGS]
    return f'"{tag}"' in found


def http_date(seconds: int) -> str:
    """As `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7)."""
    return format_datetime(datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC), usegmt=True)
