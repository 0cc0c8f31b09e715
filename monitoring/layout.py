"""Byte layout of the metrics block, version 1. Pure: offsets, packing, unpacking; monitoring.block opens the files.

The block is one file in /dev/shm. Numbers are native-endian, u64 and f64 are aligned to 8 bytes, text is UTF-8 padded
with NUL. Every region has one writer process: S is the supervisor, W the worker of that slot, M the monitoring worker.

    header, at 0
    offset  size  type   name               writer
         0     8  bytes  magic "TRUSTBLK"   S
         8     8  u64    byte order mark    S  0x0102030405060708
        16     8  u64    layout version     S  1
        24     8  u64    size of the file   S
        32     8  u64    generation begin   S  the block is valid while both are equal and not 0:
        40     8  u64    generation end     S  written last at creation, zeroed first at removal
        48     8  u64    creator pid        S
        56     8  u64    creation time      S  monotonic ns
        64     8  u64    creation time      S  unix ns, for display
        72     8  u64    slots              S
        80    16  u64 x2 identities: offset, stride                S
        96    16  u64 x2 board: offset, size                       S
       112    16  u64 x2 slots: offset, stride                     S
       128    16  u64 x2 metric table: offset in the slot, size    S
       144    16  u64 x2 cells: offset in the slot, size           S
       160     8  u64    buckets of a histogram                    S
       168     8  u64    crc32 of bytes 0..31 and 48..167          S

    record: how everything larger than one word is guarded
         0     8  u64    sequence begin     the record is valid while both are equal and the crc matches;
         8     8  u64    sequence end       both 0: never written
        16     8  u64    crc32 of the payload
        24     8  u64    length of the payload
        32        bytes  payload

    identity of slot n, a record at identities + n * stride
        32    32  text   service            S
        64     8  u64    index              S
        72     8  u64    pid                S
        80     8  u64    generation         S
        88     8  u64    state              S  position in CHILD_STATES
        96     8  u64    started            S  monotonic ns
       104     8  u64    restarts           S

    board, a record
        32     8  u64    published          M  monotonic ns
        40     8  f64    score              M  0.0 .. 1.0
        48    16  text   state              M
        64   200  text   status line        M
       264     8  u64    verdicts           M  how many of the following entries are in use
       272   184  each   slot u64, verdict u64, generation u64, reason text 160    M

    slot n, at slots + n * stride
         0     8  u64    generation         W  the heartbeat belongs to it
         8     8  u64    heartbeat          W  monotonic ns, 0: none yet
        64        record probe: state u64, time u64 (monotonic ns), note text 160  W
      4096        record metric table: cells in use u64, JSON text (see monitoring.families); its sequence is    W
                         the table generation, raised whenever the cells start again from zero
     65536        cells  u64 (counters, buckets) or f64 (gauges, sums), in table order                             W

A writer raises `sequence begin`, stores payload, length and crc, and stores `sequence end` last. A reader that meets
two different sequences or a wrong crc reads again; if that does not help, the writer died half-way or the bytes are
foreign.
Slots start on 64 KiB boundaries so that a worker can map its own slot and nothing else.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, get_args
from zlib import crc32

from monitoring.histogram import BUCKETS

VERSION = 1
MAGIC = b"TRUSTBLK"
BYTE_ORDER = 0x0102030405060708
HEADER_SIZE = 176
GENERATION_OFFSET = 32
RECORD_HEADER = 32
WORD = 8

IDENTITIES_OFFSET = 4096
IDENTITY_STRIDE = 256
SLOT_ALIGNMENT = 65536
HEARTBEAT_OFFSET = 8
PROBE_OFFSET = 64
TABLE_OFFSET = 4096
TABLE_SIZE = 61440
TABLE_CAPACITY = TABLE_SIZE - RECORD_HEADER - WORD
"""Bytes of JSON text that fit."""
CELLS_OFFSET = 65536
CELLS_SIZE = 131072
CELL_CAPACITY = CELLS_SIZE // WORD
SLOT_STRIDE = CELLS_OFFSET + CELLS_SIZE
MAX_SLOTS = 256

SERVICE_BYTES = 32
NOTE_BYTES = 160
STATUS_BYTES = 200

ChildState = Literal["stopped", "starting", "ready", "draining", "backoff", "failed"]
CHILD_STATES: tuple[ChildState, ...] = get_args(ChildState)

_HEADER = struct.Struct("=8s21Q")
_RECORD = struct.Struct("=4Q")
_IDENTITY = struct.Struct(f"={SERVICE_BYTES}s6Q")
_PROBE = struct.Struct(f"=QQ{NOTE_BYTES}s")
_BOARD = struct.Struct(f"=Qd16s{STATUS_BYTES}sQ")
_VERDICT = struct.Struct(f"=3Q{NOTE_BYTES}s")
PROBE_SIZE = RECORD_HEADER + _PROBE.size
IDENTITY_SIZE = RECORD_HEADER + _IDENTITY.size


class BlockError(Exception):
    """The metrics block cannot be created or opened; the text says what to do."""


class BlockDamaged(BlockError):
    """The file is not, or no longer, a valid block: foreign, truncated, overwritten, removed or half written."""


class ProbeState(IntEnum):
    """Result of a worker's test of itself. ENVIRONMENT: something a replacement would not cure, such as a full disk."""

    UNKNOWN = 0
    PASS = 1
    FAIL_OWN = 2
    FAIL_DEPENDENCY = 3
    FAIL_ENVIRONMENT = 4


class Verdict(IntEnum):
    """What the monitoring worker advises the supervisor to do with a worker."""

    UNKNOWN = 0
    KEEP = 1
    REPLACE = 2


@dataclass(frozen=True, slots=True)
class Header:
    """Where everything is, and who created the block when (monotonic and unix ns)."""

    slots: int
    creator_pid: int
    created_ns: int
    created_unix_ns: int

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= MAX_SLOTS:
            raise ValueError(f"a block has 1 to {MAX_SLOTS} slots, not {self.slots}")

    @property
    def board_offset(self) -> int:
        """Start of the board."""
        return IDENTITIES_OFFSET + _rounded(self.slots * IDENTITY_STRIDE, 4096)

    @property
    def board_size(self) -> int:
        """Bytes reserved for the board."""
        return _rounded(RECORD_HEADER + _BOARD.size + self.slots * _VERDICT.size, 4096)

    @property
    def slots_offset(self) -> int:
        """Start of slot 0."""
        return _rounded(self.board_offset + self.board_size, SLOT_ALIGNMENT)

    @property
    def size(self) -> int:
        """Size of the file."""
        return self.slots_offset + self.slots * SLOT_STRIDE

    def identity_offset(self, slot: int) -> int:
        """Start of the identity of `slot`. Raises IndexError for a slot that does not exist."""
        return IDENTITIES_OFFSET + self._checked(slot) * IDENTITY_STRIDE

    def slot_offset(self, slot: int) -> int:
        """Start of `slot`. Raises IndexError for a slot that does not exist."""
        return self.slots_offset + self._checked(slot) * SLOT_STRIDE

    def _checked(self, slot: int) -> int:
        if not 0 <= slot < self.slots:
            raise IndexError(f"the block has slots 0 to {self.slots - 1}, not {slot}")
        return slot


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def pack_header(header: Header) -> bytes:
    """The header with both generations set to the creation time."""
    generation = header.created_unix_ns
    words = (
        *(BYTE_ORDER, VERSION, header.size, generation, generation),
        *(header.creator_pid, header.created_ns, header.created_unix_ns, header.slots),
        *(IDENTITIES_OFFSET, IDENTITY_STRIDE, header.board_offset, header.board_size),
        *(header.slots_offset, SLOT_STRIDE, TABLE_OFFSET, TABLE_SIZE, CELLS_OFFSET, CELLS_SIZE, BUCKETS),
    )
    return _HEADER.pack(MAGIC, *words, _header_crc(_HEADER.pack(MAGIC, *words, 0)))


def _header_crc(packed: bytes) -> int:
    return crc32(packed[48:168], crc32(packed[:32]))


def unpack_header(packed: bytes, file_size: int) -> Header:
    """Raises BlockDamaged for anything but a complete header of this layout version in a file of the right size."""
    if len(packed) < HEADER_SIZE or not packed.startswith(MAGIC):
        raise BlockDamaged("this is not a TrustChain metrics block (no magic number)")
    words = _HEADER.unpack_from(packed)
    if words[1:3] != (BYTE_ORDER, VERSION):
        raise BlockDamaged(
            f"layout version {words[2]} is not {VERSION}: use the trustchain version that created the block"
        )
    if words[4] != words[5] or not words[4]:
        raise BlockDamaged("the block is not complete: it is being created or removed, or its creator died")
    if words[-1] != _header_crc(packed):
        raise BlockDamaged("the header of the block was overwritten (crc mismatch)")
    if not 1 <= words[9] <= MAX_SLOTS:
        raise BlockDamaged(f"the block claims {words[9]} slots")
    header = Header(slots=words[9], creator_pid=words[6], created_ns=words[7], created_unix_ns=words[8])
    if pack_header(header) != packed[:HEADER_SIZE]:
        raise BlockDamaged("the regions of the block are not where this version puts them")
    if file_size != header.size:
        raise BlockDamaged(f"the block has {file_size} bytes instead of {header.size}: it was truncated or extended")
    return header


def pack_record(sequence: int, payload: bytes) -> bytes:
    """A complete record."""
    return _RECORD.pack(sequence, sequence, crc32(payload), len(payload)) + payload


def record_words(packed: bytes) -> tuple[int, int, int, int]:
    """Sequence begin, sequence end, crc and length of a record."""
    begin, end, crc, length = _RECORD.unpack_from(packed)
    return begin, end, crc, length


def unpack_record(packed: bytes) -> bytes | None:
    """The payload of a record; empty if it was never written, None if it is half written or damaged."""
    if len(packed) < RECORD_HEADER:
        return None
    begin, end, crc, length = record_words(packed)
    payload = packed[RECORD_HEADER : RECORD_HEADER + length]
    if begin != end or len(payload) != length or crc32(payload) != crc:
        return None
    return payload


def clipped(text: str, size: int) -> bytes:
    """UTF-8 of `text` in one line of at most `size` bytes, cut between characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line.encode(errors="replace")[:size].decode(errors="ignore").encode()


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose slot it is, as the supervisor knows it. `started_ns` is monotonic."""

    service: str
    index: int
    pid: int = 0
    generation: int = 0
    state: ChildState = "stopped"
    started_ns: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.service.encode()) <= SERVICE_BYTES:
            raise ValueError(f"a service name has 1 to {SERVICE_BYTES} bytes: {self.service!r}")

    def pack(self) -> bytes:
        """Payload of the identity record."""
        state = CHILD_STATES.index(self.state)
        numbers = (self.index, self.pid, self.generation, state, self.started_ns, self.restarts)
        return _IDENTITY.pack(self.service.encode(), *numbers)

    @classmethod
    def unpack(cls, payload: bytes) -> "Identity | None":
        """None if the payload is not an identity."""
        if len(payload) != _IDENTITY.size:
            return None
        service, index, pid, generation, state, started_ns, restarts = _IDENTITY.unpack(payload)
        if state >= len(CHILD_STATES) or not 1 <= len(_text(service).encode()) <= SERVICE_BYTES:
            return None
        return cls(_text(service), index, pid, generation, CHILD_STATES[state], started_ns, restarts)


@dataclass(frozen=True, slots=True)
class Probe:
    """Last result of a worker's test of itself, at a monotonic time; 0: never."""

    state: ProbeState = ProbeState.UNKNOWN
    time_ns: int = 0
    note: str = ""

    def pack(self) -> bytes:
        """Payload of the probe record; the note is cut to 160 bytes."""
        return _PROBE.pack(self.state, self.time_ns, clipped(self.note, NOTE_BYTES))

    @classmethod
    def unpack(cls, payload: bytes) -> "Probe | None":
        """None if the payload is not a probe result."""
        if len(payload) != _PROBE.size:
            return None
        state, time_ns, note = _PROBE.unpack(payload)
        return cls(ProbeState(state), time_ns, _text(note)) if state <= max(ProbeState) else None


@dataclass(frozen=True, slots=True)
class SlotVerdict:
    """Advice about one worker; it holds for that generation only."""

    verdict: Verdict
    generation: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """What the monitoring worker tells the supervisor. `published_ns` is monotonic, `score` lies in 0.0 .. 1.0."""

    published_ns: int
    score: float
    state: str
    status_line: str
    verdicts: dict[int, SlotVerdict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a score lies between 0.0 and 1.0, not {self.score}")

    def pack(self) -> bytes:
        """Payload of the board record; long texts are cut."""
        head = (self.published_ns, self.score, clipped(self.state, 16), clipped(self.status_line, STATUS_BYTES))
        entries = (
            _VERDICT.pack(slot, entry.verdict, entry.generation, clipped(entry.reason, NOTE_BYTES))
            for slot, entry in self.verdicts.items()
        )
        return _BOARD.pack(*head, len(self.verdicts)) + b"".join(entries)

    @classmethod
    def unpack(cls, payload: bytes) -> "Board | None":
        """None if the payload is not a board."""
        if len(payload) < _BOARD.size:
            return None
        published_ns, score, state, status_line, count = _BOARD.unpack_from(payload)
        if len(payload) != _BOARD.size + count * _VERDICT.size or not 0.0 <= score <= 1.0:
            return None
        verdicts = {}
        for slot, verdict, generation, reason in _VERDICT.iter_unpack(payload[_BOARD.size :]):
            if verdict > max(Verdict):
                return None
            verdicts[slot] = SlotVerdict(Verdict(verdict), generation, _text(reason))
        return cls(published_ns, score, _text(state), _text(status_line), verdicts)


@dataclass(frozen=True, slots=True)
class RawSlot:
    """One slot as read, cells not yet decoded. `damaged`: a part could not be read whole and is left out."""

    slot: int
    identity: Identity | None
    generation: int
    heartbeat_ns: int
    probe: Probe
    table: bytes
    table_generation: int
    cells: bytes
    damaged: bool


@dataclass(frozen=True, slots=True)
class RawBlock:
    """The whole block as read at `taken_ns` (monotonic)."""

    taken_ns: int
    header: Header
    slots: tuple[RawSlot, ...]
    board: Board | None
