"""A slot: what the worker stores, and what a reader makes of every half-written state."""

from collections.abc import Callable

import pytest

from monitoring import layout
from monitoring.layout import BlockError, Identity, Probe, ProbeState
from monitoring.slot import ATTEMPTS, SlotMemory, read_slot

IDENTITY = Identity("ca", 0, pid=1, generation=1)


def reading(memory: bytearray) -> Callable[[int, int], bytes]:
    return lambda offset, size: bytes(memory[offset : offset + size])


@pytest.fixture
def memory() -> bytearray:
    return bytearray(layout.SLOT_STRIDE)


def test_a_new_slot_has_nothing_and_no_damage(memory: bytearray) -> None:
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (raw.generation, raw.heartbeat_ns, raw.probe, raw.table, raw.cells, raw.damaged) == (
        0,
        0,
        Probe(),
        b"",
        b"",
        False,
    )


def test_what_a_worker_stores_is_read(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=3)
    slot.publish_table(b"[]", 2)
    slot.words[1] = 2**64 - 1
    slot.beat(17)
    slot.probe(ProbeState.FAIL_OWN, 18, "no key")
    raw = read_slot(reading(memory), 5, IDENTITY)
    assert (raw.slot, raw.generation, raw.heartbeat_ns) == (5, 3, 17)
    assert raw.probe == Probe(ProbeState.FAIL_OWN, 18, "no key")
    assert (raw.table, raw.table_generation) == (b"[]", 1)
    assert raw.cells == bytes(8) + b"\xff" * 8


def test_a_successor_starts_without_heartbeat_and_probe_but_with_the_cells(memory: bytearray) -> None:
    first = SlotMemory(memory, generation=1)
    assert not first.publish_table(b"[1]", 1)
    first.words[0] = 41
    first.beat(17)
    first.probe(ProbeState.PASS, 18)
    second = SlotMemory(memory, generation=2)
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (raw.generation, raw.heartbeat_ns, raw.probe) == (2, 0, Probe())
    assert second.publish_table(b"[1]", 1)
    assert second.words[0] == 41
    assert read_slot(reading(memory), 0, IDENTITY).table_generation == 1


@pytest.mark.parametrize(("text", "cells"), [(b"[2]", 1), (b"[1]", 2), (b"[1] ", 1)])
def test_another_table_zeroes_the_cells_and_raises_the_table_generation(
    memory: bytearray, text: bytes, cells: int
) -> None:
    SlotMemory(memory, generation=1).publish_table(b"[1]", 1)
    slot = SlotMemory(memory, generation=2)
    slot.words[0] = 41
    assert not slot.publish_table(text, cells)
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (raw.table_generation, raw.table, raw.cells) == (2, text, bytes(cells * 8))


def test_a_table_damaged_under_a_dead_worker_is_written_anew(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    slot.publish_table(b"[1]", 1)
    slot.words[0] = 41
    memory[layout.TABLE_OFFSET + layout.RECORD_HEADER + layout.WORD] ^= 1
    assert read_slot(reading(memory), 0, IDENTITY).damaged
    assert not SlotMemory(memory, generation=2).publish_table(b"[1]", 1)
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (raw.damaged, raw.cells) == (False, bytes(8))


@pytest.mark.parametrize(
    ("text", "cells"), [(b" " * (layout.TABLE_CAPACITY + 1), 1), (b"[]", layout.CELL_CAPACITY + 1)]
)
def test_a_table_that_does_not_fit_is_refused(memory: bytearray, text: bytes, cells: int) -> None:
    with pytest.raises(BlockError, match="room for"):
        SlotMemory(memory, generation=1).publish_table(text, cells)


def test_the_largest_table_and_all_cells_fit(memory: bytearray) -> None:
    SlotMemory(memory, generation=1).publish_table(b" " * layout.TABLE_CAPACITY, layout.CELL_CAPACITY)
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (len(raw.table), len(raw.cells)) == (layout.TABLE_CAPACITY, layout.CELLS_SIZE)


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(BlockError, match="a slot has"):
        SlotMemory(bytearray(8), generation=1)


def test_the_note_is_cut_to_its_place(memory: bytearray) -> None:
    SlotMemory(memory, generation=1).probe(ProbeState.PASS, 1, "x" * 999)
    assert read_slot(reading(memory), 0, IDENTITY).probe.note == "x" * layout.NOTE_BYTES


def _crashing_copies(memory: bytearray) -> list[bytes]:
    """The slot as a reader could find it after each single store of a table that replaces another one."""
    before = bytes(memory)
    after = bytearray(memory)
    SlotMemory(after, generation=2).publish_table(b'["new"]', 3)
    begin, length = layout.TABLE_OFFSET, layout.RECORD_HEADER + layout.WORD + 7
    copies, now = [], bytearray(before)
    cells = slice(layout.CELLS_OFFSET, layout.CELLS_OFFSET + 24)
    stores = (
        slice(begin, begin + 8),
        cells,
        slice(begin + layout.RECORD_HEADER, begin + length),
        slice(begin + 16, begin + 24),
        slice(begin + 24, begin + 32),
    )
    for store in stores:
        now[store] = after[store]
        copies.append(bytes(now))
    return copies


def test_a_worker_killed_between_any_two_stores_of_a_table_leaves_a_slot_without_series(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    slot.publish_table(b'["old"]', 3)
    slot.words[2] = 99
    for copy in _crashing_copies(memory):
        raw = read_slot(reading(bytearray(copy)), 0, IDENTITY)
        assert (raw.table, raw.cells, raw.damaged) == (b"", b"", True)


def test_a_half_written_probe_is_unknown(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    slot.probe(ProbeState.PASS, 18, "fine")
    memory[layout.PROBE_OFFSET] += 1
    raw = read_slot(reading(memory), 0, IDENTITY)
    assert (raw.probe, raw.damaged) == (Probe(), False)


def test_a_reader_that_meets_a_table_in_flux_reads_again(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    slot.publish_table(b"[1]", 1)
    heads = 0

    def read(offset: int, size: int) -> bytes:
        nonlocal heads
        found = bytearray(memory[offset : offset + size])
        if offset == layout.TABLE_OFFSET and size == layout.RECORD_HEADER:
            heads += 1
            if heads < ATTEMPTS:
                found[0] += 1
        return bytes(found)

    assert read_slot(read, 0, IDENTITY).table == b"[1]"


def test_a_table_that_changes_while_its_cells_are_read_is_not_matched_with_them(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    slot.publish_table(b"[1]", 1)
    slot.words[0] = 41
    changed = False

    def read(offset: int, size: int) -> bytes:
        nonlocal changed
        found = bytes(memory[offset : offset + size])
        if offset == layout.CELLS_OFFSET and not changed:
            changed = True
            slot.publish_table(b"[2]", 1)
        return found

    raw = read_slot(read, 0, IDENTITY)
    assert (raw.table, raw.cells) == (b"[2]", bytes(8))


def test_a_file_that_ends_early_is_damage_and_not_an_error() -> None:
    raw = read_slot(lambda _offset, _size: b"", 0, IDENTITY)
    assert (raw.damaged, raw.generation, raw.probe) == (True, 0, Probe())


def test_after_release_nothing_can_be_stored(memory: bytearray) -> None:
    slot = SlotMemory(memory, generation=1)
    view = slot.view(0, 4)
    slot.release()
    with pytest.raises(ValueError, match="released"):
        slot.beat(1)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1
    del memory[:]
