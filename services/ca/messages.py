"""What the certificate authority is asked, what it answers, and how it refuses.

The only file of this service that another service may import. Rules:
- Times are whole seconds since the Unix epoch, lifetimes are seconds, serial numbers are lower-case hexadecimal with
  two digits for each octet (as `openssl x509 -serial` prints them, in lower case), certificates are PEM text.
- The remote methods are the names in METHODS, which says which type each takes and gives.
- A refusal means that the same request will be refused again: its author must change it. What the authority cannot do
  now (a full disk, an expired issuer) is `services.errors.Unavailable`: nothing was promised, it may be sent again.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MAX_CSR_BYTES: Final = 65_536
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
MAX_CURSOR_CHARACTERS: Final = 512
MAX_REQUESTER_CHARACTERS: Final = 256
MAX_TOP: Final = 100
DEFAULT_TOP: Final = 10
MAX_WITHIN: Final = 34_560_000
DEFAULT_WITHIN: Final = 2_592_000

# The requester of the API's own certificate, which no list of allowed or denied names applies to. The API never gives
# this name to a request of a client.
OWN_API: Final = "service:api"

RefusalKind = Literal[
    "malformed",  # not a certificate request, not a cursor, not a serial number
    "bad-signature",  # the request is not signed by the key it carries (RFC 2986, section 3)
    "bad-key",  # a key type, size or value that is not certified here
    "forbidden-name",  # a name that is invalid, not allowed by settings, or not allowed by the profile
    "unknown-profile",
    "bad-validity",  # a lifetime that is not positive or is above what settings or the issuer allow
    "not-found",
]

# What a stored certificate can be asked for by: whether it is revoked, else its last valid second and the present time.
CertificateStatus = Literal["valid", "expired", "revoked"]

# What ends: the certificates of authorities, revocation lists, OCSP responders' certificates, the certificate that the
# API presents, and the certificates of everybody else.
ExpiryKind = Literal["root", "intermediate", "crl", "responder", "api", "leaf"]
ExpiryState = Literal["ok", "due", "overdue", "expired"]

# RFC 5280, section 5.3.1. A revocation is for ever: certificateHold and removeFromCRL do not exist here.
RevocationReason = Literal[
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
]


class IssueRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for one certificate. `csr` is PKCS #10 (RFC 2986), PEM or DER; None means the default of the settings."""

    csr: Annotated[bytes, Meta(max_length=2 * MAX_CSR_BYTES)]
    profile: str | None = None
    validity_seconds: int | None = None
    requester: Annotated[str, Meta(max_length=MAX_REQUESTER_CHARACTERS)]


class Certificate(Struct, frozen=True, kw_only=True):
    """One certificate that was issued. `chain` holds the intermediates, issuer first, without the root."""

    serial: str
    certificate: str
    chain: list[str]
    not_before: int
    not_after: int
    profile: str
    subject: str
    names: list[str]
    issued_at: int
    status: CertificateStatus
    revoked_at: int | None = None
    revocation_reason: RevocationReason | None = None


class GetCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for one certificate by its serial number."""

    serial: str


class ListCertificates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of what was issued. All filters given must hold; `after` includes the time given, `before` does not.

    `name` is compared with whole names, `search` is a DNS name and finds all below it too, both without regard to case.
    Newest first; but a `search` is in the order of names, and without `name`, `search` and `requester` what is asked
    for by expiry, or as valid or expired, is in the order of expiry, soonest first, and what is revoked in the order of
    revocation, newest first. `cursor` is the `next_cursor` of the page before, with the same filters.
    """

    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    name: str | None = None
    search: str | None = None
    requester: str | None = None
    issuer: str | None = None
    profile: str | None = None
    status: CertificateStatus | None = None
    expires_after: int | None = None
    expires_before: int | None = None
    issued_after: int | None = None
    issued_before: int | None = None


class CertificatePage(Struct, frozen=True, kw_only=True):
    """`next_cursor` is None on the last page, and only there: a page may hold fewer than `limit` certificates."""

    certificates: list[Certificate]
    next_cursor: str | None


class GetRoots(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the trust anchors."""


class Roots(Struct, frozen=True, kw_only=True):
    """The trust anchors, PEM, the one in use first."""

    certificates: list[str]


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
    "issue": (IssueRequest, Certificate),
    "get": (GetCertificate, Certificate),
    "list": (ListCertificates, CertificatePage),
    "roots": (GetRoots, Roots),
    "inventory": (GetInventory, InventorySummary),
    "expiry": (GetExpiry, ExpiryReport),
}


class Refusal(Exception):
    """The request is at fault. `field` names the part of the request, `detail` tells its author what to change."""

    counts_as: Final = "rejected"

    def __init__(self, kind: RefusalKind, field: str | None, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if field is None else f"{kind}: {field}: {detail}")
        self.kind: RefusalKind = kind
        self.field = field
        self.detail = detail
