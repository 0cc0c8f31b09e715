"""Problem documents (RFC 9457): the one place where a refusal becomes HTTP.

Rules:
- Everything that is not answered with success is a `Problem` of one of KINDS; there is no second way to say no.
- `type` is a URN made from the kind; programs compare that. `detail` is for people and names what to change.
- A kind is also the label value of the rejections counter, so KINDS is fixed and small.
- Nothing of the inside (stack traces, paths, other services' texts for anything but a refusal) gets into a document: it
  is the cause of the Problem (`raise ... from`), which the server logs.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from services.errors import DeadlineExceeded, PeerGone, Refused, RemoteError, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:trustchain:problem:"
# A worker that died is back within tens of milliseconds, so the shortest wait that Retry-After can name is enough.
_RETRY_SECONDS: Final = 1


class PeerName(NamedTuple):
    """How a service that is asked is called in texts, and of which kind a problem is that is its own failure."""

    text: str
    failure: str


AUTHORITY: Final = PeerName("the certificate authority", "authority-failed")
LOG: Final = PeerName("the transparency log", "log-failed")


class Kind(NamedTuple):
    """What a kind of problem means in HTTP. `title` is the same for every occurrence (RFC 9457, section 3.1.3)."""

    status: int
    title: str


KINDS: Final[dict[str, Kind]] = {
    # How the request was sent.
    "bad-request": Kind(400, "The request is not valid HTTP"),
    "bad-json": Kind(400, "The body is not valid JSON"),
    "bad-field": Kind(422, "A field or parameter has a wrong type or value"),
    "unauthorized": Kind(401, "A valid bearer token is needed"),
    "not-found": Kind(404, "There is nothing here"),
    "method-not-allowed": Kind(405, "This path has other methods"),
    "not-acceptable": Kind(406, "None of the accepted media types can be given"),
    "body-timeout": Kind(408, "The body did not arrive in time"),
    "body-too-large": Kind(413, "The body is too large"),
    "wrong-media-type": Kind(415, "The body has a media type that is not understood here"),
    "expectation-failed": Kind(417, "The expectation cannot be met"),
    "rate-limited": Kind(429, "Too many requests"),
    # What the certificate authority refuses; the kinds are those of services.ca.messages.
    "malformed": Kind(400, "The value cannot be parsed"),
    "bad-signature": Kind(400, "The certificate request is not signed by its own key"),
    "bad-key": Kind(422, "This key is not certified here"),
    "forbidden-name": Kind(403, "A name is not allowed"),
    "unknown-profile": Kind(422, "There is no such profile"),
    "bad-validity": Kind(422, "The lifetime is not allowed"),
    "bad-reason": Kind(422, "Certificates are not revoked for this reason"),
    "already-revoked": Kind(409, "The certificate is revoked already"),
    "unauthorized-revocation": Kind(403, "The revocation is not signed by the key of the certificate"),
    # What the transparency log refuses; the kinds are those of services.ct.messages.
    "unknown-root": Kind(400, "The chain does not end at an accepted root"),
    "bad-chain": Kind(400, "The certificates are no chain"),
    "wrong-entry-type": Kind(400, "This kind of certificate is submitted elsewhere"),
    "out-of-range": Kind(400, "The tree does not have this size, index or range"),
    # What is not the client's fault.
    "internal": Kind(500, "The server failed"),
    "authority-failed": Kind(502, "The certificate authority failed"),
    "log-failed": Kind(502, "The transparency log failed"),
    "unavailable": Kind(503, "The service cannot answer now"),
    "deadline": Kind(504, "The answer did not come in time"),
}


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error answer (RFC 9457).

    `field` names the member, parameter or header at fault, `position` is a byte offset in the body.
    """

    type: Annotated[str, msgspec.Meta(description=f"{TYPE_PREFIX}KIND; programs compare this")]
    title: str
    status: int
    detail: str
    field: str | None = None
    position: int | None = None
    request_id: str | None = None


class Problem(Exception):
    """A request that is not answered with success, and why.

    `retry_after` is in whole seconds. `allow` are the methods of a 405. `close` says that the connection cannot be
    used again because the rest of the body is still under way. A kind that is not in KINDS is an internal error.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        field: str | None = None,
        position: int | None = None,
        retry_after: int | None = None,
        allow: tuple[str, ...] = (),
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.kind = kind if kind in KINDS else "internal"
        self.detail = detail
        self.field = field
        self.position = position
        self.retry_after = retry_after
        self.allow = allow
        self.close = close

    @property
    def status(self) -> int:
        return KINDS[self.kind].status

    @property
    def counts_as(self) -> str:
        """How metrics count it: `rejected` is the client's fault, `error` is ours."""
        return "rejected" if self.status < 500 else "error"

    def headers(self) -> dict[str, str]:
        """The header fields that HTTP wants beside the document (RFC 9110, sections 10.2.1, 10.2.3 and 11.6.1)."""
        fields = {}
        if self.status == 401:
            fields["WWW-Authenticate"] = 'Bearer realm="trustchain"'
        if self.allow:
            fields["Allow"] = ", ".join(self.allow)
        if self.retry_after is not None:
            fields["Retry-After"] = str(self.retry_after)
        return fields

    def document(self, request_id: str | None) -> bytes:
        return msgspec.json.encode(
            ProblemDocument(
                type=TYPE_PREFIX + self.kind,
                title=KINDS[self.kind].title,
                status=self.status,
                detail=self.detail,
                field=self.field,
                position=self.position,
                request_id=request_id,
            )
        )


def of_remote(error: RemoteError, peer: PeerName) -> Problem:
    """What a call to `peer` ended with, in HTTP's terms.

    A refusal's kind and text are its own if KINDS knows it: they are written for the client. Other texts are for the
    operator, and stay inside.
    """
    if isinstance(error, Refused):
        return Problem(error.kind, error.detail, field=error.field) if error.kind in KINDS else internal()
    if isinstance(error, DeadlineExceeded):
        return Problem("deadline", f"{peer.text} did not answer in time; whether it acted is not known")
    if isinstance(error, PeerGone):
        detail = f"{peer.text} stopped while it worked on this; whether it acted is not known"
        return Problem("unavailable", detail, retry_after=_RETRY_SECONDS)
    if isinstance(error, Unavailable) or error.retryable:
        detail = f"{peer.text} cannot do this now; the server's log says why under this request_id"
        return Problem("unavailable", detail, retry_after=_RETRY_SECONDS)
    return Problem(peer.failure, f"an unexpected error in {peer.text}; its log has the traceback")


def internal() -> Problem:
    """The problem of an error that nobody foresaw: its traceback goes to the log, never to the client."""
    return Problem("internal", "an unexpected error; the server's log has it under this request_id")
