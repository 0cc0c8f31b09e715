"""`trustchain block dump`: print a metrics block, whichever tree made it. Read-only; knows no service.

The text form is for people: ages instead of times, exported units. The JSON form holds what the block holds: monotonic
nanoseconds, recorded units, every bucket that is not empty.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime

import click
import msgspec

from config.cli import settings_options
from config.loader import Loaded
from config.paths import Paths
from monitoring.block import BlockError, BlockReader, find_block
from monitoring.histogram import HistogramValue, scale_of
from monitoring.layout import VERSION, Board
from monitoring.snapshot import Decoder, Series, SlotSnapshot, Snapshot

_QUANTILES = (0.5, 0.95, 0.99)


@click.group()
def block() -> None:
    """Look at the metrics block in shared memory."""


@block.command()
@click.argument("path", metavar="[PATH]", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; times are monotonic nanoseconds.")
@settings_options
def dump(loaded: Loaded, path: str | None, as_json: bool) -> None:
    """Print every slot and series of one block.

    It is the block at PATH (a file, or a name in /dev/shm), or that of the tree which runs with these settings.
    """
    try:
        reader = BlockReader.open(path or _running(loaded.settings.paths))
        try:
            snapshot = Decoder().decode(reader.read())
        finally:
            reader.close()
    except BlockError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(as_object(snapshot)))
    else:
        click.echo("\n".join(as_lines(str(reader.path), snapshot)))


def _running(paths: Paths) -> str:
    """The block of the tree on this data directory, which belongs to whom the directory belongs to."""
    try:
        owner = paths.data_dir.stat().st_uid
    except OSError:
        owner = os.geteuid()
    return find_block(paths.block_name, owner)


def as_object(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot for JSON."""
    return {
        "layout_version": VERSION,
        "taken_ns": snapshot.taken_ns,
        "creator_pid": snapshot.creator_pid,
        "created_ns": snapshot.created_ns,
        "created_unix_ns": snapshot.created_unix_ns,
        "board": asdict(snapshot.board) if snapshot.board else None,
        "slots": [_slot_object(slot) for slot in snapshot.slots],
    }


def _slot_object(slot: SlotSnapshot) -> dict[str, object]:
    described = asdict(replace(slot, series=(), families=()))
    del described["families"]
    series = [_series_object(series) for series in slot.series]
    return {**described, "probe_state": slot.probe_state.name.lower(), "series": series}


def _series_object(series: Series) -> dict[str, object]:
    value: object = series.value
    if isinstance(series.value, HistogramValue):
        buckets = {bucket: count for bucket, count in enumerate(series.value.buckets) if count}
        value = {"count": series.value.count, "sum": series.value.sum, "buckets": buckets}
    return {
        "name": series.name,
        "kind": series.kind,
        "unit": series.unit,
        "help": series.help,
        "labels": dict(series.labels),
        "value": value,
    }


def as_lines(path: str, snapshot: Snapshot) -> Iterator[str]:
    """The snapshot for people."""
    created = datetime.fromtimestamp(snapshot.created_unix_ns // 1_000_000_000, UTC)
    yield f"{path}: layout {VERSION}, created {created:%Y-%m-%d %H:%M:%S} UTC by process {snapshot.creator_pid}"
    if snapshot.board:
        yield from _board_lines(snapshot.board, snapshot.taken_ns)
    for slot in snapshot.slots:
        yield ""
        yield from _slot_lines(slot, snapshot.taken_ns)


def _board_lines(board: Board, now: int) -> Iterator[str]:
    yield f"board: {board.state}, score {board.score:.2f}, {_age(board.published_ns, now)}: {board.status_line}"
    for slot, entry in sorted(board.verdicts.items()):
        reason = f": {entry.reason}" if entry.reason else ""
        yield f"  slot {slot}: {entry.verdict.name.lower()} generation {entry.generation}{reason}"


def _slot_lines(slot: SlotSnapshot, now: int) -> Iterator[str]:
    damaged = "  DAMAGED: a part could not be read" if slot.damaged else ""
    yield f"slot {slot.slot}: {slot.service or 'unknown'}/{slot.index}  {slot.state}{damaged}"
    started, heartbeat, probed = (_age(then, now) for then in (slot.started_ns, slot.heartbeat_ns, slot.probe_ns))
    yield f"  pid {slot.pid}, generation {slot.generation}, restarts {slot.restarts}, started {started}"
    note = f": {slot.note}" if slot.note else ""
    yield f"  heartbeat {heartbeat}, probe {slot.probe_state.name.lower()} {probed}{note}"
    for series in slot.series:
        labels = ",".join(f'{label}="{value}"' for label, value in series.labels)
        yield f"  {series.name}{f'{{{labels}}}' if labels else ''} {_figures(series)}"


def _figures(series: Series) -> str:
    value, scale = series.value, scale_of(series.unit)
    if not isinstance(value, HistogramValue):
        return f"{value:.9g}" if isinstance(value, float) else str(value)
    quantiles = ((q, value.quantile(q)) for q in _QUANTILES)
    told = "".join(f" p{q * 100:.0f} {known * scale:.3g}" for q, known in quantiles if known is not None)
    return f"count {value.count} sum {value.sum * scale:.6g}{told}"


def _age(then_ns: int, now_ns: int) -> str:
    return f"{(now_ns - then_ns) / 1e9:.1f} s ago" if then_ns else "never"
