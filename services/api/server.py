"""From an HTTP request to a response: who asks, how often, what for, in which words, and the answer.

Rules:
- The order is fixed. Who asks is found out first, then for what, because both decide which limit counts; the limit
  comes before anything that costs more; a body is read only where the route has one and its sender may be answered.
- Every response but a success is a Problem; what was not foreseen is logged with its traceback and answered `internal`.
  The cause of a Problem that is our fault is in the log line of its request, and nowhere else.
- Every response carries the request id, which is the trace id of W3C Trace Context, and so the key into all logs.
- Nothing is stored by a request that is refused.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import structlog
from aiohttp import HttpVersion10, web

from config.schema import Api
from monitoring.metrics import Result
from monitoring.tracing import TraceContext
from services.api.admission import PROBE, Admission, Caller
from services.api.callers import Identify
from services.api.connections import Connection
from services.api.endpoints import Call, Endpoint, Reply
from services.api.metrics import NO_ROUTE, ApiMetrics
from services.api.parsing import (
    accepts_gzip,
    convert_parameters,
    media_type,
    parse_body,
    parse_parameters,
    preferred_type,
)
from services.api.problems import MEDIA_TYPE, Problem, internal
from services.api.routing import Match, Route, RouteTable
from services.logs import TRACE

HEADERS: Final = {
    "Server": "TrustChain",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MAX_REQUESTER: Final = 256

_log = structlog.stdlib.get_logger()


class Exchange:
    """One request on its way through the server: what is known of it so far."""

    __slots__ = ("caller", "request", "route", "started_ns", "trace")

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.started_ns = time.monotonic_ns()
        self.trace = TraceContext.continued(request.headers.get("traceparent"), os.urandom)
        self.caller = Caller(request.remote or "unknown")
        self.route: Route | None = None

    def hold(self, octets: int) -> None:
        """Count what is held for this client, all told. Raises Problem when that is too much without a token."""
        if self.caller.holder is None and not cast(Connection, self.request.protocol).holding.reaches(octets):
            detail = "too much is being received from this address or sent to it; read the answers, one at a time"
            raise Problem("rate-limited", detail, retry_after=1, close=True)

    def elapsed_ns(self) -> int:
        return time.monotonic_ns() - self.started_ns

    def headers(self, content_type: str) -> dict[str, str]:
        return {**HEADERS, "Content-Type": content_type, "X-Request-Id": self.trace.trace_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is answered at one kind of listening sockets: routes, endpoints by their names, and who counts as whom."""

    table: RouteTable
    endpoints: Mapping[str, Endpoint]
    identify: Identify


class HttpServer:
    """Answers the requests of one site. A request of the probe may take `probe_seconds`."""

    def __init__(
        self, settings: Api, probe_seconds: float, site: Site, admission: Admission, metrics: ApiMetrics
    ) -> None:
        self._settings = settings
        self._probe_seconds = probe_seconds
        self._site = site
        self._admission = admission
        self._metrics = metrics

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; no exception leaves this but those that end the connection."""
        exchange = Exchange(request)
        TRACE.set(exchange.trace.format())
        self._metrics.in_flight.inc()
        try:
            match, media = self._admitted(exchange)
            reply = await self._reply(exchange, match, media)
            response = _success(exchange, match.route, media, reply)
            self._count(exchange, "ok", response.status)
        except Problem as problem:
            response = self._refusal(exchange, problem)
        except Exception as error:  # noqa: BLE001 - answered as `internal`, and the log has the traceback
            _log.error("a request failed unexpectedly", path=request.path, exc_info=error)
            response = self._refusal(exchange, internal())
        finally:
            self._metrics.in_flight.dec()
        return response

    def bad_http(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer what is not HTTP, or whose headers are too large; the connection closes."""
        return self._refusal(Exchange(request), Problem("bad-request", "the request is not valid HTTP/1.1", close=True))

    def _admitted(self, exchange: Exchange) -> tuple[Match, str]:
        """Find the route and the form of its reply. Raises Problem for whom or what is not let in."""
        request = exchange.request
        if request.version < HttpVersion10:
            raise Problem("bad-request", "HTTP/1.1 is spoken here", close=True)
        exchange.caller = self._site.identify(request)
        match = self._matched(exchange)
        if match.route.token and exchange.caller.holder is None:
            detail = (
                "the token is not valid" if exchange.caller.claims else "send the header `Authorization: Bearer TOKEN`"
            )
            raise Problem("unauthorized", detail, field="Authorization")
        return match, preferred_type(request.headers.get("Accept", ""), match.route.media_types)

    def _matched(self, exchange: Exchange) -> Match:
        """Find the route and count the request, which is done for one without a route as well."""
        request, now_ns = exchange.request, time.monotonic_ns()
        try:
            match = self._site.table.match(request.method, request.rel_url.raw_path)
        except Problem:
            self._admission.admit(exchange.caller, public=False, now_ns=now_ns)
            raise
        exchange.route = match.route
        self._admission.admit(exchange.caller, public=match.route.is_public, now_ns=now_ns)
        return match

    async def _reply(self, exchange: Exchange, match: Match, media: str) -> Reply:
        route, request = match.route, exchange.request
        path = convert_parameters(match.path_values, route.path_parameters, route.misfit)
        query = parse_parameters(list(request.rel_url.query.items()), route.query_parameters, route.misfit)
        body = None if route.body is None else _parsed(await self._body(exchange, route), route)
        call: Call[msgspec.Struct, msgspec.Struct, msgspec.Struct | bytes | None] = Call(
            path=path,
            query=query,
            body=body,
            media_type=media,
            requester=f"{exchange.caller.holder or 'anyone'} at {exchange.caller.address}"[:_MAX_REQUESTER],
            seconds=max(0.0, self._seconds_for(exchange) - exchange.elapsed_ns() / 1e9),
            trace=exchange.trace.format(),
            hold=exchange.hold,
            administrator=exchange.caller.holder not in (None, PROBE),
            if_none_match=request.headers.get("If-None-Match", ""),
            accepts_gzip=accepts_gzip(request.headers.get("Accept-Encoding", "")),
        )
        reply = await self._site.endpoints[route.name](call)
        exchange.hold(len(reply.content))
        return reply

    def _seconds_for(self, exchange: Exchange) -> float:
        return self._probe_seconds if exchange.caller.holder == PROBE else self._settings.request_timeout

    async def _body(self, exchange: Exchange, route: Route) -> bytes:
        """Read the body. Raises Problem; if octets of it may still come, the connection is not used again."""
        request = exchange.request
        if media_type(request.headers.get("Content-Type", "")) != route.body_media_type:
            raise Problem("wrong-media-type", f"send the body as {route.body_media_type}", field="Content-Type")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem("wrong-media-type", "send the body without a content coding", field="Content-Encoding")
        most = self._settings.max_body_bytes if route.most_octets is None else route.most_octets
        if (request.content_length or 0) > most:
            raise _too_large(most)
        await _expectation(request)
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await _read(exchange, most)
        except TimeoutError:
            detail = f"the body did not arrive within {self._settings.body_timeout:g} seconds"
            raise Problem("body-timeout", detail, close=True) from None

    def _refusal(self, exchange: Exchange, problem: Problem) -> web.Response:
        self._count(exchange, "rejected" if problem.counts_as == "rejected" else "error", problem.status, problem)
        response = web.Response(
            status=problem.status,
            body=problem.document(exchange.trace.trace_id),
            headers={**exchange.headers(MEDIA_TYPE), **problem.headers()},
        )
        if problem.close:
            response.force_close()
        return response

    def _count(self, exchange: Exchange, result: Result, status: int, problem: Problem | None = None) -> None:
        kind = problem.kind if problem is not None else None
        cause = problem.__cause__ if problem is not None and result == "error" else None
        elapsed_ns = exchange.elapsed_ns()
        if exchange.caller.holder != PROBE:
            name = exchange.route.name if exchange.route else NO_ROUTE
            self._metrics.requests[name].record(elapsed_ns, result)
            if kind is not None:
                self._metrics.rejections[kind].inc()
        log = _log.info if result == "error" else _log.debug
        log(
            "request",
            method=exchange.request.method,
            path=exchange.request.path,
            status=status,
            kind=kind,
            cause=None if cause is None else str(cause),
            holder=exchange.caller.holder,
            address=exchange.caller.address,
            milliseconds=round(elapsed_ns / 1e6, 3),
        )


def _success(exchange: Exchange, route: Route, media: str, reply: Reply) -> web.Response:
    status = route.status if reply.status is None else reply.status
    return web.Response(status=status, body=reply.content, headers={**exchange.headers(media), **reply.headers})


def _parsed(body: bytes, route: Route) -> msgspec.Struct | bytes:
    if route.body is None or route.body is bytes:
        return body
    parsed: msgspec.Struct = parse_body(body, route.body, route.misfit)
    return parsed


def _too_large(most: int) -> Problem:
    return Problem("body-too-large", f"the body has more than {most} bytes", close=True)


async def _expectation(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (RFC 9110, section 10.1.1)."""
    expectation = request.headers.get("Expect", "").lower()
    if expectation == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the library takes anything written for a response that has begun
    elif expectation:
        raise Problem("expectation-failed", "only 100-continue is understood", field="Expect")


async def _read(exchange: Exchange, most: int) -> bytes:
    body = bytearray()
    try:
        while chunk := await exchange.request.content.readany():
            body += chunk
            if len(body) > most:
                raise _too_large(most)
            exchange.hold(len(body))
    except (ConnectionError, web.RequestPayloadError) as error:
        raise Problem("bad-request", "the body ended before it was complete", close=True) from error
    return bytes(body)
