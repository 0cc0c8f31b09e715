"""The export formats read back into one form: {(name, labels, figure): value}, figure being value, count or sum.

Each is read with what a user of that format would read it with: the parser of prometheus_client, json, csv, and for the
text made for people the shape of its lines.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
Figures = dict[tuple[str, Labels, str], float]

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PLAIN_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<rest>\S.*)")
_TOLD = ("value", "count", "sum")
_SINCE_DATA = "percentile"
"""The label of gauges that are absent until their histogram has counted something, and then stay."""


def from_prometheus(text: str) -> Figures:
    """Samples of histograms' buckets and of quantiles are not among the figures."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.type == "histogram":
                name, _, suffix = sample.name.rpartition("_")
                if suffix in ("count", "sum"):
                    found[name, _sorted(sample.labels), suffix] = sample.value
            elif "quantile" not in sample.labels:
                found[sample.name, _sorted(sample.labels), "value"] = sample.value
    return found


def from_json(text: str) -> Figures:
    """The JSON document of /metrics."""
    return {
        (name, _sorted(series["labels"]), figure): float(series[figure])
        for name, family in json.loads(text)["metrics"].items()
        for series in family["series"]
        for figure in _TOLD
        if series.get(figure) is not None
    }


def from_csv(text: str) -> Figures:
    """The rows of /metrics?format=csv."""
    return {
        (row["name"], _labels(row["labels"]), row["figure"]): float(row["value"])
        for row in csv.DictReader(text.splitlines())
        if row["figure"] in _TOLD and row["value"]
    }


def from_plaintext(text: str) -> Figures:
    """The lines for people."""
    return dict(_plain_figures(text))


READERS: dict[str, Callable[[str], Figures]] = {
    "prometheus": from_prometheus,
    "json": from_json,
    "csv": from_csv,
    "plaintext": from_plaintext,
}


def assert_same_figures(before: Figures, read: Mapping[str, Figures], after: Figures, still: Figures) -> None:
    """All of `read`, by name of the format and read between `before` and `after`, tell the same.

    The same series are in all, but for percentiles: one that got its first data meanwhile is in `after`, and may be in
    any of those that were read before it. What is in `still` did not move, so its values are the same everywhere.
    """
    came = {key for key in after if _SINCE_DATA in dict(key[1])} - before.keys()
    assert after.keys() - came == before.keys(), f"without cause: {(after.keys() - came) ^ before.keys()}"
    for name, figures in read.items():
        assert figures.keys() - came == before.keys(), f"{name}: {(figures.keys() - came) ^ before.keys()}"
        assert {key: figures[key] for key in still} == still, name


def _plain_figures(text: str) -> Iterator[tuple[tuple[str, Labels, str], float]]:
    for line in text.splitlines():
        matched = _PLAIN_LINE.fullmatch(line)
        if line.startswith("#") or matched is None or matched["name"] == "TrustChain":
            continue
        labels = _labels(matched["labels"] or "")
        for word in matched["rest"].split():
            figure, _, value = word.rpartition("=")
            if (figure or "value") in _TOLD and value != "-":
                yield (matched["name"], labels, figure or "value"), float(value)


def _labels(text: str) -> Labels:
    return _sorted(dict(_LABEL.findall(text)))


def _sorted(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
