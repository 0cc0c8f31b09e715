"""One worker's slot in any buffer: how the worker writes it, and how a reader takes a consistent copy. Pure.

Stores go through `memoryview.cast`, which moves a whole word at once; `struct.pack_into` writes bytes one by one and
lets readers see zeros. The process that owns the slot is its only writer.
"""

import struct
from collections.abc import Callable
from zlib import crc32

from monitoring.layout import (
    CELL_CAPACITY,
    CELLS_OFFSET,
    CELLS_SIZE,
    HEARTBEAT_OFFSET,
    PROBE_OFFSET,
    PROBE_SIZE,
    RECORD_HEADER,
    SLOT_STRIDE,
    TABLE_CAPACITY,
    TABLE_OFFSET,
    WORD,
    BlockError,
    Identity,
    Probe,
    ProbeState,
    RawSlot,
    record_words,
    unpack_record,
)

ATTEMPTS = 4
"""How often a reader tries again when a record is being written; a writer is done within microseconds."""

_HEARTBEAT = HEARTBEAT_OFFSET // WORD
_CELL_COUNT = struct.Struct("=Q")

Read = Callable[[int, int], bytes]
"""Reads (offset in the slot, size); shorter at the end of the file."""


class SlotMemory:
    """Write access to one slot. `words` and `floats` are its cells as u64 and f64."""

    def __init__(self, buffer: bytearray | memoryview, generation: int) -> None:
        """Take the slot over for `generation`: no heartbeat, no probe result, metric table and cells untouched."""
        self._bytes = memoryview(buffer)
        if self._bytes.nbytes != SLOT_STRIDE:
            raise BlockError(f"a slot has {SLOT_STRIDE} bytes, not {self._bytes.nbytes}")
        self._vitals = self._bytes[:TABLE_OFFSET].cast("Q")
        cells = self._bytes[CELLS_OFFSET : CELLS_OFFSET + CELLS_SIZE]
        self.words: memoryview[int] = cells.cast("Q")
        self.floats: memoryview[float] = cells.cast("d")
        cells.release()
        self._views: list[memoryview[int]] = []
        self._vitals[_HEARTBEAT] = 0
        self._store(PROBE_OFFSET, Probe().pack())
        # The generation comes last: until then whatever stands in the slot counts as the predecessor's.
        self._vitals[0] = generation

    def beat(self, now_ns: int) -> None:
        """Say that the event loop is turning, at a monotonic time."""
        self._vitals[_HEARTBEAT] = now_ns

    def probe(self, state: ProbeState, now_ns: int, note: str = "") -> None:
        """Publish the result of a probe; the note is cut to 160 bytes."""
        self._store(PROBE_OFFSET, Probe(state, now_ns, note).pack())

    def view(self, first: int, count: int) -> "memoryview[int]":
        """The words from `first` on, until `release`."""
        view = self.words[first : first + count]
        self._views.append(view)
        return view

    def publish_table(self, text: bytes, cells: int) -> bool:
        """Publish the metric table; True if the cells go on from the predecessor's, False if they were set to zero.

        They go on only if the predecessor's table is intact and equal byte by byte. Raises BlockError if too big.
        """
        if len(text) > TABLE_CAPACITY or cells > CELL_CAPACITY:
            raise BlockError(f"a slot has room for {TABLE_CAPACITY} bytes of table and {CELL_CAPACITY} cells")
        payload = _CELL_COUNT.pack(cells) + text
        present = bytes(self._bytes[TABLE_OFFSET : TABLE_OFFSET + RECORD_HEADER + len(payload)])
        if unpack_record(present) == payload:
            return True

        def clear() -> None:
            # Between the two sequences: a reader must never match the new table with the old cells.
            self._bytes[CELLS_OFFSET : CELLS_OFFSET + cells * WORD] = bytes(cells * WORD)

        self._store(TABLE_OFFSET, payload, clear)
        return False

    def _store(self, offset: int, payload: bytes, meanwhile: Callable[[], None] | None = None) -> None:
        record = self._bytes[offset : offset + RECORD_HEADER].cast("Q")
        sequence = (max(record[0], record[1]) + 1) & 0xFFFFFFFFFFFFFFFF or 1
        record[0] = sequence
        if meanwhile:
            meanwhile()
        self._bytes[offset + RECORD_HEADER : offset + RECORD_HEADER + len(payload)] = payload
        record[2] = crc32(payload)
        record[3] = len(payload)
        record[1] = sequence
        record.release()

    def release(self) -> None:
        """Let go of the buffer; every later store raises ValueError."""
        for view in self._views:
            view.release()
        self.words.release()
        self.floats.release()
        self._vitals.release()
        self._bytes.release()


def read_slot(read: Read, slot: int, identity: Identity | None, identity_damaged: bool = False) -> RawSlot:
    """Take a consistent copy of a slot. Never raises: what cannot be read whole is left out and marked as damaged."""
    vitals = read(0, PROBE_OFFSET)
    probe = _read_probe(read)
    table = _read_table(read)
    generation, heartbeat_ns = memoryview(vitals[:16]).cast("Q") if len(vitals) >= 16 else (0, 0)
    text, table_generation, cells = table or (b"", 0, b"")
    damaged = identity_damaged or table is None
    return RawSlot(slot, identity, generation, heartbeat_ns, probe or Probe(), text, table_generation, cells, damaged)


def _read_probe(read: Read) -> Probe | None:
    for _ in range(ATTEMPTS):
        payload = unpack_record(read(PROBE_OFFSET, PROBE_SIZE))
        if payload is not None:
            return Probe.unpack(payload) if payload else Probe()
    return None


def _read_table(read: Read) -> tuple[bytes, int, bytes] | None:
    for _ in range(ATTEMPTS):
        head = read(TABLE_OFFSET, RECORD_HEADER)
        if len(head) < RECORD_HEADER:
            return None
        begin, end, _, length = record_words(head)
        if begin != end or length > WORD + TABLE_CAPACITY:
            continue
        record = read(TABLE_OFFSET, RECORD_HEADER + length)
        payload = unpack_record(record)
        if payload == b"":
            return b"", 0, b""
        if payload is None or len(payload) < WORD:
            continue
        (used,) = _CELL_COUNT.unpack_from(payload)
        cells = read(CELLS_OFFSET, min(used, CELL_CAPACITY) * WORD)
        if len(cells) == used * WORD and read(TABLE_OFFSET, RECORD_HEADER) == head == record[:RECORD_HEADER]:
            return payload[WORD:], begin, cells
    return None
