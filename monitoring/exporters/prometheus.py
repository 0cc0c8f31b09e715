"""Prometheus text format 0.0.4, and OpenMetrics 1.0 where it is asked for.

https://prometheus.io/docs/instrumenting/exposition_formats and https://prometheus.io/docs/specs/om/open_metrics_spec.
The two differ in how counters are named in `# TYPE`, in `# UNIT`, in info metrics and in the final `# EOF`.
"""

from collections.abc import Iterator
from math import isinf, isnan
from typing import Final

from monitoring.export import Exposition, Rendered, count_and_sum, label_text
from monitoring.histogram import HistogramValue
from monitoring.snapshot import MergedFamily, Series

TEXT: Final = "text/plain"
OPEN_METRICS: Final = "application/openmetrics-text"
_CONTENT_TYPES: Final = {
    TEXT: "text/plain; version=0.0.4; charset=utf-8",
    OPEN_METRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}


class PrometheusExporter:
    """Text for a Prometheus server, or anything else that scrapes."""

    name = "prometheus"
    media_types = (TEXT, OPEN_METRICS)

    def render(self, exposition: Exposition, media_type: str) -> Rendered:
        """Render as OpenMetrics for its media type, else as Prometheus text."""
        open_metrics = media_type == OPEN_METRICS
        lines: list[str] = []
        for family in exposition.families:
            lines += _family(family, open_metrics)
        if open_metrics:
            lines.append("# EOF")
        text = "\n".join(lines) + "\n"
        return Rendered(_CONTENT_TYPES[OPEN_METRICS if open_metrics else TEXT], text.encode())


def _family(family: MergedFamily, open_metrics: bool) -> Iterator[str]:
    if not family.series:
        return
    name, kind = family.name, str(family.kind)
    told = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if open_metrics:
        told = told.replace('"', '\\"')
        if kind == "counter":
            name = name.removesuffix("_total")
        elif name.endswith("_info"):
            name, kind = name.removesuffix("_info"), "info"
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    if open_metrics and family.unit:
        yield f"# UNIT {name} {family.unit}"
    for series in family.series:
        yield from _series(series)


def _series(series: Series) -> Iterator[str]:
    value = series.value
    if not isinstance(value, HistogramValue):
        yield f"{series.name}{label_text(series.labels)} {_number(value)}"
        return
    whole, total = count_and_sum(value, series.unit)
    for le, count in value.classic(series.unit):
        yield f"{series.name}_bucket{label_text((*series.labels, ('le', repr(le))))} {count}"
    yield f"{series.name}_bucket{label_text((*series.labels, ('le', '+Inf')))} {whole}"
    yield f"{series.name}_sum{label_text(series.labels)} {_number(total)}"
    yield f"{series.name}_count{label_text(series.labels)} {whole}"


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


EXPORTER = PrometheusExporter()
