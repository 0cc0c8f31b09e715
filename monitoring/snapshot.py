"""From a raw copy of the block to series with names and values, and their sum over the workers. Pure.

A series is decoded when somebody looks at it: judging health takes a handful of each worker's hundreds, only a scrape
takes all. `Decoder` keeps what was decoded last for each slot: a table is parsed once, and a series whose cells are as
they were is handed out again as the same object. `Aggregator` merges the workers and recognises such series;
`aggregate` does the same for a single snapshot.

Merging: counters and histograms are added, gauges merged by the rule they were declared with. Families that several
services declare get a `service` label. Gauges of a worker without a process are left out: they describe something that
is no more. Counters of the dead stay, so that totals do not drop.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import Any, overload

import msgspec

from monitoring.families import Family, Kind, Labels, Merge, SeriesCell, Table, TableDamaged
from monitoring.histogram import BUCKETS, CELLS, HistogramValue, scale_of
from monitoring.layout import WORD, Board, ChildState, Identity, Probe, ProbeState, RawBlock, RawSlot

__all__ = ("Aggregator", "Decoder", "HistogramValue", "MergedFamily", "Series", "SlotSnapshot", "Snapshot", "aggregate")

Value = int | float | HistogramValue

_MERGES: dict[Merge, Callable[[list[int | float]], int | float]] = {"sum": sum, "max": max, "min": min}
_COUNTER = struct.Struct("=Q")
_GAUGE = struct.Struct("=d")
_HISTOGRAM = struct.Struct(f"=d{BUCKETS}Q")
WITHOUT_PROCESS: tuple[ChildState, ...] = ("stopped", "backoff", "failed")


class Series(msgspec.Struct, frozen=True, gc=False):
    """One series at one moment. Counters and gauges are in the exported unit, histograms in recorded units."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: Labels
    value: Value


class _Known:
    """What is known of one slot from earlier readings: its table, and each series as it was last looked at."""

    __slots__ = ("cells", "series", "spans", "table", "text")

    def __init__(self, text: bytes, table: Table) -> None:
        self.text = text
        self.table = table
        self.spans = [
            slice(place.cell * WORD, (place.cell + (CELLS if place.family.kind == "histogram" else 1)) * WORD)
            for place in table.series
        ]
        self.cells: list[bytes] = [b""] * len(table.series)
        self.series: list[Series | None] = [None] * len(table.series)

    def look(self, place: int, cells: bytes) -> Series:
        """The series at `place` of the table, out of all cells of the slot."""
        own = cells[self.spans[place]]
        series = self.series[place]
        if series is None or own != self.cells[place]:
            series = self.series[place] = _decoded(self.table.series[place], own)
            self.cells[place] = own
        return series


class SlotSeries(Sequence[Series]):
    """All series of one slot at one moment, in the order of its table. Each is decoded when it is looked at."""

    __slots__ = ("_cells", "_known")

    def __init__(self, known: _Known, cells: bytes) -> None:
        self._known = known
        self._cells = cells

    def __len__(self) -> int:
        return len(self._known.spans)

    @overload
    def __getitem__(self, place: int) -> Series: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Series]: ...
    def __getitem__(self, place: int | slice) -> Series | Sequence[Series]:
        if isinstance(place, slice):
            return tuple(self)[place]
        return self._known.look(place, self._cells)

    def __iter__(self) -> Iterator[Series]:
        look, cells = self._known.look, self._cells
        return (look(place, cells) for place in range(len(self)))


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """One worker. Times are monotonic ns and 0 where nothing of this generation is known.

    `damaged`: the slot could not be read whole, so it has no series, or its `service` is empty.
    """

    slot: int
    service: str
    index: int
    pid: int
    generation: int
    state: ChildState
    started_ns: int
    restarts: int
    heartbeat_ns: int
    probe_state: ProbeState
    probe_ns: int
    note: str
    table_generation: int
    series: Sequence[Series]
    families: tuple[Family, ...]
    damaged: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole block at `taken_ns` (monotonic). `created_ns` is monotonic, `created_unix_ns` for display."""

    taken_ns: int
    creator_pid: int
    created_ns: int
    created_unix_ns: int
    slots: tuple[SlotSnapshot, ...]
    board: Board | None


class Decoder:
    """Turns raw copies of one block into snapshots, reusing what has not changed since the previous copy."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._slots: dict[int, _Known] = {}

    def decode(self, raw: RawBlock) -> Snapshot:
        """Never raises for a damaged slot: it has no series and `damaged` set."""
        return Snapshot(
            taken_ns=raw.taken_ns,
            creator_pid=raw.header.creator_pid,
            created_ns=raw.header.created_ns,
            created_unix_ns=raw.header.created_unix_ns,
            slots=tuple(self._slot(slot) for slot in raw.slots),
            board=raw.board,
        )

    def _slot(self, raw: RawSlot) -> SlotSnapshot:
        try:
            known = self._known(raw)
        except TableDamaged:
            known = None
        current = raw.identity is not None and raw.generation == raw.identity.generation
        probe = raw.probe if current else Probe()
        identity = raw.identity or Identity("?", 0)
        return SlotSnapshot(
            slot=raw.slot,
            service=identity.service if raw.identity else "",
            index=identity.index,
            pid=identity.pid,
            generation=identity.generation,
            state=identity.state,
            started_ns=identity.started_ns,
            restarts=identity.restarts,
            heartbeat_ns=raw.heartbeat_ns if current else 0,
            probe_state=probe.state,
            probe_ns=probe.time_ns,
            note=probe.note,
            table_generation=raw.table_generation,
            series=SlotSeries(known, raw.cells) if known else (),
            families=known.table.families if known else (),
            damaged=raw.damaged or (known is None and bool(raw.table)),
        )

    def _known(self, raw: RawSlot) -> _Known | None:
        if not raw.table:
            return None
        known = self._slots.get(raw.slot)
        if known is None or known.text != raw.table:
            known = _Known(raw.table, Table.parse(raw.table))
        if known.table.cells * WORD != len(raw.cells):
            raise TableDamaged("the table does not describe the cells")
        self._slots[raw.slot] = known
        return known


def _decoded(place: SeriesCell, cells: bytes) -> Series:
    family = place.family
    value: Value
    if family.kind == "histogram":
        total, *buckets = _HISTOGRAM.unpack(cells)
        value = HistogramValue(total, tuple(buckets))
    elif family.kind == "gauge":
        (value,) = _GAUGE.unpack(cells)
    else:
        (count,) = _COUNTER.unpack(cells)
        value = count * scale_of(family.unit) if family.unit == "seconds" else count
    return Series(family.name, family.kind, family.unit, family.help, place.labels, value)


class MergedFamily(msgspec.Struct, frozen=True):
    """One family over all workers. `conflicting_slots` declare the name in another way; their series are left out."""

    name: str
    kind: Kind
    unit: str
    help: str
    series: tuple[Series, ...]
    conflicting_slots: tuple[int, ...] = ()


@dataclass(slots=True)
class _Member:
    """One merged series: where its parts are among all series of the snapshot, and what they last amounted to."""

    labels: Labels
    pick: Callable[[list[Series]], Sequence[Series]]
    parts: Sequence[Series] = ()
    merged: Series | None = None


@dataclass(slots=True)
class _Group:
    """One merged family."""

    family: Family
    members: list[_Member]
    conflicting_slots: tuple[int, ...]


class Aggregator:
    """Merges one snapshot after the other, and does no work for a series whose parts are the same objects as before."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._shape: list[object] = []
        self._groups: list[_Group] = []

    def aggregate(self, snapshot: Snapshot) -> tuple[MergedFamily, ...]:
        """Every family over all workers, sorted by name."""
        shape: list[object] = [(slot.slot, slot.service, _idle(slot), slot.families) for slot in snapshot.slots]
        if shape != self._shape:
            self._shape, self._groups = shape, _grouped(snapshot)
        everything = [series for slot in snapshot.slots for series in slot.series]
        return tuple(
            MergedFamily(
                group.family.name,
                group.family.kind,
                group.family.unit,
                group.family.help,
                tuple(_merged(group.family, member, everything) for member in group.members),
                group.conflicting_slots,
            )
            for group in self._groups
        )


def aggregate(snapshot: Snapshot) -> tuple[MergedFamily, ...]:
    """Every family of one snapshot over all workers, sorted by name."""
    return Aggregator().aggregate(snapshot)


def _idle(slot: SlotSnapshot) -> bool:
    return slot.state in WITHOUT_PROCESS


def _grouped(snapshot: Snapshot) -> list[_Group]:
    declared: dict[str, Family] = {}
    conflicts: dict[str, list[int]] = {}
    places: dict[str, dict[Labels, list[int]]] = {}
    first = 0
    for slot in snapshot.slots:
        for family in slot.families:
            if _shape(declared.setdefault(family.name, family)) != _shape(family):
                conflicts.setdefault(family.name, []).append(slot.slot)
        for place, series in enumerate(slot.series, first):
            family = declared[series.name]
            if slot.slot in conflicts.get(series.name, ()) or (_idle(slot) and series.kind == "gauge"):
                continue
            labels = (("service", slot.service), *series.labels) if family.per_service else series.labels
            places.setdefault(series.name, {}).setdefault(labels, []).append(place)
        first += len(slot.series)
    return [
        _Group(
            declared[name],
            [_Member(labels, _picker(found)) for labels, found in places.get(name, {}).items()],
            tuple(conflicts.get(name, ())),
        )
        for name in sorted(declared)
    ]


def _shape(family: Family) -> tuple[object, ...]:
    """What two declarations of a name must have in common to be added up; help and label values may differ."""
    return family.kind, family.unit, family.merge, family.per_service, tuple(label for label, _ in family.labels)


def _picker(places: list[int]) -> Callable[[list[Series]], Sequence[Series]]:
    if len(places) == 1:
        start = places[0]
        return itemgetter(slice(start, start + 1))
    return itemgetter(*places)


def _merged(family: Family, member: _Member, everything: list[Series]) -> Series:
    parts = member.pick(everything)
    if member.merged is None or not all(map(is_, parts, member.parts)):
        member.parts = parts
        member.merged = _together(family, member.labels, parts)
    return member.merged


def _together(family: Family, labels: Labels, parts: Sequence[Series]) -> Series:
    if len(parts) == 1 and parts[0].labels == labels:
        return parts[0]
    # What a value is follows from the family's kind, which all parts share.
    values: list[Any] = [part.value for part in parts]
    value: Value = HistogramValue.total(values) if family.kind == "histogram" else _MERGES[family.merge](values)
    return Series(family.name, family.kind, family.unit, family.help, labels, value)
