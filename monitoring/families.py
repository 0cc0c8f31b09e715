"""Declaration of metric families, and the table that describes them in a worker's slot. Pure.

A family is declared once, with every value each of its labels may take, so the series of a worker are fixed before it
starts and can never grow. Names follow the rules that `promtool check metrics` applies: snake_case, prefix
`trustchain_`, base units as suffix (`_seconds`, `_bytes`, `_ratio`), `_total` for counters and only for them.

The table is JSON text: a list of families in cell order. The series of a family are the product of its label values,
the last label varying fastest. A counter or gauge takes one cell (u64, f64); a histogram takes its sum (f64), then its
buckets (u64). Counters and histograms of seconds hold nanoseconds.
"""

# ruff: noqa: A002 - `help` is the exposition formats' own word for it

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Literal, get_args

import msgspec

from monitoring import histogram as log_linear
from monitoring.layout import CELL_CAPACITY, TABLE_CAPACITY

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]
Labels = tuple[tuple[str, str], ...]

MAX_SERIES = 1024
MAX_LABEL_VALUES = 64
MAX_TEXT = 200
UNITS = ("", "seconds", "bytes", "ratio")
Result = Literal["ok", "rejected", "error"]
"""How an operation ended: done, refused for the caller's fault, failed for our own."""

_NAME = re.compile(r"trustchain(_[a-z0-9]+)+")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED_LABELS = frozenset(("le", "quantile", "job", "instance"))
_RESERVED_SUFFIXES = ("_total", "_sum", "_count", "_bucket", "_created", "_info")
_FORBIDDEN_PARTS = frozenset(
    (
        "counter",
        "gauge",
        "histogram",
        "summary",
        "s",
        "ms",
        "us",
        "ns",
        "sec",
        "m",
        "h",
        "d",
        "milliseconds",
        "microseconds",
        "nanoseconds",
        "minutes",
        "hours",
        "days",
        "weeks",
        "b",
        "kb",
        "mb",
        "gb",
        "tb",
        "pb",
        "bits",
        "percent",
        "kilobytes",
        "megabytes",
        "gigabytes",
        "kibibytes",
        "mebibytes",
        "gibibytes",
    )
)


class DeclarationError(ValueError):
    """A metric is declared in a way that cannot be stored or exported; the text says what to change."""


class TableDamaged(ValueError):
    """The text in a slot is not a metric table."""


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One declared family. Raises DeclarationError for a name, unit or label that breaks the rules above."""

    name: str
    kind: Kind
    help: str
    unit: str = ""
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    merge: Merge = "sum"
    """How the gauges of several workers of one service become one value."""
    per_service: bool = False
    """Declared by workers of several services: merged series carry a `service` label."""

    def __post_init__(self) -> None:
        _check_name(self.name, self.kind, self.unit)
        if not self.help.strip() or len(self.help) > MAX_TEXT or not self.help.isprintable():
            raise DeclarationError(f"{self.name}: help must be one line of 1 to {MAX_TEXT} characters")
        if self.merge != "sum" and self.kind != "gauge":
            raise DeclarationError(f"{self.name}: only a gauge can be merged by {self.merge}")
        _check_labels(self)

    @property
    def series_count(self) -> int:
        """How many series the label values span."""
        return prod(len(values) for _, values in self.labels)

    @property
    def cells_each(self) -> int:
        """Cells taken by one series."""
        return log_linear.CELLS if self.kind == "histogram" else 1

    @property
    def exported_names(self) -> tuple[str, ...]:
        """Every name this family occupies in the text formats."""
        if self.kind == "histogram":
            return (self.name, *(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count")))
        return (self.name, self.name.removesuffix("_total")) if self.kind == "counter" else (self.name,)


def _check_name(name: str, kind: Kind, unit: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > MAX_TEXT:
        raise DeclarationError(f"{name!r}: a metric name is snake_case (a-z, 0-9, _) and starts with 'trustchain_'")
    if unit not in UNITS or (unit == "ratio" and kind != "gauge"):
        raise DeclarationError(
            f"{name}: {unit!r} is not a unit of a {kind}; use seconds, bytes, ratio (gauges) or none"
        )
    stem = name.removesuffix("_total")
    if (kind == "counter") != name.endswith("_total"):
        raise DeclarationError(f"{name}: a counter, and nothing else, ends in '_total'")
    if stem.endswith(_RESERVED_SUFFIXES):
        raise DeclarationError(f"{name}: the suffixes {', '.join(_RESERVED_SUFFIXES)} are reserved")
    if unit and not stem.endswith(f"_{unit}"):
        raise DeclarationError(f"{name}: the unit {unit} must be the last word of the name (before '_total')")
    parts = stem.split("_")
    if not unit and parts[-1] in UNITS:
        raise DeclarationError(f"{name}: declare unit={parts[-1]!r}, or end the name in another word")
    if forbidden := _FORBIDDEN_PARTS.intersection(parts):
        raise DeclarationError(f"{name}: {min(forbidden)!r} in a name is a type or not a base unit")


def _check_labels(family: Family) -> None:
    names = [label for label, _ in family.labels]
    if len(set(names)) != len(names):
        raise DeclarationError(f"{family.name}: a label is declared twice")
    reserved = _RESERVED_LABELS | ({"service"} if family.per_service else set())
    for label, values in family.labels:
        if not _LABEL.fullmatch(label) or label in reserved or len(label) > MAX_LABEL_VALUES:
            raise DeclarationError(f"{family.name}: {label!r} is not a usable label name (snake_case, not reserved)")
        if not 0 < len(values) <= MAX_LABEL_VALUES or len(set(values)) != len(values):
            raise DeclarationError(f"{family.name}: label {label} needs 1 to {MAX_LABEL_VALUES} different values")
        for value in values:
            if not 0 < len(value) <= MAX_LABEL_VALUES or not value.isprintable():
                raise DeclarationError(
                    f"{family.name}: value {value!r} of label {label} is empty, too long or unprintable"
                )


_LabelValues = Mapping[str, Sequence[str]]


def _frozen(labels: _LabelValues | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((label, tuple(values)) for label, values in (labels or {}).items())


def counter(
    name: str, help: str, unit: str = "", labels: _LabelValues | None = None, *, per_service: bool = False
) -> Family:
    """Declare a count that only grows. `labels` gives every value each label may take. Raises DeclarationError."""
    return Family(name=name, kind="counter", help=help, unit=unit, labels=_frozen(labels), per_service=per_service)


def gauge(
    name: str,
    help: str,
    unit: str = "",
    labels: _LabelValues | None = None,
    *,
    merge: Merge = "sum",
    per_service: bool = False,
) -> Family:
    """Declare a value that goes up and down, in its exported unit. Raises DeclarationError."""
    return Family(
        name=name, kind="gauge", help=help, unit=unit, labels=_frozen(labels), merge=merge, per_service=per_service
    )


def histogram(
    name: str, help: str, unit: str = "seconds", labels: _LabelValues | None = None, *, per_service: bool = False
) -> Family:
    """Declare a distribution of nanoseconds (unit seconds), bytes or plain integers. Raises DeclarationError."""
    return Family(name=name, kind="histogram", help=help, unit=unit, labels=_frozen(labels), per_service=per_service)


def operation(name: str, help: str, labels: _LabelValues | None = None) -> tuple[Family, Family]:
    """Declare `<name>_total{result=ok|rejected|error}` and `<name>_seconds`, to be used through `Metrics.operation`."""
    return (
        counter(
            f"{name}_total",
            f"{help.removesuffix('.')}, by result.",
            labels={**(labels or {}), "result": get_args(Result)},
        ),
        histogram(f"{name}_seconds", f"{help.removesuffix('.')}, duration.", labels=labels),
    )


@dataclass(frozen=True, slots=True)
class SeriesCell:
    """Where one series lives: its labels and the index of its first cell."""

    family: Family
    labels: Labels
    cell: int


@dataclass(frozen=True, slots=True)
class Table:
    """The families of one worker, where each series lives, and the text that says so in the block."""

    families: tuple[Family, ...]
    series: tuple[SeriesCell, ...]
    cells: int
    text: bytes

    @classmethod
    def of(cls, families: Iterable[Family]) -> "Table":
        """Lay the families out. Raises DeclarationError for duplicate names or more than a slot can hold."""
        return cls._of(tuple(families))

    @classmethod
    @lru_cache(maxsize=64)  # a process whose children declare the same families can have them laid out before
    def _of(cls, declared: tuple[Family, ...]) -> "Table":
        _check_duplicates(declared)
        count = sum(family.series_count for family in declared)
        cells = sum(family.series_count * family.cells_each for family in declared)
        text = msgspec.json.encode(declared)
        for what, found, most in (
            ("series", count, MAX_SERIES),
            ("cells", cells, CELL_CAPACITY),
            ("bytes of table text", len(text), TABLE_CAPACITY),
        ):
            if found > most:
                raise DeclarationError(
                    f"{found} {what} declared, a worker may have {most}: use fewer labels or histograms"
                )
        return cls(declared, tuple(_laid_out(declared)), cells, text)

    @classmethod
    def parse(cls, text: bytes) -> "Table":
        """Read a table back from the block. Raises TableDamaged, and nothing else, for any other text."""
        try:
            return cls.of(msgspec.json.decode(text, type=tuple[Family, ...]))
        except (msgspec.MsgspecError, DeclarationError, UnicodeDecodeError, RecursionError) as error:
            raise TableDamaged(f"not a metric table: {error}") from error


def _check_duplicates(families: tuple[Family, ...]) -> None:
    owner: dict[str, str] = {}
    for family in families:
        for name in family.exported_names:
            if name in owner:
                raise DeclarationError(f"{family.name}: the name {name} is already taken by {owner[name]}")
            owner[name] = family.name


def _laid_out(families: tuple[Family, ...]) -> Iterable[SeriesCell]:
    cell = 0
    for family in families:
        names = [label for label, _ in family.labels]
        for values in product(*(values for _, values in family.labels)):
            yield SeriesCell(family, tuple(zip(names, values, strict=True)), cell)
            cell += family.cells_each
