"""What the certificate authority is asked, what it answers, and how it refuses: issuing, and what is common to all.

What else it is asked is in the `messages.py` of each part. Of this service, another one may import these files and no
other. Rules, for all of them:
- Times are whole seconds since the Unix epoch, lifetimes are seconds, serial numbers are lower-case hexadecimal with
  two digits for each octet (as `openssl x509 -serial` prints them, in lower case), certificates are PEM text.
- The remote methods are the names in METHODS, which says which type each takes and gives; `service.py` joins them.
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
MAX_SIGNATURE_OCTETS: Final = 8_192

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
    "bad-reason",  # not a reason of RFC 5280, section 5.3.1, that certificates are revoked for here
    "already-revoked",
    "unauthorized-revocation",  # the proof is not a fresh signature by the key of the certificate
]

# What a stored certificate can be asked for by: whether it is revoked, else its last valid second and the present time.
CertificateStatus = Literal["valid", "expired", "revoked"]

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
