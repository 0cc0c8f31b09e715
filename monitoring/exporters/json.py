"""JSON: one object, families in the order of their names; a value that is no number is null.

The shape, by example:

    {"time": 1760000000.5, "version": "0.1.0", "metrics": {
      "trustchain_uptime_seconds": {"type": "gauge", "unit": "seconds", "help": "...", "series": [
        {"labels": {}, "value": 12.5}]},
      "trustchain_ca_requests_seconds": {"type": "histogram", "unit": "seconds", "help": "...", "series": [
        {"labels": {}, "count": 2, "sum": 0.004, "p50": 0.002, "p95": 0.002, "p99": 0.002}]}}}

Percentiles are null while nothing was recorded.
"""

import msgspec

from monitoring.export import Exposition, Rendered, count_and_sum, percentiles
from monitoring.histogram import HistogramValue
from monitoring.snapshot import Series


class JsonExporter:
    """JSON for programs."""

    name = "json"
    media_types = ("application/json",)

    def render(self, exposition: Exposition, media_type: str) -> Rendered:  # noqa: ARG002 - there is one variant
        """Render as one line."""
        metrics = {
            family.name: {
                "type": family.kind,
                "unit": family.unit,
                "help": family.help,
                "series": [_series(series) for series in family.series],
            }
            for family in exposition.families
        }
        document = {"time": exposition.unix_time, "version": exposition.version, "metrics": metrics}
        return Rendered("application/json", msgspec.json.encode(document) + b"\n")


def _series(series: Series) -> dict[str, object]:
    labels = dict(series.labels)
    if not isinstance(series.value, HistogramValue):
        return {"labels": labels, "value": series.value}
    count, total = count_and_sum(series.value, series.unit)
    found = {f"p{percent}": value for percent, value in percentiles(series.value, series.unit).items()}
    return {"labels": labels, "count": count, "sum": total, **found}


EXPORTER = JsonExporter()
