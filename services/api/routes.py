"""The route table of HTTPS: every path, its methods, what they take and what they answer.

Rules:
- The server dispatches by this table and the OpenAPI document is generated from it, so the two cannot disagree.
- Here are the paths below /v1/; those below /ct/ are in routes_ct. Plain HTTP has a table of its own, routes_status.
- Query parameters use UNSET for "not given": with None, the text `null` in a URL would mean the same.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from services.api.parsing import JSON
from services.api.routes_ct import CT_ROUTES
from services.api.routing import Route
from services.ca.evidence.messages import Evidence
from services.ca.inventory.messages import (
    DEFAULT_TOP,
    DEFAULT_WITHIN,
    MAX_TOP,
    MAX_WITHIN,
    ExpiryReport,
    InventorySummary,
)
from services.ca.messages import (
    DEFAULT_PAGE,
    MAX_CURSOR_CHARACTERS,
    MAX_PAGE,
    MAX_REQUESTER_CHARACTERS,
    MAX_SIGNATURE_OCTETS,
    Certificate,
    CertificatePage,
    CertificateStatus,
    Roots,
)
from services.ca.reconciliation.messages import (
    MAX_REASON_CHARACTERS,
    MAX_SUBJECT_CHARACTERS,
    AcceptedFindings,
    FindingKind,
    Findings,
    FindingState,
)
from services.ca.status.messages import Revoked

PEM_CHAIN: Final = "application/pem-certificate-chain"  # RFC 8555, section 9.1
# A DNS name has up to 253 characters, an e-mail address 254 (RFC 5321, section 4.5.3.1), a URI more.
_MAX_NAME_CHARACTERS: Final = 1024
_MAX_EPOCH_SECONDS: Final = 253_402_300_799  # 9999-12-31, the last day of X.509 (RFC 5280, section 4.1.2.5)
_Time = Annotated[int, Meta(ge=0, le=_MAX_EPOCH_SECONDS, description="Seconds since the Unix epoch")]
_Serial = Annotated[str, Meta(pattern="^[0-9a-f]{1,40}$", description="Serial number, lower-case hexadecimal")]


class SerialPath(Struct, frozen=True, forbid_unknown_fields=True):
    """Which certificate."""

    serial: _Serial


class CertificateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate. Without `profile` or `validity_seconds` the defaults of the settings hold."""

    csr: Annotated[str, Meta(description="PKCS #10 certificate request (RFC 2986), PEM")]
    profile: Annotated[str, Meta(min_length=1, max_length=64, description="Name of a profile")] | None = None
    validity_seconds: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Lifetime in seconds")] | None = None


class OwnersProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the sender has the private key of the certificate. `signature` is over four lines, the last one ended too.

    `TrustChain: revoke a certificate, version 1`, the serial number, the reason, and `signed_at`; by RSA with PKCS #1
    v1.5 and SHA-256, by ECDSA with SHA-256, or by Ed25519.
    """

    signed_at: Annotated[int, Meta(ge=0, le=_MAX_EPOCH_SECONDS, description="Seconds since the Unix epoch")]
    signature: Annotated[bytes, Meta(min_length=1, max_length=MAX_SIGNATURE_OCTETS, description="Base64")]


class RevocationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Revoke a certificate for ever. With `proof` no token is needed, and the proof counts, not the token."""

    reason: Annotated[str, Meta(max_length=64, description="RFC 5280, section 5.3.1")] = "unspecified"
    proof: OwnersProof | None = None


class CertificateQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which certificates to list. All filters given must hold."""

    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS, description="From the page before")] | UnsetType = (
        UNSET
    )
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most this many")] = DEFAULT_PAGE
    name: Annotated[str, Meta(max_length=_MAX_NAME_CHARACTERS, description="A whole subject name")] | UnsetType = UNSET
    search: Annotated[str, Meta(max_length=254, description="A DNS name, with all below it")] | UnsetType = UNSET
    requester: Annotated[str, Meta(max_length=MAX_REQUESTER_CHARACTERS, description="Who asked for it")] | UnsetType = (
        UNSET
    )
    issuer: _Serial | UnsetType = UNSET
    profile: Annotated[str, Meta(max_length=64, description="Name of a certificate profile")] | UnsetType = UNSET
    status: CertificateStatus | UnsetType = UNSET
    expires_after: _Time | UnsetType = UNSET
    expires_before: _Time | UnsetType = UNSET
    issued_after: _Time | UnsetType = UNSET
    issued_before: _Time | UnsetType = UNSET


class FindingsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which findings to list."""

    state: FindingState = "open"


class FindingsAcceptance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accept what is known and lived with: all open findings of a kind, or the one about a subject.

    `count` has to be how many are open: nothing is accepted when there are more or fewer.
    """

    kind: FindingKind
    subject: (
        Annotated[str, Meta(max_length=MAX_SUBJECT_CHARACTERS, description="As it stands in the list")] | UnsetType
    ) = UNSET
    count: Annotated[int, Meta(ge=1, description="How many are meant")] = 1
    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_REASON_CHARACTERS,
            pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",
            description="Why; kept with the finding",
        ),
    ]


class InventoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the inventory to tell."""

    top: Annotated[int, Meta(ge=1, le=MAX_TOP, description="At most this many values of each kind")] = DEFAULT_TOP


class ExpiryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which leaves to tell beside the authority's own."""

    within: Annotated[int, Meta(ge=0, le=MAX_WITHIN, description="Ending within so many seconds")] = DEFAULT_WITHIN
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most this many")] = DEFAULT_PAGE


_V1: Final[tuple[Route, ...]] = (
    Route(
        name="issue_certificate",
        method="POST",
        path="/v1/certificates",
        summary="Issue a certificate for a certificate request",
        token=True,
        status=201,
        reply=Certificate,
        body=CertificateRequest,
        refusals=(
            "bad-json",
            "malformed",
            "bad-signature",
            "forbidden-name",
            "body-timeout",
            "body-too-large",
            "wrong-media-type",
            "bad-field",
            "bad-key",
            "unknown-profile",
            "bad-validity",
        ),
    ),
    Route(
        name="list_certificates",
        method="GET",
        path="/v1/certificates",
        summary="List the certificates that were issued",
        token=True,
        status=200,
        reply=CertificatePage,
        query_parameters=CertificateQuery,
        refusals=("malformed", "bad-field"),
    ),
    Route(
        name="get_certificate",
        method="GET",
        path="/v1/certificates/{serial}",
        summary="Get one certificate with its chain",
        token=True,
        status=200,
        reply=Certificate,
        path_parameters=SerialPath,
        media_types=(JSON, PEM_CHAIN),
        refusals=("malformed", "not-found", "bad-field"),
    ),
    Route(
        name="revoke_certificate",
        method="POST",
        path="/v1/certificates/{serial}/revoke",
        summary="Revoke a certificate, for ever",
        token=False,
        proof=True,
        status=200,
        reply=Revoked,
        body=RevocationRequest,
        path_parameters=SerialPath,
        refusals=(
            "bad-json",
            "malformed",
            "unauthorized",
            "unauthorized-revocation",
            "not-found",
            "body-timeout",
            "already-revoked",
            "body-too-large",
            "wrong-media-type",
            "bad-field",
            "bad-reason",
        ),
    ),
    Route(
        name="get_inventory",
        method="GET",
        path="/v1/inventory",
        summary="Count what is on record, what ends soon, and how the record grows",
        token=True,
        status=200,
        reply=InventorySummary,
        query_parameters=InventoryQuery,
        refusals=("bad-field",),
    ),
    Route(
        name="get_expiry",
        method="GET",
        path="/v1/expiry",
        summary="List what ends and is to be renewed",
        token=True,
        status=200,
        reply=ExpiryReport,
        query_parameters=ExpiryQuery,
        refusals=("bad-field",),
    ),
    Route(
        name="get_evidence",
        method="GET",
        path="/v1/certificates/{serial}/evidence",
        summary="Get one file that proves a certificate without any server",
        token=True,
        status=200,
        reply=Evidence,
        path_parameters=SerialPath,
        refusals=("malformed", "not-found", "bad-field"),
    ),
    Route(
        name="list_findings",
        method="GET",
        path="/v1/findings",
        summary="List what contradicts between record, log and revocation lists",
        token=True,
        status=200,
        reply=Findings,
        query_parameters=FindingsQuery,
        refusals=("bad-field",),
    ),
    Route(
        name="accept_findings",
        method="POST",
        path="/v1/findings/accept",
        summary="Accept open findings: they stand, and alarm nobody any more",
        token=True,
        status=200,
        reply=AcceptedFindings,
        body=FindingsAcceptance,
        refusals=(
            "bad-json",
            "malformed",
            "not-found",
            "body-timeout",
            "body-too-large",
            "wrong-media-type",
            "bad-field",
        ),
    ),
    Route(
        name="get_roots",
        method="GET",
        path="/v1/ca/roots",
        summary="Get the root certificates to trust",
        token=False,
        status=200,
        reply=Roots,
        media_types=(JSON, PEM_CHAIN),
    ),
    Route(
        name="get_openapi",
        method="GET",
        path="/v1/openapi.json",
        summary="Get this interface's description (OpenAPI 3.1)",
        token=False,
        status=200,
        reply=None,
    ),
)

ROUTES: Final = (*_V1, *CT_ROUTES)
"""What is answered over HTTPS."""
