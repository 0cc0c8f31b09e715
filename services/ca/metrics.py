"""What the certificate authority records about itself.

`trustchain_ca_requests` is its main operation, a request for a certificate from arrival to reply: its results and its
duration are what the health of this service is judged by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

from monitoring.metrics import Metrics, Timing, counter, gauge, histogram, operation
from services.ca import inventory_metrics
from services.ca.hierarchy import Hierarchy, validity_of
from services.ca.messages import Refusal, RefusalKind
from services.ca.profile import PROFILES

QUERIES: Final = ("get", "list", "roots", "inventory", "expiry")
STEPS: Final = ("reserve", "store")

FAMILIES: Final = (
    *operation("trustchain_ca_requests", "Requests for a certificate"),
    *operation("trustchain_ca_queries", "Questions about issued certificates and roots", labels={"method": QUERIES}),
    counter("trustchain_ca_certificates_issued_total", "Certificates issued.", labels={"profile": tuple(PROFILES)}),
    counter("trustchain_ca_refusals_total", "Requests refused, by reason.", labels={"kind": get_args(RefusalKind)}),
    histogram("trustchain_ca_sign_seconds", "Building and signing one certificate."),
    histogram("trustchain_ca_storage_seconds", "One durable write, as issuance waits for it.", labels={"step": STEPS}),
    gauge("trustchain_ca_unfinished_serials", "Serial numbers on record without a certificate."),
    gauge(
        "trustchain_ca_certificate_not_after_seconds",
        "Last valid second of the authority's own certificates, since the Unix epoch.",
        unit="seconds",
        labels={"certificate": ("root", "intermediate")},
        merge="min",
    ),
    *inventory_metrics.FAMILIES,
)


class AuthorityMetrics:
    """The series of this service, bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.issued = {
            name: metrics.counter("trustchain_ca_certificates_issued_total", profile=name).inc for name in PROFILES
        }
        self.refused = {
            kind: metrics.counter("trustchain_ca_refusals_total", kind=kind).inc for kind in get_args(RefusalKind)
        }
        self.sign = metrics.histogram("trustchain_ca_sign_seconds")
        self.storage = {step: metrics.histogram("trustchain_ca_storage_seconds", step=step) for step in STEPS}
        self.unfinished = metrics.gauge("trustchain_ca_unfinished_serials")

    def request(self) -> Timing:
        """Times one request for a certificate and counts how it ended."""
        return self._metrics.operation("trustchain_ca_requests")

    def query(self, method: str) -> Timing:
        """Times one question and counts how it ended."""
        return self._metrics.operation("trustchain_ca_queries", method=method)

    @contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Count the refusal that ends the block, if one does."""
        try:
            yield
        except Refusal as refusal:
            self.refused[refusal.kind]()
            raise

    def show_expiry(self, hierarchy: Hierarchy) -> None:
        """Tell when the authority's own certificates end."""
        for title, certificate in (("root", hierarchy.root), ("intermediate", hierarchy.issuer.certificate)):
            series = self._metrics.gauge("trustchain_ca_certificate_not_after_seconds", certificate=title)
            series.set(validity_of(certificate).not_after)
