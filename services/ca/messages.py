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
MAX_CURSOR_CHARACTERS: Final = 256
MAX_REQUESTER_CHARACTERS: Final = 256
MAX_SIGNATURE_OCTETS: Final = 8_192
MAX_OCSP_REQUEST_OCTETS: Final = 4_096  # a longer one is answered `malformedRequest`
MAX_CRL_PART_OCTETS: Final = 524_288
MAX_PARTITIONS: Final = 256

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
    """One page of what was issued. All filters given must hold.

    Newest first; with `status` or `expires_before` the order is by expiry, soonest first; with the status `revoked` it
    is by revocation, latest first. `name` is compared with whole names, without regard to case. `cursor` is the
    `next_cursor` of the page before, with the same filters.
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


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "issue": (IssueRequest, Certificate),
    "get": (GetCertificate, Certificate),
    "list": (ListCertificates, CertificatePage),
    "roots": (GetRoots, Roots),
    "revoke": (Revoke, Revoked),
    "crl": (GetCrl, CrlDocument),
    "ocsp": (OcspQuery, OcspAnswer),
    "issuer_certificate": (GetIssuerCertificate, IssuerCertificate),
}


class Refusal(Exception):
    """The request is at fault. `field` names the part of the request, `detail` tells its author what to change."""

    counts_as: Final = "rejected"

    def __init__(self, kind: RefusalKind, field: str | None, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if field is None else f"{kind}: {field}: {detail}")
        self.kind: RefusalKind = kind
        self.field = field
        self.detail = detail
