"""The block as a file: created, attached, read, checked and removed by the parties that meet in it."""

import os
import stat
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from monitoring import layout
from monitoring.block import (
    Block,
    BlockDamaged,
    BlockError,
    BlockReader,
    Board,
    BoardWriter,
    ProbeState,
    SlotVerdict,
    SlotWriter,
    Verdict,
    block_path,
    find_block,
)
from monitoring.metrics import WORKER_FAMILIES, Metrics
from monitoring.snapshot import Decoder, Snapshot

BOARD = Board(9, 0.9, "healthy", "all is well", {1: SlotVerdict(Verdict.KEEP, 4, "probe passes")})


@pytest.fixture
def name() -> Iterator[str]:
    name = f"trustchain-test-{os.getpid()}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.fixture
def block(name: str) -> Iterator[Block]:
    block = Block.create(name, slots=3)
    yield block
    block.close()


def read(name: str | Path) -> Snapshot:
    reader = BlockReader.open(name)
    try:
        return Decoder().decode(reader.read())
    finally:
        reader.close()


def test_a_block_is_private_reserved_and_of_the_size_it_says(block: Block) -> None:
    status = block_path(block.name).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == block.size
    assert status.st_blocks * 512 >= block.size
    block.check()


def test_a_closed_block_is_gone_and_whoever_still_reads_it_is_told(name: str) -> None:
    block = Block.create(name, slots=1)
    reader = BlockReader.open(name)
    block.close()
    assert not block_path(name).exists()
    with pytest.raises(BlockDamaged, match="created or removed"):
        reader.read()
    reader.close()


@pytest.mark.parametrize("debris", [b"", b"left over" * 1000])
def test_debris_of_the_same_name_is_replaced(name: str, debris: bytes) -> None:
    block_path(name).write_bytes(debris)
    block = Block.create(name, slots=1)
    assert read(name).slots == ()
    block.close()


def test_who_holds_the_name_does_not_keep_us_from_starting(name: str) -> None:
    block_path(name).mkdir()  # what only its owner can remove: for root, too
    try:
        block = Block.create(name, slots=1)
        assert block.name.startswith(f"{name}-")
        assert len(block.name) > len(name) + 16, "nobody guesses it"
        assert find_block(name, os.geteuid()) == block.name
        again = Block.create(name, slots=1)
        assert not block_path(block.name).exists(), "debris under the longer name is removed, too"
        again.close()
        block.close()
        assert find_block(name, os.geteuid() + 1) == name, "what belongs to somebody else is not looked at"
    finally:
        block_path(name).rmdir()


@pytest.mark.parametrize("bad", ["", "../etc", "a/b", ".hidden", "x" * 102, "a\0b", "a b"])
def test_a_block_name_is_a_plain_file_name(bad: str) -> None:
    with pytest.raises(BlockError, match="not a block name"):
        block_path(bad)


def test_unused_slots_are_not_shown(block: Block) -> None:
    block.assign(1, "ca", 0)
    assert [slot.slot for slot in read(block.name).slots] == [1]


def test_what_the_supervisor_says_of_a_worker_is_read(block: Block) -> None:
    block.assign(2, "api", 1)
    block.record_start(2, pid=4711, generation=5, now_ns=77)
    block.record_state(2, "draining", restarts=4)
    (slot,) = read(block.name).slots
    assert (slot.service, slot.index, slot.pid, slot.generation) == ("api", 1, 4711, 5)
    assert (slot.state, slot.started_ns, slot.restarts) == ("draining", 77, 4)


def test_a_heartbeat_counts_for_its_generation_only(block: Block) -> None:
    block.assign(0, "ca", 0)
    block.record_start(0, pid=1, generation=1, now_ns=1)
    assert block.heartbeat_ns(0) == 0
    first = SlotWriter.attach(block.name, 0, generation=1)
    assert block.heartbeat_ns(0) == 0
    first.beat(17)
    assert block.heartbeat_ns(0) == 17
    block.record_start(0, pid=2, generation=2, now_ns=2)
    assert block.heartbeat_ns(0) == 0
    first.beat(18)
    assert block.heartbeat_ns(0) == 0
    second = SlotWriter.attach(block.name, 0, generation=2)
    assert block.heartbeat_ns(0) == 0
    second.beat(19)
    assert block.heartbeat_ns(0) == 19
    first.close()
    second.close()


def test_a_worker_writes_what_a_reader_reads(block: Block) -> None:
    block.assign(0, "ca", 0)
    block.record_start(0, pid=1, generation=1, now_ns=1)
    writer = SlotWriter.attach(block.name, 0, generation=1)
    writer.probe(ProbeState.PASS, 3, "signed and verified")
    Metrics(writer, WORKER_FAMILIES).counter("trustchain_worker_probes_total", result="pass").inc(6)
    (slot,) = read(block.name).slots
    assert (slot.probe_state, slot.probe_ns, slot.note) == (ProbeState.PASS, 3, "signed and verified")
    assert [series.value for series in slot.series if ("result", "pass") in series.labels] == [6]
    writer.close()


def test_a_worker_maps_no_slot_but_its_own(block: Block) -> None:
    for slot in range(3):
        block.assign(slot, "ca", slot)
    writers = [SlotWriter.attach(block.name, slot, generation=1) for slot in range(3)]
    before = block_path(block.name).read_bytes()
    writers[1].publish_table(b"[]", layout.CELL_CAPACITY)
    writers[1].words[layout.CELL_CAPACITY - 1] = 2**64 - 1
    writers[1].beat(2**64 - 1)
    after = block_path(block.name).read_bytes()
    start = layout.Header(3, 1, 1, 1).slot_offset(1)
    end = start + layout.SLOT_STRIDE
    assert after[start:end] != before[start:end]
    assert (after[:start], after[end:]) == (before[:start], before[end:])
    for writer in writers:
        writer.close()


def test_after_close_a_worker_cannot_record(block: Block) -> None:
    writer = SlotWriter.attach(block.name, 0, generation=1)
    metrics = Metrics(writer, WORKER_FAMILIES)
    writer.close()
    with pytest.raises(ValueError, match="released"):
        metrics.histogram("trustchain_worker_probe_seconds").record(20)


def test_the_board_is_read_by_the_supervisor_and_by_everyone(block: Block) -> None:
    assert block.board() is None
    assert read(block.name).board is None
    writer = BoardWriter.attach(block.name)
    for published_ns in (1, 9):
        writer.publish(layout.Board(published_ns, BOARD.score, BOARD.state, BOARD.status_line, BOARD.verdicts))
    writer.close()
    assert block.board() == BOARD
    assert read(block.name).board == BOARD


def test_a_verdict_about_no_slot_is_refused(block: Block) -> None:
    writer = BoardWriter.attach(block.name)
    with pytest.raises(IndexError):
        writer.publish(Board(1, 1.0, "", "", {3: SlotVerdict(Verdict.KEEP, 1)}))
    writer.close()


def test_a_half_written_board_leaves_the_one_before(block: Block) -> None:
    writer = BoardWriter.attach(block.name)
    writer.publish(BOARD)
    assert block.board() == BOARD
    offset = layout.Header(3, 1, 1, 1).board_offset
    with block_path(block.name).open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff")
    assert block.board() == BOARD
    assert read(block.name).board is None
    writer.publish(BOARD)
    assert read(block.name).board == BOARD
    writer.close()


@pytest.mark.parametrize("attach", [lambda name: SlotWriter.attach(name, 0, 1), BoardWriter.attach, BlockReader.open])
def test_without_a_block_the_advice_is_to_look_at_the_supervisor(attach: Callable[[str], object]) -> None:
    with pytest.raises(BlockError, match="is the supervisor running"):
        attach("trustchain-test-there-is-none")


@pytest.mark.parametrize("attach", [lambda name: SlotWriter.attach(name, 0, 1), BoardWriter.attach, BlockReader.open])
def test_a_foreign_file_a_link_and_a_device_are_not_attached(
    name: str, tmp_path: Path, attach: Callable[[str], object]
) -> None:
    block_path(name).write_bytes(b"something else" * 100)
    with pytest.raises(BlockDamaged, match="not a TrustChain metrics block"):
        attach(name)
    block_path(name).unlink()
    os.mkfifo(block_path(name))
    with pytest.raises(BlockError):
        attach(name)
    block_path(name).unlink()
    (tmp_path / "target").write_bytes(b"x")
    block_path(name).symlink_to(tmp_path / "target")
    with pytest.raises(BlockError, match="cannot open"):
        attach(name)


def test_a_block_is_also_opened_by_path(block: Block) -> None:
    assert read(block_path(block.name)).creator_pid == os.getpid()
    assert read(f"/dev/shm/{block.name}").creator_pid == os.getpid()


def _truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _extend(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def _replace(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def _overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0")


def _overwrite_identity(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(layout.IDENTITIES_OFFSET + 40)
        file.write(b"\xff")


DAMAGES = [_truncate, _empty, _extend, Path.unlink, _replace, _overwrite_header, _overwrite_identity]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_by_check_and_by_nothing_else(block: Block, damage: Callable[[Path], None]) -> None:
    block.assign(0, "ca", 0)
    block.record_start(0, pid=1, generation=1, now_ns=1)
    writer = SlotWriter.attach(block.name, 0, generation=1)
    writer.beat(17)
    writer.close()
    board = BoardWriter.attach(block.name)
    board.publish(BOARD)
    board.close()
    assert (block.heartbeat_ns(0), block.board()) == (17, BOARD)
    damage(block_path(block.name))
    with pytest.raises(BlockDamaged, match="trustchain-test"):
        block.check()
    assert (block.heartbeat_ns(0), block.board()) == (17, BOARD)
    block.record_state(0, "backoff", restarts=1)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_block_can_be_closed_and_made_again(name: str, damage: Callable[[Path], None]) -> None:
    block = Block.create(name, slots=2)
    damage(block_path(name))
    block.close()
    again = Block.create(name, slots=2)
    again.check()
    assert read(name).slots == ()
    again.close()
    assert not block_path(name).exists()


@pytest.mark.parametrize("damage", [_truncate, _empty, _extend, _overwrite_header])
def test_a_reader_and_the_board_writer_of_a_damaged_block_are_told(
    block: Block, damage: Callable[[Path], None]
) -> None:
    reader, writer = BlockReader.open(block.name), BoardWriter.attach(block.name)
    damage(block_path(block.name))
    with pytest.raises(BlockDamaged):
        reader.read()
    with pytest.raises(BlockDamaged):
        writer.publish(BOARD)
    reader.close()
    writer.close()


def test_one_damaged_identity_is_told_in_its_slot(block: Block) -> None:
    for slot in range(3):
        block.assign(slot, "ca", slot)
    with block_path(block.name).open("r+b") as file:
        file.seek(layout.IDENTITIES_OFFSET + layout.IDENTITY_STRIDE + 40)
        file.write(b"\xff")
    assert [(slot.service, slot.damaged) for slot in read(block.name).slots] == [
        ("ca", False),
        ("", True),
        ("ca", False),
    ]


def test_impossible_slots_and_names_are_refused(block: Block) -> None:
    with pytest.raises(IndexError):
        block.assign(3, "ca", 0)
    with pytest.raises(ValueError, match="service name"):
        block.assign(0, "", 0)
    with pytest.raises(IndexError):
        SlotWriter.attach(block.name, 3, generation=1)


def test_creating_fails_cleanly_when_the_memory_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockError, match=r"cannot reserve \d+ bytes .*No space left .*df /dev/shm"):
        Block.create(name)
    assert not block_path(name).exists()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_segment_of_the_standard_library_is_not_taken_for_a_block() -> None:
    memory = SharedMemory(create=True, size=4096)
    try:
        with pytest.raises(BlockDamaged):
            BlockReader.open(memory.name)
    finally:
        memory.close()
        memory.unlink()
