"""What the certificate authority is asked, what it answers, and how it refuses.

The only file of this service that another service may import. Rules:
- Times are whole seconds since the Unix epoch, lifetimes are seconds, serial numbers are lower-case hexadecimal with
  two digits for each octet (as `openssl x509 -serial` prints them, in lower case), certificates are PEM text.
- The remote methods are `issue`, `get`, `list` and `roots`; METHODS says which type each takes and gives.
- A refusal means that the same request will be refused again: its author must change it. What the authority cannot do
  now (a full disk, an expired issuer) is `services.errors.Unavailable`: nothing was promised, it may be sent again.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MAX_CSR_BYTES: Final = 65_536
MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
MAX_CURSOR_CHARACTERS: Final = 256
MAX_REQUESTER_CHARACTERS: Final = 256

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

# What a stored certificate can be asked for by: computed from its last valid second and the present time.
CertificateStatus = Literal["valid", "expired"]


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


class GetCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for one certificate by its serial number."""

    serial: str


class ListCertificates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of what was issued. All filters given must hold.

    Newest first; with `status` or `expires_before` the order is by expiry, soonest first. `name` is compared with whole
    names, without regard to case. `cursor` is the `next_cursor` of the page before, with the same filters.
    """

    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    name: str | None = None
    profile: str | None = None
    status: CertificateStatus | None = None
    expires_before: int | None = None


class CertificatePage(Struct, frozen=True, kw_only=True):
    """`next_cursor` is None on the last page, and only there: a page may hold fewer than `limit` certificates."""

    certificates: list[Certificate]
    next_cursor: str | None


class GetRoots(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the trust anchors."""


class Roots(Struct, frozen=True, kw_only=True):
    """The trust anchors, PEM, the one in use first."""

    certificates: list[str]


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "issue": (IssueRequest, Certificate),
    "get": (GetCertificate, Certificate),
    "list": (ListCertificates, CertificatePage),
    "roots": (GetRoots, Roots),
}


class Refusal(Exception):
    """The request is at fault. `field` names the part of the request, `detail` tells its author what to change."""

    counts_as: Final = "rejected"

    def __init__(self, kind: RefusalKind, field: str | None, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if field is None else f"{kind}: {field}: {detail}")
        self.kind: RefusalKind = kind
        self.field = field
        self.detail = detail
