"""What the certificate authority is asked, what it answers, and how it refuses.

The only file of this service that another service may import. Rules:
- Times are whole seconds since the Unix epoch, lifetimes are seconds, serial numbers are lower-case hexadecimal with
  two digits for each octet (as `openssl x509 -serial` prints them, in lower case), certificates are PEM text.
- The remote methods are the names in METHODS, which says which type each takes and gives.
- What is published over plain HTTP (revocation lists, OCSP answers, issuer certificates) is DER, as it is served.
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
MAX_OCSP_REQUEST_OCTETS: Final = 4_096  # a longer one is answered `malformedRequest`
MAX_CRL_PART_OCTETS: Final = 524_288
MAX_PARTITIONS: Final = 256
MAX_FINDINGS: Final = 500
EVIDENCE_FORMAT: Final = "trustchain-evidence-v1"
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
    "bad-reason",  # not a reason of RFC 5280, section 5.3.1, that certificates are revoked for here
    "already-revoked",
    "unauthorized-revocation",  # the proof is not a fresh signature by the key of the certificate
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


# What contradicts what must hold, once it was found: see `contradictions.py`.
FindingKind = Literal[
    "unlogged",  # a certificate that should be in the log, and is not
    "entry_differs",  # the log has something else at the place that the certificate names
    "sct_invalid",  # its signed certificate timestamp is not one by the log for this certificate
    "unrecorded",  # signed by one of our issuers, and not on record
    "serial_twice",  # one serial number, two contents
    "leaf_twice",  # one place in the log, two certificates
    "row_differs",  # a certificate that is not what its row says
    "signature_invalid",  # a certificate that its issuer did not sign
    "issuer_unknown",  # a row of an issuer that is not here
    "revocation_untold",  # on record, and missing in a list that was signed later
    "revocation_unrecorded",  # in a list, and not on record
    "revocation_differs",  # another time or reason in a list than on record
    "crl_invalid",  # a list that nobody here signed, that cannot be read, or whose number went back
    "ocsp_differs",  # an answer that says something else than the record
    "log_damaged",  # a tile, root or signature that does not fit
    "log_shrank",  # a tree that is smaller than what was seen of it
    "log_forked",  # a tree that is not the continuation of what was seen of it
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


class RevocationProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That whoever asks for a revocation has the private key of the certificate: see `revocation.signed_request`."""

    signed_at: int
    signature: Annotated[bytes, Meta(min_length=1, max_length=MAX_SIGNATURE_OCTETS)]


class Revoke(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Revoke one certificate, for ever. Without `proof` the asker vouches for the requester's right to do so."""

    serial: str
    reason: str = "unspecified"
    requester: Annotated[str, Meta(max_length=MAX_REQUESTER_CHARACTERS)]
    proof: RevocationProof | None = None


class Revoked(Struct, frozen=True, kw_only=True):
    """The revocation is durable. `crl_number` is the CRL that tells it; None while signing or publishing lags."""

    serial: str
    revoked_at: int
    reason: RevocationReason
    crl_number: int | None


class GetCrl(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for octets of the newest CRL of one partition of one issuer (its serial number), from `offset` on."""

    issuer: str
    partition: Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS)]
    offset: Annotated[int, Meta(ge=0)] = 0


class CrlDocument(Struct, frozen=True, kw_only=True):
    """At most MAX_CRL_PART_OCTETS of a CRL of `size` octets, from the offset asked for on.

    Parts belong together when their `number` is the same: when it changes, begin again at offset 0.
    """

    der: bytes
    size: int
    number: int
    this_update: int
    next_update: int


class OcspQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OCSPRequest (RFC 6960, section 4.1.1), DER, whatever it holds."""

    request: Annotated[bytes, Meta(max_length=4 * MAX_OCSP_REQUEST_OCTETS)]


class OcspAnswer(Struct, frozen=True, kw_only=True):
    """An OCSPResponse (RFC 6960, section 4.2.1). The times are 0 when it is an error response, which is not cached."""

    der: bytes
    this_update: int
    next_update: int
    produced_at: int


class GetIssuerCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate that issues, or issued, certificates here, by its serial number."""

    issuer: str


class IssuerCertificate(Struct, frozen=True, kw_only=True):
    """One certificate of an authority."""

    der: bytes


class GetEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for all that proves one certificate, by its serial number."""

    serial: str


class LoggedEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a certificate is in the log (RFC 6962). `timestamp` is in milliseconds since the Unix epoch.

    `scts` are SignedCertificateTimestamp structures as the certificate embeds them, `signature` is that of the tree
    head, DigitallySigned; `checkpoint` is the same head as a signed note (C2SP tlog-checkpoint).
    """

    log_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    scts: Annotated[list[bytes], Meta(min_length=1, max_length=8)]
    leaf_index: Annotated[int, Meta(ge=0, lt=2**40)]
    audit_path: Annotated[list[Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=40)]
    tree_size: Annotated[int, Meta(ge=1, lt=2**40)]
    timestamp: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    root_hash: Annotated[bytes, Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, Meta(min_length=1, max_length=1024)]
    checkpoint: Annotated[str, Meta(min_length=1, max_length=4096)]


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that proves one certificate to somebody who has the root and the key of the log, and nothing else.

    `chain` leads from the certificate to the root, PEM. `log` is None for a profile whose certificates are not logged.
    `ocsp` is an OCSPResponse (RFC 6960). `quorum` is the place of the certificate of a quorum, once there is one.
    `seal` is the issuer's signature over all of this with an empty seal: see `evidence.py`.
    """

    format: Literal["trustchain-evidence-v1"]
    serial: Annotated[str, Meta(pattern="^[0-9a-f]{2,40}$")]
    profile: Annotated[str, Meta(min_length=1, max_length=64)]
    issued_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    composed_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    chain: Annotated[list[Annotated[str, Meta(max_length=MAX_CSR_BYTES)]], Meta(min_length=2, max_length=8)]
    log: LoggedEvidence | None
    ocsp: Annotated[bytes, Meta(min_length=1, max_length=MAX_CSR_BYTES)]
    quorum: None
    seal: Annotated[bytes, Meta(max_length=MAX_SIGNATURE_OCTETS)]


class ListFindings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what contradicts what must hold."""


class OpenFinding(Struct, frozen=True, kw_only=True):
    """One finding that still stands. `digests` are SHA-256 of the octets that it is about, hexadecimal, by name."""

    kind: FindingKind
    subject: str
    text: str
    digests: dict[str, str]
    found_at: int
    seen_at: int


class Findings(Struct, frozen=True, kw_only=True):
    """The open findings, the latest first, at most MAX_FINDINGS; `count` is how many there are.

    The log was followed up to the entry `log_position` of `log_size`; the whole record was last compared at `swept_at`,
    None before the first time.
    """

    findings: list[OpenFinding]
    count: int
    log_position: int
    log_size: int
    swept_at: int | None


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
    "revoke": (Revoke, Revoked),
    "crl": (GetCrl, CrlDocument),
    "ocsp": (OcspQuery, OcspAnswer),
    "issuer_certificate": (GetIssuerCertificate, IssuerCertificate),
    "evidence": (GetEvidence, Evidence),
    "findings": (ListFindings, Findings),
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
