"""The route table of plain HTTP: what certificates point to, and nothing else.

Rules:
- Everything here is signed by the authority or is the authority's own certificate, so it needs no TLS; and it must not
  need any, because who verifies a TLS certificate asks here before that connection exists (RFC 5280, section 8).
- No route changes anything, and none looks at a token.
- An OCSP request in a path is base64 and then URL-encoded (RFC 6960, appendix A.1); base64 has slashes of its own.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from services.api.routing import Route
from services.ca.status.messages import MAX_PARTITIONS

CRL: Final = "application/pkix-crl"  # RFC 2585, section 4.2
CERTIFICATE: Final = "application/pkix-cert"  # RFC 2585, section 4.1
OCSP_REQUEST: Final = "application/ocsp-request"  # RFC 6960, appendix C.1
OCSP_RESPONSE: Final = "application/ocsp-response"
MAX_OCSP_BODY: Final = 8192

_Issuer = Annotated[str, Meta(pattern="^[0-9a-f]{1,40}$", description="Serial number of the issuing certificate")]


class CrlPath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of whose revocation list."""

    issuer: _Issuer
    partition: Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS, description="The part of the list, from 0")]


class IssuerPath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which issuing certificate."""

    issuer: _Issuer


class OcspPath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OCSPRequest in a path."""

    request: Annotated[str, Meta(description="OCSPRequest, DER, base64, URL-encoded")]


HTTP_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        name="get_crl",
        method="GET",
        path="/crl/{issuer}/{partition}.crl",
        summary="Get a certificate revocation list (RFC 5280, section 5)",
        token=False,
        status=200,
        reply=None,
        path_parameters=CrlPath,
        media_types=(CRL,),
        misfit="not-found",
        refusals=("not-found", "malformed"),
    ),
    Route(
        name="get_issuer",
        method="GET",
        path="/issuer/{issuer}.cer",
        summary="Get the certificate of an issuer (RFC 5280, section 4.2.2.1)",
        token=False,
        status=200,
        reply=None,
        path_parameters=IssuerPath,
        media_types=(CERTIFICATE,),
        misfit="not-found",
        refusals=("not-found", "malformed"),
    ),
    Route(
        name="post_ocsp",
        method="POST",
        path="/ocsp",
        summary="Ask whether certificates are revoked (RFC 6960, appendix A.1)",
        token=False,
        status=200,
        reply=None,
        body=bytes,
        body_media_type=OCSP_REQUEST,
        most_octets=MAX_OCSP_BODY,
        media_types=(OCSP_RESPONSE,),
        misfit="malformed",
        refusals=("malformed", "body-timeout", "body-too-large", "wrong-media-type"),
    ),
    Route(
        name="get_ocsp",
        method="GET",
        path="/ocsp/{request...}",
        summary="Ask whether certificates are revoked, in a form that may be cached (RFC 5019)",
        token=False,
        status=200,
        reply=None,
        path_parameters=OcspPath,
        media_types=(OCSP_RESPONSE,),
        misfit="malformed",
        refusals=("malformed",),
    ),
)
"""What is answered over plain HTTP."""
