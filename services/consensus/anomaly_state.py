"""The state of the watch over names as octets, so that a restart goes on where it stopped. Pure.

Rules:
- One state has one form: what is parsed encodes to the same octets, and all else raises StateRefused. So two validators
  that read the same entries can compare digests.
- Nothing is parsed that the watch could not have become: times in order and none after the clock, indices in order and
  before the position, a finding under its own subject.
- Numbers in rows are 8 octets each, the highest first, whatever the machine.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct

from services.consensus.name_anomalies import MAX_EVIDENCE, Anomaly, Counted, Issued, Kind, Run, State

VERSION: Final = 1

_TOO_MUCH: Final = 1 << 63
_SUBJECT: Final = re.compile("[0-9a-f]{64}", re.ASCII)


class StateRefused(ValueError):
    """The octets are no state of the watch."""


class _Finding(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    opened_at: int
    last_at: int
    count: int
    indices: bytes
    timestamps: bytes


class _Issued(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    at: int
    index: int
    not_after: int
    contents: bytes


class _Run(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    subject: str
    last_at: int
    issued: list[_Issued]
    finding: _Finding | None


class _Counted(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    times: bytes
    indices: bytes
    finding: _Finding | None


class _State(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    position: int
    clock: int
    not_watched: int
    seen_again: int
    unread: int
    sets: list[_Run]
    names: list[_Counted]


def encode(state: State) -> bytes:
    """The whole state."""
    stored = _State(
        VERSION,
        state.position,
        state.clock,
        state.not_watched,
        state.seen_again,
        state.unread,
        [_stored_run(subject, run) for subject, run in state.sets.items()],
        [_stored_counted(name, counted) for name, counted in state.names.items()],
    )
    return msgspec.msgpack.encode(stored)


def parse(data: bytes) -> State:
    """Read what `encode` made. Raises StateRefused for everything else."""
    try:
        stored = msgspec.msgpack.decode(data, type=_State)
        state = _state(stored)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise StateRefused(f"no state: {str(error)[:200]}") from error
    if encode(state) != data:
        raise StateRefused("no state: it has another form")
    return state


def _state(stored: _State) -> State:
    counters = (stored.clock, stored.not_watched, stored.seen_again, stored.unread)
    if stored.version != VERSION or min(counters) < 0 or max(stored.position, *counters) >= _TOO_MUCH:
        raise ValueError("another version, or a counter that is negative or beyond all counting")
    state = State(stored.position)
    state.clock, state.not_watched, state.seen_again, state.unread = counters
    for each in stored.sets:
        state.sets[each.subject] = _run(each, state)
    for one in stored.names:
        state.names[one.name] = _counted(one, state)
    for watched in (state.sets, state.names):
        _check_order([each.last_at for each in watched.values()], state.clock)
    return state


def _run(stored: _Run, state: State) -> Run:
    run = Run()
    run.issued = [Issued(each.at, each.index, each.not_after, each.contents) for each in stored.issued]
    run.last_at = stored.last_at
    run.anomaly = _anomaly("duplicate", stored.subject, stored.finding, stored.last_at, state.position)
    _check_order([each.at for each in run.issued], run.last_at)
    _check_rising([each.index for each in run.issued], state.position)
    if not _SUBJECT.fullmatch(stored.subject) or len({each.contents for each in run.issued}) != len(run.issued):
        raise ValueError("a set of names without its digest, or with one certificate twice")
    if any(len(each.contents) != 32 for each in run.issued):
        raise ValueError("a digest is not 32 octets long")
    return run


def _counted(stored: _Counted, state: State) -> Counted:
    counted = Counted()
    counted.times, counted.indices = _numbers(stored.times), _numbers(stored.indices)
    if not stored.name or len(counted.indices) != min(len(counted.times), MAX_EVIDENCE) or not counted.times:
        raise ValueError("a name without its times, or without the entries that they belong to")
    _check_order(counted.times, state.clock)
    _check_rising(counted.indices, state.position)
    counted.anomaly = _anomaly("rate", stored.name, stored.finding, counted.last_at, state.position)
    return counted


def _anomaly(kind: Kind, subject: str, stored: _Finding | None, last_at: int, position: int) -> Anomaly | None:
    if stored is None:
        return None
    indices, timestamps = tuple(_numbers(stored.indices)), tuple(_numbers(stored.timestamps))
    if stored.last_at != last_at:
        raise ValueError("a finding that missed a certificate of its subject")
    _check_order(timestamps, last_at)
    _check_rising(indices, position)
    return Anomaly(kind, subject, stored.opened_at, stored.last_at, stored.count, indices, timestamps)


def _check_order(times: Sequence[int], last: int) -> None:
    if times and (times[0] < 0 or times[-1] > last or any(one > other for one, other in pairwise(times))):
        raise ValueError("times that are out of order")


def _check_rising(indices: Sequence[int], end: int) -> None:
    if indices and (indices[0] < 0 or indices[-1] >= end or any(one >= other for one, other in pairwise(indices))):
        raise ValueError("indices that are out of order")


def _stored_run(subject: str, run: Run) -> _Run:
    issued = [_Issued(each.at, each.index, each.not_after, each.contents) for each in run.issued]
    return _Run(subject, run.last_at, issued, _stored_finding(run.anomaly))


def _stored_counted(name: str, counted: Counted) -> _Counted:
    return _Counted(name, _row(counted.times), _row(counted.indices), _stored_finding(counted.anomaly))


def _stored_finding(anomaly: Anomaly | None) -> _Finding | None:
    if anomaly is None:
        return None
    evidence = _row(anomaly.indices), _row(anomaly.timestamps)
    return _Finding(anomaly.opened_at, anomaly.last_at, anomaly.count, *evidence)


def _row(numbers: Iterable[int]) -> bytes:
    row = array("q", numbers)
    if sys.byteorder == "little":
        row.byteswap()
    return row.tobytes()


def _numbers(row: bytes) -> array[int]:
    numbers = array("q", row)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
