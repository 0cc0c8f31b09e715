"""The write side of monitoring: what a service records, stored in its slot of the metrics block.

Every series is fixed when `Metrics` is made, so recording is one or two stores into shared memory: no lock, no system
call, nothing that grows. One process writes. Its threads may record too as long as the interpreter has a global lock,
because none of these methods can be interrupted between load and store there.

    FAMILIES = (
        *operation("trustchain_ca_requests", "Certificate requests"),
        gauge("trustchain_ca_queue_length", "Requests waiting."),
    )
    metrics = Metrics(slot_writer, (*WORKER_FAMILIES, *FAMILIES))
    queue = metrics.gauge("trustchain_ca_queue_length")        # bind once, outside the hot path
    queue.set(3)
    with metrics.operation("trustchain_ca_requests"):          # times the block and counts how it ended
        ...
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from time import monotonic_ns
from types import TracebackType
from typing import Protocol, Self, get_args

from monitoring.families import (
    DeclarationError,
    Family,
    Kind,
    Labels,
    Result,
    Table,
    counter,
    gauge,
    histogram,
    operation,
)
from monitoring.histogram import BUCKETS, FIRST_BUCKETS, SHIFTS, HistogramValue
from monitoring.layout import SLOT_STRIDE
from monitoring.slot import SlotMemory

__all__ = (
    "PROBE_RESULTS",
    "WORKER_FAMILIES",
    "Counter",
    "DeclarationError",
    "Family",
    "Gauge",
    "Histogram",
    "Metrics",
    "Result",
    "UnknownSeries",
    "counter",
    "gauge",
    "histogram",
    "operation",
)

PROBE_RESULTS = ("pass", "fail_own", "fail_dependency", "fail_environment")
"""Lower-case names of the known ProbeState values, in their order."""

WORKER_FAMILIES = (
    histogram("trustchain_worker_event_loop_lag_seconds", "How late the event loop wakes up.", per_service=True),
    histogram("trustchain_worker_probe_seconds", "Duration of the worker's test of itself.", per_service=True),
    counter(
        "trustchain_worker_probes_total",
        "Tests of the worker by itself, by result.",
        labels={"result": PROBE_RESULTS},
        per_service=True,
    ),
)
"""Declared by every worker, beside the families of its service."""

_WORD = 0xFFFFFFFFFFFFFFFF

_OperationKey = str | tuple[str, ...]


class UnknownSeries(LookupError):
    """Nothing of that name, kind or label value was declared; the text names what was."""


class Store(Protocol):
    """Where the cells live: a slot of the block, or plain memory."""

    words: "memoryview[int]"
    floats: "memoryview[float]"

    def view(self, first: int, count: int) -> "memoryview[int]":
        """Some of the words."""
        ...

    def publish_table(self, text: bytes, cells: int) -> bool:
        """Publish the table; True if the cells go on from those of a predecessor."""
        ...


class Increment(Protocol):
    """Adds `n`; raises ValueError if it is negative."""

    def __call__(self, n: int = 1) -> None:
        """Add `n`."""
        ...


# Counters and histograms record through closures: these reach their cells faster than a method reaches attributes, and
# with the running totals at hand a record reads no shared memory. Nothing else writes a series, so nothing is missed.


class Counter:
    """A count that only grows."""

    __slots__ = ("_cell", "_words", "inc")

    inc: Increment
    """Add `n` (nanoseconds for a counter of seconds), 1 by default. Raises ValueError for a negative `n`."""

    def __init__(self, store: Store, cell: int) -> None:
        """Bind to one cell."""
        self._words = store.words
        self._cell = cell
        self.inc = _increment(store.words, cell)

    @property
    def value(self) -> int:
        """What the block holds now."""
        return self._words[self._cell]


def _increment(words: "memoryview[int]", cell: int) -> Increment:
    total = words[cell]

    def inc(n: int = 1) -> None:
        nonlocal total
        if n < 0:
            raise ValueError("a counter cannot go down")
        total += n
        try:
            words[cell] = total
        except ValueError:
            # Past 2**64 a counter starts again, which every consumer of counters understands as a reset.
            total &= _WORD
            words[cell] = total

    return inc


class Gauge:
    """A value that goes up and down, in its exported unit."""

    __slots__ = ("_cell", "_floats")

    def __init__(self, store: Store, cell: int) -> None:
        """Bind to one cell."""
        self._floats = store.floats
        self._cell = cell

    def set(self, value: float) -> None:
        """Replace the value."""
        self._floats[self._cell] = value

    def inc(self, by: float = 1.0) -> None:
        """Raise the value."""
        self._floats[self._cell] += by

    def dec(self, by: float = 1.0) -> None:
        """Lower the value."""
        self._floats[self._cell] -= by

    @property
    def value(self) -> float:
        """What the block holds now."""
        return self._floats[self._cell]


class Histogram:
    """A distribution of integers: nanoseconds for seconds, bytes for bytes."""

    __slots__ = ("_cell", "_store", "record")

    record: Callable[[int], None]
    """Count one value; one below 0 counts as 0."""

    def __init__(self, store: Store, cell: int) -> None:
        """Bind to the cells from `cell` on."""
        self._store = store
        self._cell = cell
        self.record = _recorder(store, cell)

    @property
    def value(self) -> HistogramValue:
        """What the block holds now."""
        first = self._cell + 1
        return HistogramValue(self._store.floats[self._cell], tuple(self._store.words[first : first + BUCKETS]))


def _recorder(store: Store, cell: int) -> Callable[[int], None]:
    """Finds the bucket as monitoring.histogram.bucket_of does, without the cost of calling it.

    The list has the counts that the block has: reading a list costs a quarter of reading a memoryview. Each sum is
    made and stored in one statement, because a name in between costs as much as the sum.
    """
    floats, buckets = store.floats, store.view(cell + 1, BUCKETS)
    first_buckets, shifts, last = FIRST_BUCKETS, SHIFTS, BUCKETS - 1
    counts = buckets.tolist()
    total = floats[cell]

    def record(value: int) -> None:
        nonlocal total
        if value < 0:  # noqa: PLR1730 - max() would cost a fifth of the whole
            value = 0
        try:
            bits = value.bit_length()
            bucket = first_buckets[bits] + (value >> shifts[bits])
        except IndexError:
            bucket = last
        counts[bucket] = buckets[bucket] = counts[bucket] + 1
        floats[cell] = total = total + value

    return record


class Operation:
    """The histogram and the counters of one timed operation, with its label values bound."""

    __slots__ = ("count", "time")

    def __init__(self, seconds: Histogram, totals: dict[Result, Counter]) -> None:
        """`totals` holds a counter for each result."""
        self.time = seconds.record
        self.count = {result: total.inc for result, total in totals.items()}

    def record(self, elapsed_ns: int, result: Result) -> None:
        """Count one operation that took `elapsed_ns`."""
        self.time(elapsed_ns)
        self.count[result]()


class Timing:
    """One run of an operation, as a context manager; a new one for each run, so that runs may overlap.

    The clock starts when it is made. Counts as "ok", or as "rejected" when it ends by an exception with the attribute
    `counts_as = "rejected"`, or as "error" for any other exception. Set `result` inside the block where the outcome is
    not told by an exception.
    """

    __slots__ = ("_operation", "_started_ns", "result")

    def __init__(self, operation: Operation) -> None:
        """Start the clock."""
        self._operation = operation
        self.result: Result = "ok"
        self._started_ns = monotonic_ns()

    def __enter__(self) -> Self:
        """Nothing is left to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record duration and result; the exception goes on."""
        operation = self._operation
        operation.time(monotonic_ns() - self._started_ns)
        if error is not None:
            self.result = "rejected" if getattr(error, "counts_as", None) == "rejected" else "error"
        operation.count[self.result]()


class Metrics:
    """All series of one worker. Counters and histograms go on where its predecessor stopped; gauges start at 0."""

    def __init__(self, store: Store, families: Iterable[Family]) -> None:
        """Publish the table of `families`. Raises DeclarationError, or BlockError if the store is too small."""
        table = Table.of(families)
        self.continued = store.publish_table(table.text, table.cells)
        """False if there was no predecessor, or it had other metrics."""
        self._families = {family.name: family for family in table.families}
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._gauges: dict[tuple[str, Labels], Gauge] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._operations: dict[_OperationKey, Operation] = {}
        for series in table.series:
            key = (series.family.name, series.labels)
            if series.family.kind == "counter":
                self._counters[key] = Counter(store, series.cell)
            elif series.family.kind == "histogram":
                self._histograms[key] = Histogram(store, series.cell)
            else:
                self._gauges[key] = Gauge(store, series.cell)
                self._gauges[key].set(0.0)

    @classmethod
    def prepare(cls, families: Iterable[Family]) -> None:
        """Do what making `Metrics` of these families takes, once, in the process whose children will make them."""
        Table.of(families)

    @classmethod
    def in_memory(cls, families: Iterable[Family]) -> "Metrics":
        """Metrics in the same cells without a block, for tests."""
        return cls(SlotMemory(bytearray(SLOT_STRIDE), generation=1), families)

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter `name` with these label values. Raises UnknownSeries."""
        return self._counters[self._key("counter", name, labels)]

    def gauge(self, name: str, **labels: str) -> Gauge:
        """The gauge `name` with these label values. Raises UnknownSeries."""
        return self._gauges[self._key("gauge", name, labels)]

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram `name` with these label values. Raises UnknownSeries."""
        return self._histograms[self._key("histogram", name, labels)]

    def operation(self, name: str, **labels: str) -> Timing:
        """A context manager that times one run of the operation `name` and counts its result. Raises UnknownSeries."""
        key: _OperationKey = (name, *labels, *labels.values()) if labels else name
        bound = self._operations.get(key)
        if bound is None:
            bound = self._operations[key] = self.bound_operation(name, **labels)
        return Timing(bound)

    def bound_operation(self, name: str, **labels: str) -> Operation:
        """The operation `name` with these label values, for durations measured elsewhere. Raises UnknownSeries."""
        totals = {result: self.counter(f"{name}_total", **labels, result=result) for result in get_args(Result)}
        return Operation(self.histogram(f"{name}_seconds", **labels), totals)

    def _key(self, kind: Kind, name: str, labels: dict[str, str]) -> tuple[str, Labels]:
        family = self._families.get(name)
        if family is None:
            near = ", ".join(get_close_matches(name, self._families, n=2)) or "nothing similar"
            raise UnknownSeries(f"no metric {name} is declared; did you mean {near}?")
        if family.kind != kind:
            raise UnknownSeries(f"{name} is a {family.kind}, not a {kind}")
        if labels.keys() != {label for label, _ in family.labels}:
            declared = ", ".join(label for label, _ in family.labels) or "none"
            raise UnknownSeries(f"{name} has the labels: {declared}; given: {', '.join(labels) or 'none'}")
        for label, values in family.labels:
            if labels[label] not in values:
                raise UnknownSeries(
                    f"{name}: {label}={labels[label]!r} is not declared; use one of {', '.join(values)}"
                )
        return name, tuple((label, labels[label]) for label, _ in family.labels)
