"""How fast the record grows, and when it fills the disk. Pure.

Rules:
- The rate is that of the last week, or of the time since the first certificate if that is less: a burst of an hour is
  no trend. What retention is about to delete is subtracted: fed by a steady stream the record stands still.
- A row takes what all take on the average: the file without its unused pages, divided by the rows.
- Unused pages of the file are room: SQLite fills them before the file grows.
- No forecast is made from less than a day or fewer than LEAST_ROWS rows: the empty file's own size would be most of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SECONDS_PER_DAY: Final = 86_400
WINDOW_DAYS: Final = 7
LEAST_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the record takes. Sizes are in octets; `unused` is what its file holds in pages without content."""

    rows: int
    used: int
    unused: int
    disk_free: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Per day, and how long until the disk is full, in seconds: None when that is not known, or never."""

    rows_per_day: float
    octets_per_day: float
    full_after: float | None


def growth(usage: Usage, issued_on: Mapping[int, int], first_day: int, leaving: int, now: int) -> Growth:
    """How the record grows. `now` is in seconds since the Unix epoch.

    `issued_on` has the numbers of certificates issued by day since the Unix epoch, in UTC; `first_day` is the first day
    with one; `leaving` is how many rows retention deletes within the next day.
    """
    today = now // SECONDS_PER_DAY
    since = max(first_day, today - WINDOW_DAYS)
    issued = sum(number for day, number in issued_on.items() if since <= day <= today)
    if not issued or not usage.rows:
        return Growth(0.0, 0.0, None)
    days = now / SECONDS_PER_DAY - since
    rows_per_day = issued / max(days, 1.0) - leaving
    octets_per_day = rows_per_day * usage.used / usage.rows
    if days < 1.0 or usage.rows < LEAST_ROWS or octets_per_day <= 0:
        return Growth(rows_per_day, octets_per_day, None)
    return Growth(rows_per_day, octets_per_day, (usage.disk_free + usage.unused) / octets_per_day * SECONDS_PER_DAY)
