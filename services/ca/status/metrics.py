"""What the certificate authority records about revocation and certificate status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, get_args

from monitoring.metrics import Metrics, Timing, counter, gauge, histogram, operation
from services.ca.messages import RevocationReason
from services.ca.status.messages import METHODS
from services.ca.status.ocsp import Outcome

FAMILIES: Final = (
    *operation("trustchain_ca_status", "Revocations, and questions about status", labels={"method": tuple(METHODS)}),
    counter("trustchain_ca_revocations_total", "Certificates revoked.", labels={"reason": get_args(RevocationReason)}),
    counter("trustchain_ca_revocations_taken_over_total", "Revocations on record only since a list was read."),
    gauge("trustchain_ca_crl_number", "Number of a revocation list, the least of all partitions.", merge="min"),
    gauge(
        "trustchain_ca_crl_next_update_seconds",
        "When the first revocation list becomes overdue, since the Unix epoch.",
        unit="seconds",
        merge="min",
    ),
    histogram("trustchain_ca_crl_sign_seconds", "Building and signing one revocation list."),
    counter(
        "trustchain_ca_crls_total", "Revocation lists, by what became of them.", labels={"result": ("ok", "error")}
    ),
    counter("trustchain_ca_ocsp_answers_total", "OCSP answers.", labels={"status": get_args(Outcome)}),
    counter("trustchain_ca_ocsp_cache_hits_total", "OCSP answers that had been signed before they were asked for."),
    gauge("trustchain_ca_ocsp_cached_answers", "Signed OCSP answers in memory."),
    gauge(
        "trustchain_ca_ocsp_responder_not_after_seconds",
        "When the certificate of the first OCSP responder ends, since the Unix epoch.",
        unit="seconds",
        merge="min",
    ),
)


class StatusMetrics:
    """The series of revocation and status, bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.revoked = {
            reason: metrics.counter("trustchain_ca_revocations_total", reason=reason).inc
            for reason in get_args(RevocationReason)
        }
        self.taken_over = metrics.counter("trustchain_ca_revocations_taken_over_total").inc
        self.sign = metrics.histogram("trustchain_ca_crl_sign_seconds")
        self.crls = {
            result: metrics.counter("trustchain_ca_crls_total", result=result).inc for result in ("ok", "error")
        }
        self.answers = {
            outcome: metrics.counter("trustchain_ca_ocsp_answers_total", status=outcome).inc
            for outcome in get_args(Outcome)
        }
        self.hits = metrics.counter("trustchain_ca_ocsp_cache_hits_total").inc
        self.cached = metrics.gauge("trustchain_ca_ocsp_cached_answers")
        self._number = metrics.gauge("trustchain_ca_crl_number")
        self._next_update = metrics.gauge("trustchain_ca_crl_next_update_seconds")
        self._responder = metrics.gauge("trustchain_ca_ocsp_responder_not_after_seconds")

    def request(self, method: str) -> Timing:
        """Times one call and counts how it ended."""
        return self._metrics.operation("trustchain_ca_status", method=method)

    def show_lists(self, numbers: Iterable[int], next_updates: Iterable[int]) -> None:
        """Tell the least number and the next time at which a list becomes overdue."""
        self._number.set(min(numbers, default=0))
        self._next_update.set(min(next_updates, default=0))

    def show_responders(self, ends: Iterable[int]) -> None:
        """Tell when the first responder's certificate ends."""
        self._responder.set(min(ends, default=0))
