"""What each route below /v1/ does: a typed call in, the reply of a service out.

Rules: nothing of HTTP's wire form is here; the server has parsed, authenticated and limited before, and writes after.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from services.api.parsing import JSON
from services.api.peers import Peer
from services.api.problems import Problem
from services.api.routes import (
    CertificateQuery,
    CertificateRequest,
    ExpiryQuery,
    FindingsAcceptance,
    FindingsQuery,
    InventoryQuery,
    RevocationRequest,
    SerialPath,
)
from services.api.routing import NoParameters
from services.ca.evidence.messages import Evidence, GetEvidence
from services.ca.inventory.messages import ExpiryReport, GetExpiry, GetInventory, InventorySummary
from services.ca.messages import (
    Certificate,
    CertificatePage,
    GetCertificate,
    GetRoots,
    IssueRequest,
    ListCertificates,
    Roots,
)
from services.ca.reconciliation.messages import AcceptedFindings, AcceptFindings, Findings, ListFindings
from services.ca.status.messages import RevocationProof, Revoke, Revoked

PathT = TypeVar("PathT", bound=Struct)
QueryT = TypeVar("QueryT", bound=Struct)
BodyT = TypeVar("BodyT", bound=Struct | bytes | None)
ValueT = TypeVar("ValueT")

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[PathT, QueryT, BodyT]):
    """One request that has passed all checks.

    `media_type` is the form of the reply that the client prefers, `seconds` is how long it may take, `trace` is a
    W3C traceparent. `hold` counts octets that are about to be held for the client, all told, and raises Problem if they
    are too many now. `administrator` says whether it came with a valid token. `if_none_match` is the header as it came.
    """

    path: PathT
    query: QueryT
    body: BodyT
    media_type: str
    requester: str
    seconds: float
    trace: str
    hold: Callable[[int], None]
    administrator: bool = False
    if_none_match: str = ""
    accepts_gzip: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The content of a successful response, in the media type of its call. Without `status` it is the route's."""

    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


Endpoint = Callable[[Call[Any, Any, Any]], Awaitable[Reply]]


class Endpoints:
    """One method for each route, by the route's name.

    `describe` makes the encoded OpenAPI document. It is called when the document is first asked for: a worker that
    replaces a dead one has better things to do.
    """

    def __init__(self, authority: Peer, describe: Callable[[], bytes]) -> None:
        self._authority = authority
        self._described = functools.cache(describe)
        self.by_route: Mapping[str, Endpoint] = {
            "issue_certificate": self.issue_certificate,
            "list_certificates": self.list_certificates,
            "get_certificate": self.get_certificate,
            "revoke_certificate": self.revoke_certificate,
            "get_inventory": self.get_inventory,
            "get_expiry": self.get_expiry,
            "get_evidence": self.get_evidence,
            "list_findings": self.list_findings,
            "accept_findings": self.accept_findings,
            "get_roots": self.get_roots,
            "get_openapi": self.get_openapi,
        }

    async def issue_certificate(self, call: Call[NoParameters, NoParameters, CertificateRequest]) -> Reply:
        request = IssueRequest(
            csr=call.body.csr.encode("utf-8"),
            profile=call.body.profile,
            validity_seconds=call.body.validity_seconds,
            requester=call.requester,
        )
        issued = await self._authority.ask("issue", request, Certificate, call.seconds, call.trace)
        return Reply(_encode(issued), {"Location": f"/v1/certificates/{issued.serial}"})

    async def list_certificates(self, call: Call[NoParameters, CertificateQuery, None]) -> Reply:
        query = call.query
        request = ListCertificates(
            cursor=_given(query.cursor),
            limit=query.limit,
            name=_given(query.name),
            search=_given(query.search),
            requester=_given(query.requester),
            issuer=_given(query.issuer),
            profile=_given(query.profile),
            status=_given(query.status),
            expires_after=_given(query.expires_after),
            expires_before=_given(query.expires_before),
            issued_after=_given(query.issued_after),
            issued_before=_given(query.issued_before),
        )
        return Reply(_encode(await self._authority.ask("list", request, CertificatePage, call.seconds, call.trace)))

    async def get_certificate(self, call: Call[SerialPath, NoParameters, None]) -> Reply:
        request = GetCertificate(serial=call.path.serial)
        found = await self._authority.ask("get", request, Certificate, call.seconds, call.trace)
        return Reply(_encode(found) if call.media_type == JSON else pem_text(found.certificate, *found.chain))

    async def revoke_certificate(self, call: Call[SerialPath, NoParameters, RevocationRequest]) -> Reply:
        """Raises Problem `unauthorized` when there is neither a token nor a proof."""
        proof = call.body.proof
        if proof is None and not call.administrator:
            detail = "send the header `Authorization: Bearer TOKEN`, or a proof by the key of the certificate"
            raise Problem("unauthorized", detail, field="Authorization")
        request = Revoke(
            serial=call.path.serial,
            reason=call.body.reason,
            requester=call.requester,
            proof=None if proof is None else RevocationProof(signed_at=proof.signed_at, signature=proof.signature),
        )
        return Reply(_encode(await self._authority.ask("revoke", request, Revoked, call.seconds, call.trace)))

    async def get_inventory(self, call: Call[NoParameters, InventoryQuery, None]) -> Reply:
        request = GetInventory(top=call.query.top)
        found = await self._authority.ask("inventory", request, InventorySummary, call.seconds, call.trace)
        return Reply(_encode(found))

    async def get_expiry(self, call: Call[NoParameters, ExpiryQuery, None]) -> Reply:
        request = GetExpiry(within=call.query.within, limit=call.query.limit)
        found = await self._authority.ask("expiry", request, ExpiryReport, call.seconds, call.trace)
        return Reply(_encode(found))

    async def get_evidence(self, call: Call[SerialPath, NoParameters, None]) -> Reply:
        request = GetEvidence(serial=call.path.serial)
        return Reply(_encode(await self._authority.ask("evidence", request, Evidence, call.seconds, call.trace)))

    async def list_findings(self, call: Call[NoParameters, FindingsQuery, None]) -> Reply:
        request = ListFindings(state=call.query.state)
        return Reply(_encode(await self._authority.ask("findings", request, Findings, call.seconds, call.trace)))

    async def accept_findings(self, call: Call[NoParameters, NoParameters, FindingsAcceptance]) -> Reply:
        request = AcceptFindings(
            kind=call.body.kind,
            subject=_given(call.body.subject),
            count=call.body.count,
            reason=call.body.reason,
            requester=call.requester,
        )
        accepted = await self._authority.ask("accept_findings", request, AcceptedFindings, call.seconds, call.trace)
        return Reply(_encode(accepted))

    async def get_roots(self, call: Call[NoParameters, NoParameters, None]) -> Reply:
        roots = await self._authority.ask("roots", GetRoots(), Roots, call.seconds, call.trace)
        return Reply(_encode(roots) if call.media_type == JSON else pem_text(*roots.certificates))

    async def get_openapi(self, call: Call[NoParameters, NoParameters, None]) -> Reply:  # noqa: ARG002 - every endpoint takes a call
        return Reply(self._described())


def pem_text(*certificates: str) -> bytes:
    """Certificates one after the other (RFC 8555, section 9.1); each one ends its line."""
    return "".join(text if text.endswith("\n") else text + "\n" for text in certificates).encode("ascii")


def _given(value: ValueT | UnsetType) -> ValueT | None:
    return None if value is UNSET else value
