"""What the API records.

Rules: label values are fixed here, before the first request. A request that matches no route counts under `none`.
Requests of the worker's own probe are not counted: they are no traffic, and the probe has metrics of its own.
"""

from __future__ import annotations

from typing import Final

from monitoring.metrics import Metrics, counter, gauge, operation
from services.api.problems import KINDS
from services.api.routes import ROUTES
from services.api.routes_status import HTTP_ROUTES

NO_ROUTE: Final = "none"
REQUESTS: Final = "trustchain_api_requests"
HANDSHAKE_FAILURES: Final = ("timeout", "tls", "closed")
CLOSED_FOR: Final = ("handshake", "idle", "reading", "answering", "room")

_ROUTES: Final = (*(route.name for route in (*ROUTES, *HTTP_ROUTES)), NO_ROUTE)

FAMILIES: Final = (
    *operation(REQUESTS, "Requests over HTTPS and plain HTTP", labels={"route": _ROUTES}),
    counter(
        "trustchain_api_rejections_total",
        "Answers other than success, by kind of problem.",
        labels={"reason": tuple(KINDS)},
    ),
    gauge("trustchain_api_requests_in_flight", "Requests being answered."),
    gauge("trustchain_api_connections", "Open connections, TLS handshakes included."),
    counter(
        "trustchain_api_tls_handshake_failures_total",
        "TLS handshakes that did not complete.",
        labels={"reason": HANDSHAKE_FAILURES},
    ),
    counter(
        "trustchain_api_connections_ended_total",
        "Connections ended by the server: a phase took too long, or room was needed.",
        labels={"reason": CLOSED_FOR},
    ),
    gauge(
        "trustchain_api_certificate_not_after_timestamp_seconds",
        "Expiry of the certificate that the API presents.",
        unit="seconds",
        merge="min",
    ),
    counter(
        "trustchain_api_certificate_renewals_total",
        "Attempts to renew the certificate that the API presents.",
        labels={"result": ("ok", "error")},
    ),
)


class ApiMetrics:
    """The series of FAMILIES, bound once. `metrics` declares at least FAMILIES."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = {name: metrics.bound_operation(REQUESTS, route=name) for name in _ROUTES}
        self.rejections = {kind: metrics.counter("trustchain_api_rejections_total", reason=kind) for kind in KINDS}
        self.in_flight = metrics.gauge("trustchain_api_requests_in_flight")
        self.connections = metrics.gauge("trustchain_api_connections")
        self.handshake_failures = {
            reason: metrics.counter("trustchain_api_tls_handshake_failures_total", reason=reason)
            for reason in HANDSHAKE_FAILURES
        }
        self.connections_ended = {
            reason: metrics.counter("trustchain_api_connections_ended_total", reason=reason) for reason in CLOSED_FOR
        }
        self.certificate_not_after = metrics.gauge("trustchain_api_certificate_not_after_timestamp_seconds")
        self.renewals = {
            result: metrics.counter("trustchain_api_certificate_renewals_total", result=result)
            for result in ("ok", "error")
        }
