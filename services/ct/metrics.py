"""What the log records about itself.

`trustchain_ct_requests` is its main operation, one submission from arrival to SCT: its results and its duration are
what the health of this service is judged by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

from monitoring.metrics import Metrics, Timing, counter, gauge, histogram, operation
from services.ct.messages import METHODS, Refusal, RefusalKind
from services.rfc6962.verifier import TreeHead

QUERIES: Final = tuple(method for method in METHODS if method != "add")
STEPS: Final = ("commit", "publish")

FAMILIES: Final = (
    *operation("trustchain_ct_requests", "Submissions to the log"),
    *operation("trustchain_ct_queries", "Questions to the log", labels={"method": QUERIES}),
    counter("trustchain_ct_entries_total", "Entries taken into the tree."),
    counter("trustchain_ct_duplicates_total", "Submissions of what was in the tree, or on its way, already."),
    counter("trustchain_ct_refusals_total", "Requests refused, by reason.", labels={"kind": get_args(RefusalKind)}),
    histogram("trustchain_ct_batch_entries", "Entries in one commit.", unit=""),
    histogram("trustchain_ct_storage_seconds", "One step of sequencing on the disk.", labels={"step": STEPS}),
    gauge("trustchain_ct_tree_size", "Entries in the published tree."),
    gauge(
        "trustchain_ct_tree_head_timestamp_seconds",
        "Time of the published tree head, since the Unix epoch.",
        unit="seconds",
        merge="min",
    ),
    gauge("trustchain_ct_accepted_roots", "Roots at which chains may end."),
)


class LogMetrics:
    """The series of this service, bound once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._entries = metrics.counter("trustchain_ct_entries_total").inc
        self.duplicate = metrics.counter("trustchain_ct_duplicates_total").inc
        self.roots = metrics.gauge("trustchain_ct_accepted_roots")
        self._refused = {
            kind: metrics.counter("trustchain_ct_refusals_total", kind=kind).inc for kind in get_args(RefusalKind)
        }
        self._batch = metrics.histogram("trustchain_ct_batch_entries")
        self._steps = {step: metrics.histogram("trustchain_ct_storage_seconds", step=step) for step in STEPS}
        self._size = metrics.gauge("trustchain_ct_tree_size")
        self._head = metrics.gauge("trustchain_ct_tree_head_timestamp_seconds")

    def request(self) -> Timing:
        """Times one submission and counts how it ended."""
        return self._metrics.operation("trustchain_ct_requests")

    def query(self, method: str) -> Timing:
        """Times one question and counts how it ended."""
        return self._metrics.operation("trustchain_ct_queries", method=method)

    def committed(self, entries: int, elapsed_ns: int) -> None:
        """A batch is durable."""
        self._entries(entries)
        self._batch.record(entries)
        self._steps["commit"].record(elapsed_ns)

    def published(self, head: TreeHead, elapsed_ns: int) -> None:
        """A head may be told."""
        self._steps["publish"].record(elapsed_ns)
        self.show_head(head)

    def show_head(self, head: TreeHead) -> None:
        """Tell how large the tree is, and how old its head."""
        self._size.set(head.size)
        self._head.set(head.timestamp / 1000)

    @contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Count the refusal that ends the block, if one does."""
        try:
            yield
        except Refusal as refusal:
            self._refused[refusal.kind]()
            raise
