"""CSV (RFC 4180): one row for each figure, for spreadsheets and scripts.

Columns: time (unix seconds), name, type, unit, labels (as in Prometheus text), figure (`value`, or `count` and `sum` of
a histogram), value.
"""

import csv
import io
from collections.abc import Iterator

from monitoring.export import Exposition, Rendered, count_and_sum, label_text
from monitoring.histogram import HistogramValue
from monitoring.snapshot import Series

COLUMNS = ("time", "name", "type", "unit", "labels", "figure", "value")


class CsvExporter:
    """Rows for spreadsheets."""

    name = "csv"
    media_types = ("text/csv",)

    def render(self, exposition: Exposition, media_type: str) -> Rendered:  # noqa: ARG002 - there is one variant
        """Render a header and the rows."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for family in exposition.families:
            for series in family.series:
                head = (exposition.unix_time, family.name, family.kind, family.unit, label_text(series.labels))
                writer.writerows((*head, figure, value) for figure, value in _figures(series))
        return Rendered("text/csv; charset=utf-8; header=present", text.getvalue().encode())


def _figures(series: Series) -> Iterator[tuple[str, float]]:
    if not isinstance(series.value, HistogramValue):
        yield "value", series.value
        return
    count, total = count_and_sum(series.value, series.unit)
    yield "count", count
    yield "sum", total


EXPORTER = CsvExporter()
