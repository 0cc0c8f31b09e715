"""What is asked about the record in numbers and about what ends, and what is answered."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from services.ca.messages import DEFAULT_PAGE, MAX_PAGE

MAX_TOP: Final = 100
DEFAULT_TOP: Final = 10
MAX_WITHIN: Final = 34_560_000
DEFAULT_WITHIN: Final = 2_592_000

# What ends: the certificates of authorities, revocation lists, OCSP responders' certificates, the certificate that the
# API presents, and the certificates of everybody else.
ExpiryKind = Literal["root", "intermediate", "crl", "responder", "api", "leaf"]
ExpiryState = Literal["ok", "due", "overdue", "expired"]


class GetInventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what is on record, in numbers. `top`: how many values of each facet, those with most certificates first."""

    top: Annotated[int, Meta(ge=1, le=MAX_TOP)] = DEFAULT_TOP


class Tally(Struct, frozen=True, kw_only=True):
    """How many certificates on record have this value."""

    value: str
    certificates: int


class Expiring(Struct, frozen=True, kw_only=True):
    """How many certificates end within so many seconds from now, and how many of these nothing has renewed."""

    within_seconds: int
    certificates: int
    unrenewed: int


class IssuedDay(Struct, frozen=True, kw_only=True):
    """How many certificates were issued in the day that begins at `day`, UTC, also those deleted since."""

    day: int
    certificates: int


class RecordSize(Struct, frozen=True, kw_only=True):
    """What the record takes, in octets, and how it grows at the rate of the last week.

    `unused_octets` is room in its file. `full_at` is when it fills the disk; None when that is not known, or never.
    """

    octets: int
    unused_octets: int
    disk_free_octets: int
    rows_per_day: float
    octets_per_day: float
    full_at: int | None


class InventorySummary(Struct, frozen=True, kw_only=True):
    """What is on record. `certificates` counts all of them; `valid` and `expired` go by time, revoked or not.

    `retention_days` is 0 when nothing is deleted. `deleted` certificates were deleted; those that end at or after
    `complete_from` are all on record.
    """

    certificates: int
    valid: int
    expired: int
    revoked: int
    unfinished: int
    profiles: list[Tally]
    issuers: list[Tally]
    requesters: list[Tally]
    expiring: list[Expiring]
    issued: list[IssuedDay]
    record: RecordSize
    retention_days: int
    deleted: int
    complete_from: int


class GetExpiry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what ends and is to be renewed: all of the authority's own, and at most `limit` leaves.

    `within`: leaves that end at most so many seconds from now.
    """

    within: Annotated[int, Meta(ge=0, le=MAX_WITHIN)] = DEFAULT_WITHIN
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


class ExpiryItem(Struct, frozen=True, kw_only=True):
    """One thing that ends. `renew_at` is None for what nothing is to take the place of."""

    kind: ExpiryKind
    name: str
    serial: str | None
    not_after: int
    renew_at: int | None
    state: ExpiryState


class ExpiryReport(Struct, frozen=True, kw_only=True):
    """The authority's own items, the most urgent first; leaves that are due and nothing has renewed, soonest first.

    Leaves that expired are told for a day. `more`: there are, or may be, further leaves.
    """

    items: list[ExpiryItem]
    leaves: list[ExpiryItem]
    more: bool


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "inventory": (GetInventory, InventorySummary),
    "expiry": (GetExpiry, ExpiryReport),
}
