"""What the certificate authority records about itself.

`trustchain_ca_requests` is its main operation, a request for a certificate from arrival to reply: its results and its
duration are what the health of this service is judged by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, get_args

from monitoring.metrics import Family, Metrics, Timing, counter, gauge, histogram, operation
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.inventory import metrics as inventory_metrics
from services.ca.lint.findings import RULES
from services.ca.messages import Refusal, RefusalKind
from services.ca.reconciliation import metrics as reconciler_metrics
from services.ca.status import metrics as status_metrics

QUERIES: Final = ("get", "list", "roots", "inventory", "expiry")
STEPS: Final = ("reserve", "store")
OWN_CERTIFICATES: Final = ("root", "intermediate", "post-quantum-root", "post-quantum-intermediate", "retired")


def families(profiles: Iterable[str]) -> tuple[Family, ...]:
    """What is recorded by an authority with these profiles."""
    return (
        *operation("trustchain_ca_requests", "Requests for a certificate"),
        *operation(
            "trustchain_ca_queries", "Questions about issued certificates and roots", labels={"method": QUERIES}
        ),
        counter("trustchain_ca_certificates_issued_total", "Certificates issued.", labels={"profile": tuple(profiles)}),
        counter("trustchain_ca_refusals_total", "Requests refused, by reason.", labels={"kind": get_args(RefusalKind)}),
        counter(
            "trustchain_ca_lint_findings_total", "What the lint objected to, by rule.", labels={"rule": tuple(RULES)}
        ),
        histogram("trustchain_ca_sign_seconds", "One step of making a certificate: building, linting, signing."),
        histogram("trustchain_ca_log_seconds", "Waiting for the transparency log's promise."),
        histogram(
            "trustchain_ca_storage_seconds", "One durable write, as issuance waits for it.", labels={"step": STEPS}
        ),
        gauge("trustchain_ca_unfinished_serials", "Serial numbers on record without a certificate."),
        gauge("trustchain_ca_quarantined_certificates", "Signed, found wrong, and given to nobody."),
        gauge(
            "trustchain_ca_certificate_not_after_seconds",
            "Last valid second of the authority's own certificates, since the Unix epoch; 0 when there is none. "
            "Of those that are retired and have not expired yet, the first to expire.",
            unit="seconds",
            labels={"certificate": OWN_CERTIFICATES},
            merge="min",
        ),
        *status_metrics.FAMILIES,
        *inventory_metrics.FAMILIES,
        *reconciler_metrics.FAMILIES,
    )


class AuthorityMetrics:
    """The series of this service, bound once."""

    def __init__(self, metrics: Metrics, profiles: Iterable[str]) -> None:
        self._metrics = metrics
        self.issued = {
            name: metrics.counter("trustchain_ca_certificates_issued_total", profile=name).inc for name in profiles
        }
        self.refused = {
            kind: metrics.counter("trustchain_ca_refusals_total", kind=kind).inc for kind in get_args(RefusalKind)
        }
        self.found = {rule: metrics.counter("trustchain_ca_lint_findings_total", rule=rule).inc for rule in RULES}
        self.sign = metrics.histogram("trustchain_ca_sign_seconds")
        self.log = metrics.histogram("trustchain_ca_log_seconds")
        self.storage = {step: metrics.histogram("trustchain_ca_storage_seconds", step=step) for step in STEPS}
        self.unfinished = metrics.gauge("trustchain_ca_unfinished_serials")
        self.quarantined = metrics.gauge("trustchain_ca_quarantined_certificates")

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

    def show_expiry(self, hierarchy: Hierarchy, now: int) -> None:
        """Tell when the authority's own certificates end. `now` is in seconds since the Unix epoch."""
        retired = (each.validity.not_after for each in hierarchy.authorities if each.state == "retired")
        ends = [not_after for not_after in retired if not_after >= now]
        shown = dict.fromkeys(OWN_CERTIFICATES, 0) | {"retired": min(ends, default=0)}
        for kind in hierarchy.kinds:
            prefix = "" if kind == "classical" else f"{kind}-"
            shown[f"{prefix}root"] = hierarchy.active_root(kind).validity.not_after
            shown[f"{prefix}intermediate"] = hierarchy.active(kind).validity.not_after
        for title, not_after in shown.items():
            self._metrics.gauge("trustchain_ca_certificate_not_after_seconds", certificate=title).set(not_after)
