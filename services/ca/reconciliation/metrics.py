"""What the reconciler records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from monitoring.metrics import Metrics, gauge
from services.ca.reconciliation.contradictions import FINDING_KINDS
from services.ca.reconciliation.messages import FindingKind

FAMILIES: Final = (
    gauge("trustchain_ca_findings", "Open findings that contradict what must hold.", labels={"kind": FINDING_KINDS}),
    gauge("trustchain_ca_accepted_findings", "Findings that still stand and that an operator has accepted."),
    gauge("trustchain_ca_log_followed_entries", "Entries of the log that were compared with the record."),
    gauge("trustchain_ca_log_seen_entries", "Entries of the log, by the newest head that was seen."),
    gauge(
        "trustchain_ca_swept_seconds",
        "When the whole record was last compared, since the Unix epoch; 0 before the first time.",
        unit="seconds",
    ),
)


class ReconcilerMetrics:
    """The series of the reconciler, bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._findings = {kind: metrics.gauge("trustchain_ca_findings", kind=kind) for kind in FINDING_KINDS}
        self._accepted = metrics.gauge("trustchain_ca_accepted_findings")
        self._followed = metrics.gauge("trustchain_ca_log_followed_entries")
        self._seen = metrics.gauge("trustchain_ca_log_seen_entries")
        self._swept = metrics.gauge("trustchain_ca_swept_seconds")

    def show_findings(self, counts: Mapping[FindingKind, int], accepted: int) -> None:
        """Tell how many findings are open, and how many are accepted."""
        self._accepted.set(accepted)
        for kind, series in self._findings.items():
            series.set(counts.get(kind, 0))

    def show_log(self, followed: int, seen: int) -> None:
        """Tell how far the log was followed."""
        self._followed.set(followed)
        self._seen.set(seen)

    def show_sweep(self, finished_at: int | None) -> None:
        """Tell when everything was compared."""
        self._swept.set(finished_at or 0)
