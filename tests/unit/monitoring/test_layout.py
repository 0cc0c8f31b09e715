"""The byte layout: what is packed is read back, and nothing else is taken for it."""

import re
import struct

import pytest

from monitoring import layout
from monitoring.layout import (
    BlockDamaged,
    Board,
    Header,
    Identity,
    Probe,
    ProbeState,
    SlotVerdict,
    Verdict,
    clipped,
    pack_header,
    pack_record,
    unpack_header,
    unpack_record,
)

HEADER = Header(slots=16, creator_pid=4711, created_ns=5, created_unix_ns=1_700_000_000_000_000_000)


def test_a_header_is_read_back() -> None:
    assert unpack_header(pack_header(HEADER), HEADER.size) == HEADER


@pytest.mark.parametrize("position", range(layout.HEADER_SIZE))
def test_a_header_with_any_byte_changed_is_damaged(position: int) -> None:
    packed = bytearray(pack_header(HEADER))
    packed[position] ^= 0x40
    with pytest.raises(BlockDamaged):
        unpack_header(bytes(packed), HEADER.size)


@pytest.mark.parametrize("size", [0, 7, 8, layout.HEADER_SIZE - 1])
def test_a_short_header_is_damaged(size: int) -> None:
    with pytest.raises(BlockDamaged, match="not a TrustChain"):
        unpack_header(pack_header(HEADER)[:size], HEADER.size)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_another_size_is_damaged(difference: int) -> None:
    with pytest.raises(BlockDamaged, match="truncated or extended"):
        unpack_header(pack_header(HEADER), HEADER.size + difference)


@pytest.mark.parametrize("offset", [layout.GENERATION_OFFSET, layout.GENERATION_OFFSET + 8])
def test_a_block_is_invalid_until_both_generations_are_there(offset: int) -> None:
    packed = bytearray(pack_header(HEADER))
    packed[offset : offset + 8] = bytes(8)
    with pytest.raises(BlockDamaged, match="created or removed"):
        unpack_header(bytes(packed), HEADER.size)


def test_another_layout_version_says_which() -> None:
    packed = bytearray(pack_header(HEADER))
    packed[16:24] = struct.pack("=Q", 2)
    with pytest.raises(BlockDamaged, match="layout version 2 is not 1"):
        unpack_header(bytes(packed), HEADER.size)


@pytest.mark.parametrize("slots", [1, 2, 16, 21, 256])
def test_regions_are_aligned_and_do_not_overlap(slots: int) -> None:
    header = Header(slots, 1, 1, 1)
    ends = [layout.HEADER_SIZE]
    for start, size in (
        *((header.identity_offset(slot), layout.IDENTITY_STRIDE) for slot in range(slots)),
        (header.board_offset, header.board_size),
        *((header.slot_offset(slot), layout.SLOT_STRIDE) for slot in range(slots)),
    ):
        assert start >= ends[-1]
        assert start % 8 == 0
        ends.append(start + size)
    assert header.size == ends[-1]
    assert all(header.slot_offset(slot) % 65536 == 0 for slot in range(slots))


def test_a_full_board_and_a_full_identity_fit_their_regions() -> None:
    verdicts = {slot: SlotVerdict(Verdict.REPLACE, 2**63, "r" * 999) for slot in range(16)}
    board = Board(1, 1.0, "s" * 99, "l" * 999, verdicts)
    assert len(pack_record(1, board.pack())) <= HEADER.board_size
    assert layout.IDENTITY_SIZE <= layout.IDENTITY_STRIDE
    assert layout.PROBE_OFFSET + layout.PROBE_SIZE <= layout.TABLE_OFFSET


@pytest.mark.parametrize("slot", [-1, 16])
def test_a_slot_that_does_not_exist_has_no_place(slot: int) -> None:
    with pytest.raises(IndexError, match="slots 0 to 15"):
        HEADER.slot_offset(slot)
    with pytest.raises(IndexError):
        HEADER.identity_offset(slot)


@pytest.mark.parametrize("slots", [0, 257])
def test_a_block_without_slots_or_with_too_many_is_not_made(slots: int) -> None:
    with pytest.raises(ValueError, match="1 to 256 slots"):
        Header(slots, 1, 1, 1)


def test_a_record_is_read_back_and_an_empty_one_is_empty() -> None:
    assert unpack_record(pack_record(7, b"payload")) == b"payload"
    assert unpack_record(pack_record(7, b"payload") + b"what follows") == b"payload"
    assert unpack_record(bytes(64)) == b""


@pytest.mark.parametrize("position", range(layout.RECORD_HEADER + 7))
def test_a_record_with_any_byte_changed_is_not_read(position: int) -> None:
    packed = bytearray(pack_record(7, b"payload"))
    packed[position] ^= 1
    assert unpack_record(bytes(packed)) is None


def test_a_cut_off_record_is_not_read() -> None:
    packed = pack_record(7, b"payload")
    assert all(unpack_record(packed[:size]) is None for size in range(len(packed)))


def test_identity_probe_and_board_are_read_back() -> None:
    identity = Identity("ca", 3, 4711, 9, "draining", 2**60, 12)
    assert Identity.unpack(identity.pack()) == identity
    probe = Probe(ProbeState.FAIL_DEPENDENCY, 2**60, "the log does not answer")
    assert Probe.unpack(probe.pack()) == probe
    board = Board(2**60, 0.25, "critical", "ca: stopped", {2: SlotVerdict(Verdict.REPLACE, 9, "probe fails")})
    assert Board.unpack(board.pack()) == board


@pytest.mark.parametrize("kind", [Identity, Probe, Board])
def test_payloads_of_the_wrong_size_are_none(kind: type[Identity | Probe | Board]) -> None:
    assert all(kind.unpack(b"\1" * size) is None for size in (0, 1, 79, 81, 300))


def test_codes_that_mean_nothing_are_none() -> None:
    identity = bytearray(Identity("ca", 0).pack())
    identity[layout.SERVICE_BYTES + 24] = len(layout.CHILD_STATES)
    assert Identity.unpack(bytes(identity)) is None
    probe = bytearray(Probe().pack())
    probe[0] = 5
    assert Probe.unpack(bytes(probe)) is None
    board = bytearray(Board(1, 0.5, "", "", {0: SlotVerdict(Verdict.KEEP, 1)}).pack())
    board[248] = 3
    assert Board.unpack(bytes(board)) is None
    nan = bytearray(Board(1, 0.5, "", "").pack())
    nan[8:16] = struct.pack("=d", float("nan"))
    assert Board.unpack(bytes(nan)) is None


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_board_outside_of_the_scale_is_not_made(score: float) -> None:
    with pytest.raises(ValueError, match=r"between 0\.0 and 1\.0"):
        Board(1, score, "healthy", "")


@pytest.mark.parametrize("service", ["", "x" * 33])
def test_a_service_name_that_does_not_fit_is_refused(service: str) -> None:
    with pytest.raises(ValueError, match="1 to 32 bytes"):
        Identity(service, 0)


def test_texts_are_one_line_and_cut_between_characters() -> None:
    assert clipped("a\nb\0c", 10) == b"a b c"
    assert clipped("äöü", 5) == "äö".encode()
    assert clipped("a\ud800b", 5) == b"a b"


def test_the_documented_table_agrees_with_the_code() -> None:
    documentation = layout.__doc__ or ""
    header = documentation[documentation.index("header, at 0") : documentation.index("record: how")]
    rows = [(int(row[1]), int(row[2])) for row in re.finditer(r"^ +(\d+) +(\d+) +(?:bytes|u64)", header, re.MULTILINE)]
    assert [offset for offset, _ in rows] == [0, *(offset + size for offset, size in rows[:-1])]
    assert sum(size for _, size in rows) == layout.HEADER_SIZE
    for text, value in (
        ("identities + n * stride", layout.IDENTITIES_OFFSET),
        (f"{layout.TABLE_OFFSET}        record metric table", layout.TABLE_OFFSET),
        (f"{layout.CELLS_OFFSET}        cells", layout.CELLS_OFFSET),
        (f"{layout.PROBE_OFFSET}        record probe", layout.PROBE_OFFSET),
        (f"{layout.HEARTBEAT_OFFSET}     8  u64    heartbeat", layout.HEARTBEAT_OFFSET),
    ):
        assert text in documentation, value
