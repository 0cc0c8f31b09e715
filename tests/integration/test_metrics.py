"""/metrics of a running tree: valid, the same in every format, and never falling back."""

import json
import subprocess
from collections.abc import Callable, Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.rig.figures import READERS, Figures, assert_same_figures
from tests.rig.load import Load
from tests.rig.recovery import kill, recovery
from tests.rig.signing_request import signing_request
from tests.rig.tree import SERVICES, Tree

pytestmark = pytest.mark.integration

_QUIET = {
    # Nothing of its own accord for the length of a test.
    "monitoring.collection_interval": 600,
    "monitoring.health_check_interval": 600,
    "monitoring.probe_interval": 600,
    "supervisor.verdict_max_age": 3600,
}


def test_promtool_has_nothing_to_say(tree: Tree, require_peer: Callable[[str], str]) -> None:
    promtool = require_peer("promtool")
    assert tree.issue(signing_request("metrics.example.test")).status == 201
    for accept in (None, "application/openmetrics-text; version=1.0.0"):
        text = tree.monitoring("/metrics", accept=accept).body
        if accept is None:
            checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
        else:
            families = open_metrics_families(text.decode())  # type: ignore[no-untyped-call]  # its author left it untyped
            assert list(families)


def test_four_formats_carry_the_same_figures(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(settings=_QUIET)
    tree.start_healthy()
    for _ in range(3):
        assert tree.issue(signing_request("formats.example.test")).status == 201
    before = READERS["prometheus"](tree.metrics())
    read = {name: reader(tree.monitoring(f"/metrics?format={name}").text) for name, reader in READERS.items()}
    after = READERS["prometheus"](tree.monitoring("/metrics?format=prometheus").text)
    # What moved meanwhile (uptime, CPU of the processes, heartbeats) cannot be compared between two requests.
    still = {key: value for key, value in before.items() if after.get(key) == value}
    assert len(still) > 100
    assert still["trustchain_ca_requests_total", (("result", "ok"),), "value"] >= 3
    assert_same_figures(before, read, after, still)


def test_the_formats_are_chosen_by_accept_and_by_parameter(tree: Tree) -> None:
    assert tree.monitoring("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    assert tree.monitoring("/metrics", accept="application/json").headers["content-type"] == "application/json"
    open_metrics = tree.monitoring("/metrics", accept="application/openmetrics-text").headers["content-type"]
    assert open_metrics.startswith("application/openmetrics-text")
    assert tree.monitoring("/metrics?format=csv").headers["content-type"].startswith("text/csv")
    assert tree.monitoring("/metrics?format=none-of-these").status in (400, 404, 406)


def test_counters_do_not_drop_when_workers_are_replaced(tree: Tree) -> None:
    highest: Figures = {}
    with Load(tree, issuers=1, watchers=1):
        for _ in range(3):
            for service in SERVICES:
                recovery(tree, service, tree.worker_pid(service), kill)
                for key, value in _counters(tree).items():
                    assert value >= highest.get(key, 0.0), f"{key} drops from {highest[key]} to {value}"
                    highest[key] = value
    assert highest["trustchain_ca_requests_total", (("result", "ok"),), "value"] > 0


def test_percentiles_come_with_the_histograms(tree: Tree) -> None:
    for _ in range(20):
        assert tree.issue(signing_request("percentiles.example.test")).status == 201
    series = json.loads(tree.metrics("json"))["metrics"]["trustchain_ca_requests_seconds"]["series"]
    assert any(row["count"] >= 20 and 0 < row["p50"] <= row["p95"] <= row["p99"] for row in series), series


def _counters(tree: Tree) -> Mapping[tuple[str, tuple[tuple[str, str], ...], str], float]:
    """Everything that must not fall: counters, and the buckets, counts and sums of histograms.

    What belongs to one process (its CPU time) starts anew with the next one; its families are of the process, by name.
    """
    return {
        (sample.name, tuple(sorted(sample.labels.items())), "value"): sample.value
        for family in text_string_to_metric_families(tree.monitoring("/metrics").text)
        if family.type in ("counter", "histogram") and not family.name.startswith("trustchain_process_")
        for sample in family.samples
    }
