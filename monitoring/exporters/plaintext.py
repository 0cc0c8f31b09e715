"""Plain text for people: each family under its help text, figures aligned."""

from collections.abc import Iterator

from monitoring.export import Exposition, Rendered, count_and_sum, label_text
from monitoring.histogram import HistogramValue
from monitoring.snapshot import MergedFamily, Series


class PlaintextExporter:
    """Text to read in a terminal."""

    name = "plaintext"
    media_types = ()

    def render(self, exposition: Exposition, media_type: str) -> Rendered:  # noqa: ARG002 - there is one variant
        """Render a paragraph for each family."""
        paragraphs = [_family(family) for family in exposition.families if family.series]
        text = "\n".join([f"TrustChain {exposition.version}\n", *paragraphs])
        return Rendered("text/plain; charset=utf-8", text.encode())


def _family(family: MergedFamily) -> str:
    names = [f"{family.name}{label_text(series.labels)}" for series in family.series]
    width = max(len(name) for name in names)
    unit = f" [{family.unit}]" if family.unit else ""
    lines = [f"# {family.help}{unit}"]
    for name, series in zip(names, family.series, strict=True):
        lines.append(f"{name:<{width}}  {'  '.join(_figures(series))}")
    return "\n".join(lines) + "\n"


def _figures(series: Series) -> Iterator[str]:
    if not isinstance(series.value, HistogramValue):
        yield repr(series.value)
        return
    count, total = count_and_sum(series.value, series.unit)
    yield f"count={count}"
    yield f"sum={total!r}"


EXPORTER = PlaintextExporter()
