"""Any bytes where a block, a table or a header should be: a typed error or a marked slot, nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.block import Board
from monitoring.families import Family, Table, TableDamaged, counter, gauge, histogram
from monitoring.layout import (
    HEADER_SIZE,
    MAGIC,
    RECORD_HEADER,
    SLOT_STRIDE,
    TABLE_OFFSET,
    BlockDamaged,
    Header,
    Identity,
    Probe,
    RawBlock,
    SlotVerdict,
    Verdict,
    clipped,
    pack_header,
    pack_record,
    unpack_header,
    unpack_record,
)
from monitoring.slot import SlotMemory, read_slot
from monitoring.snapshot import Decoder, aggregate
from monitoring.tracing import TraceContext, TraceparentInvalid

HEADER = Header(slots=16, creator_pid=1, created_ns=2, created_unix_ns=3)
FAMILIES = (gauge("trustchain_fuzz_depth", "Depth."), histogram("trustchain_fuzz_wait_seconds", "Waits."))
WORDS = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(MAGIC.__add__), st.integers(0, 2**40))
def test_header(packed: bytes, size: int) -> None:
    with pytest.raises(BlockDamaged):
        unpack_header(packed, size)


@given(st.integers(0, HEADER_SIZE - 1), st.integers(0, 255))
def test_header_with_one_byte_replaced(position: int, byte: int) -> None:
    packed = bytearray(pack_header(HEADER))
    changed = packed[position] != byte
    packed[position] = byte
    if changed:
        with pytest.raises(BlockDamaged):
            unpack_header(bytes(packed), HEADER.size)
    else:
        assert unpack_header(bytes(packed), HEADER.size) == HEADER


@given(st.binary(max_size=400))
def test_records_and_payloads(packed: bytes) -> None:
    payload = unpack_record(packed)
    assert payload is None or payload == b"" or len(payload) <= len(packed) - RECORD_HEADER
    for kind in (Identity, Probe, Board):
        kind.unpack(packed)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_every_payload_is_read_back(sequence: int, payload: bytes) -> None:
    assert unpack_record(pack_record(sequence, payload)) == payload


@given(
    WORDS,
    st.floats(0, 1),
    st.text(max_size=30),
    st.text(max_size=300),
    st.dictionaries(st.integers(0, 15), st.builds(SlotVerdict, st.sampled_from(Verdict), WORDS, st.text(max_size=200))),
)
def test_every_board_is_read_back_up_to_the_length_of_its_texts(
    published_ns: int, score: float, state: str, line: str, verdicts: dict[int, SlotVerdict]
) -> None:
    board = Board(published_ns, score, state, line, verdicts)
    found = Board.unpack(board.pack())
    assert found is not None
    assert (found.published_ns, found.score) == (published_ns, score)
    assert found.status_line == clipped(line, 200).decode()
    assert {slot: (entry.verdict, entry.generation) for slot, entry in found.verdicts.items()} == {
        slot: (entry.verdict, entry.generation) for slot, entry in verdicts.items()
    }


@given(st.text(max_size=300), st.integers(0, 200))
def test_clipped_text_is_one_line_that_fits(text: str, size: int) -> None:
    cut = clipped(text, size)
    assert len(cut) <= size
    assert cut.decode().isprintable()


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_table_text(text: bytes) -> None:
    if text.strip() == b"[]":
        return
    with pytest.raises(TableDamaged):
        Table.parse(text)


@given(st.lists(st.tuples(st.integers(0, TABLE_OFFSET + 400), st.integers(0, 255)), max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_slot_with_any_bytes_overwritten_is_read_without_an_error(changes: list[tuple[int, int]]) -> None:
    memory = bytearray(SLOT_STRIDE)
    table = Table.of(FAMILIES)
    slot = SlotMemory(memory, generation=1)
    slot.publish_table(table.text, table.cells)
    slot.release()
    for position, byte in changes:
        memory[position] = byte
    raw = read_slot(lambda offset, size: bytes(memory[offset : offset + size]), 0, Identity("ca", 0, generation=1))
    snapshot = Decoder().decode(RawBlock(1, HEADER, (raw,), None))
    aggregate(snapshot)
    assert snapshot.slots[0].damaged != bool(snapshot.slots[0].series)


NAMES = st.from_regex(r"trustchain_fuzz(_[a-f]{3,6}){1,3}", fullmatch=True)
VALUES = st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, unique=True, max_size=4)
LABELS = st.dictionaries(st.sampled_from(["colour", "size", "shape"]), VALUES, max_size=2)
COUNTERS = st.builds(counter, NAMES.map("{}_total".format), st.just("Help."), labels=LABELS)


@given(st.lists(COUNTERS, unique_by=lambda family: family.name, max_size=8))
@settings(deadline=None)
def test_every_declared_table_is_read_back(families: list[Family]) -> None:
    table = Table.of(families)
    assert Table.parse(table.text) == table
    assert len({(series.family.name, series.labels) for series in table.series}) == table.cells


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,5})?"))
def test_traceparent(header: str) -> None:
    try:
        context = TraceContext.parse(header)
    except TraceparentInvalid:
        return
    assert TraceContext.parse(context.format()) == context
