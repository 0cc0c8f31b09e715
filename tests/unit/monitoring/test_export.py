"""The four exporters: valid in the eyes of other programs' parsers, and the same figures in each."""

import csv
import json
import math
import re
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from monitoring.export import Exposition, MetricsExporter, UnknownFormatError, percentile_family
from monitoring.exporters.prometheus import OPEN_METRICS
from monitoring.exposition import Knowledge, exposition
from monitoring.health import HealthCheck
from monitoring.histogram import EMPTY
from monitoring.snapshot import MergedFamily, Series
from tests.unit.monitoring.snapshots import SETTINGS, START, durations, facts, slot, tree

AWKWARD = 'a "quoted"\\ value,with=all;of\tit'
Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def family(name: str, kind: str, unit: str, *samples: tuple[tuple[tuple[str, str], ...], object]) -> MergedFamily:
    series = tuple(Series(name, kind, unit, f"Help of {name}.", labels, value) for labels, value in samples)  # type: ignore[arg-type]  # kinds and values as the cases below give them
    return MergedFamily(name, kind, unit, f"Help of {name}.", series)  # type: ignore[arg-type]  # as above


FAMILIES = (
    family("trustchain_ca_requests_total", "counter", "", ((("result", "ok"),), 7), ((("result", "error"),), 0)),
    family("trustchain_ca_requests_seconds", "histogram", "seconds", ((), durations(3, 50).merged(durations(90, 2)))),
    family("trustchain_idle_seconds", "histogram", "seconds", ((), EMPTY)),
    family("trustchain_cpu_seconds_total", "counter", "seconds", ((), 1.25)),
    family("trustchain_depth", "gauge", "", ((("kind", AWKWARD),), -0.5)),
)


def whole() -> Exposition:
    """An exposition with these families and everything that monitoring adds."""
    status = HealthCheck(SETTINGS).evaluate(tree(START, slot("ca", START, restarts=2)), facts(START), START)
    known = Knowledge(
        unix_time=1_760_000_000.5, version="1.2.3", python="3.11.7", uptime_seconds=60.0, status=status,
        families=FAMILIES, facts=facts(START), supervisor_pid=99, alerts={"warning": 1}, availability={"ca": 0.995},
    )  # fmt: skip
    return exposition(known)


def text(name: str) -> str:
    return MetricsExporter().export(whole(), name).body.decode()


def labels_of(found: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(found.items()))


def from_json() -> Figures:
    figures: Figures = {}
    for name, found in json.loads(text("json"))["metrics"].items():
        for series in found["series"]:
            for figure in ("value", "count", "sum"):
                if figure in series:
                    figures[name if figure == "value" else f"{name}_{figure}", labels_of(series["labels"])] = series[
                        figure
                    ]
    return figures


def from_prometheus(parse: Callable[[str], object], body: str) -> Figures:
    samples = (sample for found in parse(body) for sample in found.samples)  # type: ignore[attr-defined]  # its author left the parser untyped
    return {(s.name, labels_of(s.labels)): s.value for s in samples if not s.name.endswith("_bucket")}


def read_labels(told: str) -> tuple[tuple[str, str], ...]:
    """Labels from `{name="value",...}`."""
    escapes = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
    pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', told)
    return labels_of({name: re.sub(r"\\.", lambda found: escapes[found[0]], value) for name, value in pairs})


def from_csv() -> Figures:
    figures: Figures = {}
    for row in csv.DictReader(text("csv").splitlines()):
        name = row["name"] if row["figure"] == "value" else f"{row['name']}_{row['figure']}"
        figures[name, read_labels(row["labels"])] = float(row["value"])
    return figures


def from_plaintext() -> Figures:
    figures: Figures = {}
    for line in text("plaintext").splitlines():
        if not (parts := re.fullmatch(r"(trustchain_\w+)(\{.*\})? +(\S.*)", line)):
            continue
        for word in parts[3].split():
            figure, _, value = word.rpartition("=")
            figures[f"{parts[1]}_{figure}".rstrip("_"), read_labels(parts[2] or "")] = float(value)
    return figures


def test_all_four_formats_carry_the_same_figures() -> None:
    figures = from_json()
    assert len(figures) > 40
    assert from_prometheus(parse_prometheus, text("prometheus")) == figures
    assert from_csv() == figures
    assert from_plaintext() == figures


def test_open_metrics_says_the_same_to_its_own_parser() -> None:
    rendered = MetricsExporter().negotiated(whole(), OPEN_METRICS)
    body = rendered.body.decode()
    assert rendered.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith("# EOF\n")
    assert from_prometheus(parse_open_metrics, body) == from_json()
    assert "# TYPE trustchain_ca_requests counter\n" in body
    assert "# UNIT trustchain_ca_requests_seconds seconds\n" in body
    assert "# TYPE trustchain_build info\n" in body


def test_promtool_has_nothing_to_say(require_peer: Callable[[str], str]) -> None:
    promtool = require_peer("promtool")
    body = MetricsExporter().export(whole(), "prometheus").body
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_histogram_has_rising_buckets_that_end_at_its_count() -> None:
    lines = [line for line in text("prometheus").splitlines() if line.startswith("trustchain_ca_requests_seconds_")]
    counts = [int(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert lines[-3].endswith('le="+Inf"} 52')
    assert lines[-1] == "trustchain_ca_requests_seconds_count 52"
    assert 'trustchain_ca_requests_seconds_bucket{le="0.0025"} 0' in lines
    assert 'trustchain_ca_requests_seconds_bucket{le="0.005"} 50' in lines
    assert 'trustchain_ca_requests_seconds_bucket{le="0.1"} 52' in lines


def test_percentiles_are_gauges_beside_the_histogram_and_absent_while_it_is_empty() -> None:
    figures = from_json()
    name = "trustchain_ca_requests_percentile_seconds"
    p50, p95, p99 = (figures[name, (("percentile", percent),)] for percent in ("50", "95", "99"))
    assert p50 == pytest.approx(0.003, rel=0.13)
    assert p50 <= p95 <= p99
    assert p99 == pytest.approx(0.09, rel=0.13)
    assert not [key for key in figures if key[0].startswith("trustchain_idle_percentile")]
    assert json.loads(text("json"))["metrics"]["trustchain_idle_seconds"]["series"][0]["p99"] is None


def test_a_histogram_without_a_unit_has_percentiles_too() -> None:
    found = percentile_family(family("trustchain_batch_size", "histogram", "", ((), durations(1e-6, 3))))
    assert found is not None
    assert found.name == "trustchain_batch_size_percentile"
    assert found.series[0].value == pytest.approx(1.0, abs=1)


def test_what_monitoring_knows_itself_is_told() -> None:
    figures = from_json()
    assert figures["trustchain_health_score", (("component", "ca"),)] == 0.96
    assert figures["trustchain_health_score", (("component", "overall"),)] == 0.96
    assert figures["trustchain_build_info", (("python_version", "3.11.7"), ("version", "1.2.3"))] == 1
    assert figures["trustchain_uptime_seconds", ()] == 60.0
    assert figures["trustchain_alerts_firing", (("severity", "warning"),)] == 1
    assert figures["trustchain_alerts_firing", (("severity", "critical"),)] == 0
    worker = (("index", "0"), ("service", "ca"))
    assert figures["trustchain_worker_up", worker] == 1
    assert figures["trustchain_worker_restarts_total", worker] == 2
    assert figures["trustchain_process_resident_memory_bytes", worker] == 50_000_000
    assert figures["trustchain_process_threads", (("index", "0"), ("service", "supervisor"))] == 2
    assert figures["trustchain_availability_ratio", (("component", "ca"),)] == 0.995


def test_the_name_of_monitorings_own_metric_cannot_be_taken_by_a_worker() -> None:
    status = HealthCheck(SETTINGS).evaluate(tree(START), facts(START), START)
    imposter = family("trustchain_uptime_seconds", "gauge", "seconds", ((), -1.0))
    known = Knowledge(unix_time=0.0, version="1", python="3", uptime_seconds=5.0, status=status, families=(imposter,))
    (found,) = (each for each in exposition(known).families if each.name == "trustchain_uptime_seconds")
    assert found.series[0].value == 5.0


@pytest.mark.parametrize(
    ("value", "prometheus", "in_json"),
    [
        (math.nan, "NaN", "null"),
        (math.inf, "+Inf", "null"),
        (-math.inf, "-Inf", "null"),
        (2**63, str(2**63), str(2**63)),
    ],
)
def test_values_that_are_no_plain_numbers_survive(value: float, prometheus: str, in_json: str) -> None:
    odd = Exposition(0.0, "1", (family("trustchain_odd", "gauge", "", ((), value)),))
    assert f"trustchain_odd {prometheus}\n".encode() in MetricsExporter().export(odd, "prometheus").body
    assert f'"value":{in_json}}}'.encode() in MetricsExporter().export(odd, "json").body


def test_the_default_format_is_the_one_given() -> None:
    assert MetricsExporter("csv").export(whole()).content_type.startswith("text/csv")
    assert MetricsExporter().export(whole()).content_type == "application/json"


def test_there_are_four_formats_and_an_unknown_one_is_refused_by_naming_them() -> None:
    assert MetricsExporter().formats == ("csv", "json", "plaintext", "prometheus")
    with pytest.raises(UnknownFormatError, match="unknown format 'xml': use one of csv, json, plaintext, prometheus"):
        MetricsExporter().export(whole(), "xml")
    with pytest.raises(UnknownFormatError):
        MetricsExporter("xml")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4"),
        ("application/json", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.6", "application/json"),
        ("application/json;q=0, text/csv", "text/csv"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         "application/openmetrics-text"),
        ("text/plain, application/openmetrics-text;q=0.9", "text/plain; version=0.0.4"),
        ("application/json;q=nonsense", "text/plain; version=0.0.4"),
        (";;;,,,q=1;", "text/plain; version=0.0.4"),
        ("application/json;q=0.1" + ",a/b" * 5000, "application/json"),
    ],
)  # fmt: skip
def test_the_accept_header_chooses(accept: str, content_type: str) -> None:
    assert MetricsExporter().negotiated(whole(), accept).content_type.startswith(content_type)
