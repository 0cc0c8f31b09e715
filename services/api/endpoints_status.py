"""What each route of plain HTTP does: asks the authority for what it has signed, and says how long that may be kept.

Rules:
- A revocation list is named by its number, which is never used twice (RFC 5280, section 5.2.3); an OCSP response by its
  digest. So a client that has the newest one gets 304 instead of it.
- The answer to an OCSP request in a body is not kept by anybody: nothing in its URL tells what it answers.
- An OCSP error response is an answer like any other, with status 200 (RFC 6960, section 2.3), and not kept.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from services.api.endpoints import Call, Endpoint, Reply
from services.api.freshness import caching_headers, is_known
from services.api.peers import Peer
from services.api.problems import Problem
from services.api.routes_status import MAX_OCSP_BODY, CrlPath, IssuerPath, OcspPath
from services.api.routing import NoParameters
from services.ca.status.messages import (
    CrlDocument,
    GetCrl,
    GetIssuerCertificate,
    IssuerCertificate,
    OcspAnswer,
    OcspQuery,
)

# One issuer is one certificate: what has this name never changes.
_ISSUER_HEADERS: Final = {"Cache-Control": "public, max-age=86400, immutable"}
_NOT_MODIFIED: Final = 304


class StatusEndpoints:
    """One method for each route of HTTP_ROUTES, by the route's name. `clock` is seconds since the Unix epoch."""

    def __init__(self, authority: Peer, clock: Callable[[], float] = time.time) -> None:
        self._authority = authority
        self._clock = clock
        self.by_route: Mapping[str, Endpoint] = {
            "get_crl": self.get_crl,
            "get_issuer": self.get_issuer,
            "post_ocsp": self.post_ocsp,
            "get_ocsp": self.get_ocsp,
        }

    async def get_crl(self, call: Call[CrlPath, NoParameters, None]) -> Reply:
        issuer, partition = call.path.issuer, call.path.partition

        def request_at(offset: int) -> GetCrl:
            return GetCrl(issuer=issuer, partition=partition, offset=offset)

        if call.if_none_match:
            known = await self._authority.ask("crl", request_at(0), CrlDocument, call.seconds, call.trace)
            if is_known(call.if_none_match, _tag(issuer, partition, known)):
                return Reply(b"", self._headers(_tag(issuer, partition, known), known), _NOT_MODIFIED)
        crl, content = await self._authority.ask_whole(
            "crl", request_at, CrlDocument, call.seconds, call.trace, call.hold
        )
        return Reply(content, self._headers(_tag(issuer, partition, crl), crl))

    async def get_issuer(self, call: Call[IssuerPath, NoParameters, None]) -> Reply:
        request = GetIssuerCertificate(issuer=call.path.issuer)
        found = await self._authority.ask("issuer_certificate", request, IssuerCertificate, call.seconds, call.trace)
        return Reply(found.der, _ISSUER_HEADERS)

    async def post_ocsp(self, call: Call[NoParameters, NoParameters, bytes]) -> Reply:
        return Reply((await self._ocsp(call.body, call.seconds, call.trace)).der)

    async def get_ocsp(self, call: Call[OcspPath, NoParameters, None]) -> Reply:
        answer = await self._ocsp(request_of_path(call.path.request), call.seconds, call.trace)
        if not answer.next_update:
            return Reply(answer.der)
        tag = sha256(answer.der).hexdigest()
        if is_known(call.if_none_match, tag):
            return Reply(b"", self._headers(tag, answer), _NOT_MODIFIED)
        return Reply(answer.der, self._headers(tag, answer))

    async def _ocsp(self, request: bytes, seconds: float, trace: str) -> OcspAnswer:
        return await self._authority.ask("ocsp", OcspQuery(request=request), OcspAnswer, seconds, trace)

    def _headers(self, tag: str, signed: CrlDocument | OcspAnswer) -> dict[str, str]:
        return caching_headers(tag, signed.this_update, signed.next_update, self._clock())


def _tag(issuer: str, partition: int, crl: CrlDocument) -> str:
    return f"{issuer}-{partition}-{crl.number}"


def request_of_path(text: str) -> bytes:
    """The OCSPRequest in a path (RFC 6960, appendix A.1). Raises Problem."""
    try:
        request = base64.b64decode(unquote_to_bytes(text), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(
            "malformed", "the path holds no base64 text, URL-encoded (RFC 6960, A.1)", field="request"
        ) from None
    if not 0 < len(request) <= MAX_OCSP_BODY:
        raise Problem(
            "malformed", f"the OCSP request has {len(request)} octets, not 1 to {MAX_OCSP_BODY}", field="request"
        )
    return request
