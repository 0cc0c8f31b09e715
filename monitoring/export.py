"""MetricsExporter: one exposition, as many text formats as there are modules in `monitoring.exporters` (pure).

A format is one module there with one `EXPORTER` that satisfies `Exporter`: to add a fifth, add a file. All of them
render the same `Exposition`, so they carry the same figures.

Percentiles come from the merged histograms, whose buckets are at most 12.5 % wide. They are a family of gauges of their
own beside each histogram, `<name>_percentile_<unit>{percentile="99"}`: the `le` ladder of the Prometheus formats is too
coarse to compute them from, and promtool reserves the label `quantile` for summaries.
"""

import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final, Protocol

from monitoring import exporters
from monitoring.histogram import HistogramValue, scale_of
from monitoring.snapshot import MergedFamily, Series

PERCENTILES: Final = (50, 95, 99)
MAX_ACCEPT_ITEMS: Final = 32


class UnknownFormatError(ValueError):
    """No exporter has that name; the text lists those that exist."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """Everything that can be told at `unix_time` (seconds): families sorted by name, each name once."""

    unix_time: float
    version: str
    families: tuple[MergedFamily, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One exposition as text, and the value for `Content-Type`."""

    content_type: str
    body: bytes


class Exporter(Protocol):
    """One text format. `media_types` are those that an `Accept` header selects it by, the preferred one first."""

    name: str
    media_types: tuple[str, ...]

    def render(self, exposition: Exposition, media_type: str) -> Rendered:
        """Render in the variant of `media_type`, or in the format's own when that is empty."""
        ...


def count_and_sum(value: HistogramValue, unit: str) -> tuple[int, float]:
    """Return how many values a histogram holds, and their sum in the exported unit."""
    return value.count, _scaled(value.sum, unit)


def percentiles(value: HistogramValue, unit: str) -> Mapping[int, float | None]:
    """Return the percentiles of a histogram in the exported unit; None while it is empty."""
    found = {percent: value.quantile(percent / 100) for percent in PERCENTILES}
    return {percent: None if each is None else _scaled(each, unit) for percent, each in found.items()}


def _scaled(recorded: float, unit: str) -> float:
    # Nanoseconds are the finest there is: what floating point adds beyond them is noise in every format.
    return round(recorded * scale_of(unit), 9)


def percentile_family(family: MergedFamily) -> MergedFamily | None:
    """Return the gauges for the percentiles of a histogram family; None while nothing was recorded in it."""
    stem = family.name.removesuffix(f"_{family.unit}") if family.unit else family.name
    name = "_".join(part for part in (stem, "percentile", family.unit) if part)
    told = f"{family.help.rstrip('.')}: percentiles."
    series = [
        Series(name, "gauge", family.unit, told, (*each.labels, ("percentile", str(percent))), value)
        for each in family.series
        if isinstance(each.value, HistogramValue)
        for percent, value in percentiles(each.value, family.unit).items()
        if value is not None
    ]
    return MergedFamily(name, "gauge", family.unit, told, tuple(series)) if series else None


def escaped(text: str) -> str:
    """Escape a label value as the Prometheus text format demands."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Write labels as `{name="value",...}`, nothing for none."""
    inner = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


class MetricsExporter:
    """Renders expositions. `default` is the format where none is asked for."""

    def __init__(self, default: str = "json") -> None:
        """Raises UnknownFormatError."""
        self._exporters = _discovered()
        self._default = self._named(default).name

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of all formats."""
        return tuple(self._exporters)

    def export(self, exposition: Exposition, format_name: str = "") -> Rendered:
        """Render in the format of that name, or in the default one. Raises UnknownFormatError."""
        return self._named(format_name or self._default).render(exposition, "")

    def negotiated(self, exposition: Exposition, accept: str) -> Rendered:
        """Render in the format that an `Accept` header likes best; Prometheus text if it likes none of ours."""
        offered = {media: exporter for exporter in self._exporters.values() for media in exporter.media_types}
        for media in _preferences(accept):
            if media in offered:
                return offered[media].render(exposition, media)
        return self._named("prometheus").render(exposition, "")

    def _named(self, name: str) -> Exporter:
        if name not in self._exporters:
            raise UnknownFormatError(f"unknown format {name[:40]!r}: use one of {', '.join(self._exporters)}")
        return self._exporters[name]


@cache
def _discovered() -> Mapping[str, Exporter]:
    found = (
        import_module(f"{exporters.__name__}.{module.name}") for module in pkgutil.iter_modules(exporters.__path__)
    )
    by_name: dict[str, Exporter] = {module.EXPORTER.name: module.EXPORTER for module in found}
    return dict(sorted(by_name.items()))


def _preferences(accept: str) -> list[str]:
    """Media types of an `Accept` header (RFC 9110, 12.5.1) without wildcards, the most wanted first."""
    weighted = []
    for item in accept.split(",")[:MAX_ACCEPT_ITEMS]:
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            quality = float(weight)
        except ValueError:
            quality = 0.0
        if "*" not in media and 0.0 < quality <= 1.0:
            weighted.append((quality, media))
    return [media for _, media in sorted(weighted, key=lambda pair: -pair[0])]
