"""The route table: every path, its methods, what they take and what they answer.

Rules:
- The server dispatches by this table and the OpenAPI document is generated from it, so the two cannot disagree.
- Types say everything about a request: parameters and bodies are frozen structs that forbid unknown fields.
- HEAD is answered wherever GET is (RFC 9110, section 9.3.2) and is not listed.
- Query parameters use UNSET for "not given": with None, the text `null` in a URL would mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from services.api.parsing import JSON
from services.api.problems import Problem
from services.ca.messages import (
    DEFAULT_PAGE,
    DEFAULT_TOP,
    DEFAULT_WITHIN,
    MAX_CURSOR_CHARACTERS,
    MAX_PAGE,
    MAX_REQUESTER_CHARACTERS,
    MAX_TOP,
    MAX_WITHIN,
    Certificate,
    CertificatePage,
    CertificateStatus,
    ExpiryReport,
    InventorySummary,
    Roots,
)

PEM_CHAIN: Final = "application/pem-certificate-chain"  # RFC 8555, section 9.1
# A DNS name has up to 253 characters, an e-mail address 254 (RFC 5321, section 4.5.3.1), a URI more.
_MAX_NAME_CHARACTERS: Final = 1024
_MAX_EPOCH_SECONDS: Final = 253_402_300_799  # 9999-12-31, the last day of X.509 (RFC 5280, section 4.1.2.5)
_Time = Annotated[int, Meta(ge=0, le=_MAX_EPOCH_SECONDS, description="Seconds since the Unix epoch")]
_Serial = Annotated[str, Meta(pattern="^[0-9a-f]{1,40}$", description="Serial number, lower-case hexadecimal")]


class NoParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """A route without parameters."""


class SerialPath(Struct, frozen=True, forbid_unknown_fields=True):
    """Which certificate."""

    serial: _Serial


class CertificateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate. Without `profile` or `validity_seconds` the defaults of the settings hold."""

    csr: Annotated[str, Meta(description="PKCS #10 certificate request (RFC 2986), PEM")]
    profile: Annotated[str, Meta(min_length=1, max_length=64, description="Name of a profile")] | None = None
    validity_seconds: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Lifetime in seconds")] | None = None


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


class InventoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the inventory to tell."""

    top: Annotated[int, Meta(ge=1, le=MAX_TOP, description="At most this many values of each kind")] = DEFAULT_TOP


class ExpiryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which leaves to tell beside the authority's own."""

    within: Annotated[int, Meta(ge=0, le=MAX_WITHIN, description="Ending within so many seconds")] = DEFAULT_WITHIN
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE, description="At most this many")] = DEFAULT_PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. `name` is also the label value of the request metrics and the OpenAPI operation id.

    `media_types` is what the reply can be given as, the default first. `refusals` are kinds of problems.KINDS that this
    route gives beside those that any route can. A route with `token` answers only to the bearer of a valid token.
    """

    name: str
    method: str
    path: str
    summary: str
    token: bool
    status: int
    reply: type | None
    body: type | None = None
    path_parameters: type[Struct] = NoParameters
    query_parameters: type[Struct] = NoParameters
    media_types: tuple[str, ...] = (JSON,)
    refusals: tuple[str, ...] = ()


ROUTES: Final[tuple[Route, ...]] = (
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


class Match(NamedTuple):
    """The route of a request, and the values of its path parameters."""

    route: Route
    path_values: Mapping[str, str]


class RouteTable:
    """Finds the route of a request. Paths without parameters go before those with one, whatever the order of ROUTES.

    Raises ValueError if two routes answer the same method of the same path.
    """

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[tuple[str, ...], dict[str, Route]]] = []
        for route in routes:
            methods = self._methods_of(route.path)
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                if method in methods:
                    raise ValueError(f"two routes answer {method} {route.path}")
                methods[method] = route

    def _methods_of(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        segments = tuple(path.split("/"))
        for known, methods in self._patterns:
            if known == segments:
                return methods
        self._patterns.append((segments, {}))
        return self._patterns[-1][1]

    def match(self, method: str, path: str) -> Match:
        """Find the route. Raises Problem `not-found` or `method-not-allowed` (with the methods that are)."""
        methods, values = self._find(path)
        route = methods.get(method)
        if route is None:
            allowed = tuple(sorted(methods))
            raise Problem("method-not-allowed", f"this path takes {', '.join(allowed)}", allow=allowed)
        return Match(route, values)

    def _find(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        if (methods := self._exact.get(path)) is not None:
            return methods, {}
        segments = path.split("/")
        for pattern, methods in self._patterns:
            if (values := _values(pattern, segments)) is not None:
                return methods, values
        raise Problem("not-found", "no such path; GET /v1/openapi.json lists what there is")


def _values(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    values = {}
    for expected, found in zip(pattern, segments, strict=True):
        if expected.startswith("{") and found:
            values[expected[1:-1]] = found
        elif expected != found:
            return None
    return values
