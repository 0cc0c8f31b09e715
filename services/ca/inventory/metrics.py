"""What the certificate authority records about its inventory: what ends, what is overdue, how the record grows."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from monitoring.metrics import Metrics, Timing, counter, gauge
from services.ca.inventory.expiry import OWN_KINDS
from services.ca.inventory.growth import Growth
from services.ca.inventory.messages import ExpiryKind
from services.ca.inventory.storage import Counts, Ending

# How far ahead it is looked, in seconds, and what that is called.
HORIZONS: Final = {3_600: "1h", 86_400: "1d", 604_800: "7d", 2_592_000: "30d"}

FAMILIES: Final = (
    gauge(
        "trustchain_ca_expiring_certificates",
        "Valid certificates that end within this time, by whether another one for the same names ends later.",
        labels={"within": tuple(HORIZONS.values()), "renewed": ("yes", "no")},
    ),
    gauge(
        "trustchain_ca_renewals_overdue",
        "1 when something of this kind ends and should have been renewed by now.",
        labels={"item": OWN_KINDS},
        merge="max",
    ),
    gauge("trustchain_ca_record_rows", "Certificates on record."),
    gauge("trustchain_ca_record_bytes", "What the record takes on the disk.", unit="bytes"),
    gauge("trustchain_ca_record_growth_bytes_per_day", "How fast the record grows, at the rate of the last week."),
    gauge(
        "trustchain_ca_record_full_seconds",
        "How long until the record fills the disk at that rate; 0 when that is not known, or never.",
        unit="seconds",
    ),
    counter("trustchain_ca_certificates_deleted_total", "Certificates deleted because they expired long ago."),
)


class InventoryMetrics:
    """The series of the inventory, bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.deleted = metrics.counter("trustchain_ca_certificates_deleted_total").inc
        self._rows = metrics.gauge("trustchain_ca_record_rows")
        self._octets = metrics.gauge("trustchain_ca_record_bytes")
        self._growth = metrics.gauge("trustchain_ca_record_growth_bytes_per_day")
        self._full = metrics.gauge("trustchain_ca_record_full_seconds")

    def query(self, method: str) -> Timing:
        """Times one question and counts how it ended."""
        return self._metrics.operation("trustchain_ca_queries", method=method)

    def show_record(self, counts: Counts, growth: Growth) -> None:
        """Tell how large the record is and how it grows."""
        self._rows.set(counts.issued)
        self._octets.set(counts.used + counts.unused)
        self._growth.set(growth.octets_per_day)
        self._full.set(0.0 if growth.full_after is None else max(1.0, growth.full_after))

    def show_ending(self, endings: Iterable[Ending]) -> None:
        """Tell how many certificates end soon."""
        for ending in endings:
            for renewed, number in (("yes", ending.certificates - ending.unrenewed), ("no", ending.unrenewed)):
                series = self._metrics.gauge(
                    "trustchain_ca_expiring_certificates", within=HORIZONS[ending.seconds], renewed=renewed
                )
                series.set(number)

    def show_overdue(self, kinds: Collection[ExpiryKind]) -> None:
        """Tell which kinds of what ends should have been renewed by now."""
        for kind in OWN_KINDS:
            self._metrics.gauge("trustchain_ca_renewals_overdue", item=kind).set(1 if kind in kinds else 0)
