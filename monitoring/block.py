"""The metrics block as a file in /dev/shm: the supervisor creates it, workers write their slot, anyone may read it.

Rules, beyond the layout in monitoring.layout:

- The supervisor creates the block through `SharedMemory`, whose resource tracker removes the file should the supervisor
  be killed. It then unmaps it and uses pread and pwrite only: a file that somebody truncates would kill a process that
  touches its mapping (SIGBUS), and the supervisor must survive that.
- Workers open the file themselves instead of attaching a `SharedMemory`. An attached one is registered with a resource
  tracker (always up to Python 3.12), and a tracker that is not the supervisor's removes the file when its process ends.
- A worker maps its own slot and nothing else. Readers open read-only and use pread.
- A value read by pread is valid if its record says so or, for single words, if two reads agree.
"""

import os
import re
import secrets
import stat
import struct
import time
from contextlib import suppress
from dataclasses import replace
from mmap import mmap
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from monitoring.layout import (
    CHILD_STATES,
    GENERATION_OFFSET,
    HEADER_SIZE,
    IDENTITIES_OFFSET,
    IDENTITY_SIZE,
    IDENTITY_STRIDE,
    SLOT_STRIDE,
    WORD,
    BlockDamaged,
    BlockError,
    Board,
    ChildState,
    Header,
    Identity,
    ProbeState,
    RawBlock,
    RawSlot,
    SlotVerdict,
    Verdict,
    pack_header,
    pack_record,
    unpack_header,
    unpack_record,
)
from monitoring.slot import ATTEMPTS, SlotMemory, read_slot

__all__ = (
    "CHILD_STATES",
    "Block",
    "BlockDamaged",
    "BlockError",
    "BlockReader",
    "Board",
    "BoardWriter",
    "ChildState",
    "ProbeState",
    "RawBlock",
    "SlotVerdict",
    "SlotWriter",
    "Verdict",
    "block_path",
    "find_block",
)

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where SharedMemory puts its files; they are opened without following links
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
_TWO_WORDS = struct.Struct("=QQ")


def block_path(name: str) -> Path:
    """File of the block `name`. Raises BlockError for a name that is not a plain file name."""
    if not _NAME.fullmatch(name):
        raise BlockError(f"{name!r} is not a block name: letters, digits, '_', '.' and '-' only")
    return _SHARED_MEMORY / name


def find_block(name: str, owner: int) -> str:
    """Name of the block that user `owner` created as `name`; `name` itself if there is none."""
    found = [path for path in (block_path(name), *_alternatives(name)) if _owned_by(path, owner)]
    return found[-1].name if found else name


def _free_name(name: str) -> str:
    """Remove debris. Everybody may write to /dev/shm: who holds the name must not keep us from starting."""
    for debris in (block_path(name), *_alternatives(name)):
        with suppress(OSError):
            debris.unlink()
    return f"{name}-{secrets.token_hex(8)}" if os.path.lexists(block_path(name)) else name


def _alternatives(name: str) -> list[Path]:
    return sorted(_SHARED_MEMORY.glob(f"{name}-*"))


def _owned_by(path: Path, owner: int) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_uid == owner
    except OSError:
        return False


class Block:
    """The supervisor's side: creates the block, says who works in which slot, reads heartbeats and the board.

    After creation only `check` reports damage; reads go on with the last good value and writes to a damaged file are
    lost, so that supervision itself never fails on it. On damage: `close`, `create` again, restart the workers.
    """

    def __init__(self, name: str, fd: int, memory: SharedMemory, header: Header) -> None:
        """For `create` only."""
        self.name = name
        self.size = header.size
        self._fd = fd
        self._memory = memory
        self._header = header
        self._identities: dict[int, Identity] = {}
        self._sequences: dict[int, int] = {}
        self._heartbeats: dict[int, int] = {}
        self._board: Board | None = None
        self._write_failure = ""
        self._expected = bytearray(IDENTITIES_OFFSET + header.slots * IDENTITY_STRIDE)

    @classmethod
    def create(cls, name: str, slots: int = 16) -> "Block":
        """Create the block with all of its memory reserved, removing left-over ones of the same name.

        The caller holds the lock of the data directory, so a block of that name is debris. Where somebody else holds
        the name, `.name` becomes a longer one. Raises BlockError.
        """
        name = _free_name(name)
        path = block_path(name)
        header = Header(slots, os.getpid(), time.monotonic_ns(), time.time_ns())
        try:
            memory = SharedMemory(name, create=True, size=header.size)
        except OSError as error:
            raise BlockError(f"cannot create {path}: {error.strerror}") from error
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            memory.close()
            block = cls(name, fd, memory, header)
            block._reserve(path)
        except BaseException:
            memory.close()
            memory.unlink()
            raise
        return block

    def _reserve(self, path: Path) -> None:
        try:
            # Without this a full /dev/shm shows up as SIGBUS in whichever worker touches a page first.
            os.posix_fallocate(self._fd, 0, self.size)
        except OSError as error:
            os.close(self._fd)
            raise BlockError(
                f"cannot reserve {self.size} bytes for {path}: {error.strerror}; free space in {path.parent} "
                "(`df /dev/shm`), or give the container more (docker run --shm-size=64m)"
            ) from error
        packed = pack_header(self._header)
        self._expected[:HEADER_SIZE] = packed
        # The second generation makes the block valid, so it is written when everything else is there.
        end = GENERATION_OFFSET + WORD
        self._write(packed[:end] + bytes(WORD) + packed[end + WORD :], 0)
        self._write(packed[end : end + WORD], end)

    def assign(self, slot: int, service: str, index: int) -> None:
        """Give `slot` to a worker that is not running yet. Raises ValueError or IndexError for impossible values."""
        self._record(slot, Identity(service, index))

    def record_start(self, slot: int, pid: int, generation: int, now_ns: int) -> None:
        """A process was started in an assigned slot, at a monotonic time."""
        self._heartbeats[slot] = 0
        identity = self._identities[slot]
        self._record(slot, replace(identity, pid=pid, generation=generation, state="starting", started_ns=now_ns))

    def record_state(self, slot: int, state: ChildState, restarts: int) -> None:
        """The worker of an assigned slot changed its state, or was restarted that many times in all."""
        self._record(slot, replace(self._identities[slot], state=state, restarts=restarts))

    def heartbeat_ns(self, slot: int) -> int:
        """Monotonic time of the last heartbeat of this generation; 0 if there was none yet."""
        offset = self._header.slot_offset(slot)
        before = b""
        for _ in range(ATTEMPTS):
            words = self._read(offset, 2 * WORD)
            if words == before and len(words) == 2 * WORD:
                generation, heartbeat_ns = _TWO_WORDS.unpack(words)
                identity = self._identities.get(slot)
                if identity is not None and generation == identity.generation:
                    self._heartbeats[slot] = heartbeat_ns
                break
            before = words
        return self._heartbeats.get(slot, 0)

    def board(self) -> Board | None:
        """What the monitoring worker published last; None if nothing yet. The caller judges its age."""
        for _ in range(ATTEMPTS):
            payload = unpack_record(self._read(self._header.board_offset, self._header.board_size))
            if payload:
                self._board = Board.unpack(payload) or self._board
                break
        return self._board

    def check(self) -> None:
        """Raises BlockDamaged if the file was removed, replaced, truncated, or overwritten where only we write."""
        path = block_path(self.name)
        try:
            there, ours = path.lstat(), os.fstat(self._fd)
        except OSError as error:
            raise BlockDamaged(f"{path} is gone: {error.strerror}") from error
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise BlockDamaged(f"{path} was replaced by another file")
        if ours.st_size != self.size:
            raise BlockDamaged(f"{path} has {ours.st_size} bytes instead of {self.size}")
        if self._read(0, len(self._expected)) != self._expected:
            raise BlockDamaged(f"the supervisor's part of {path} was overwritten")
        if self._write_failure:
            raise BlockDamaged(f"{path} cannot be written: {self._write_failure}")

    def close(self) -> None:
        """Invalidate the block for whoever still has it open, and remove it. Only after the workers have ended."""
        self._write(bytes(WORD), GENERATION_OFFSET + WORD)
        os.close(self._fd)
        try:
            self._memory.unlink()
        except FileNotFoundError:
            # unlink() gives up before it tells the tracker, which would complain about a leak at exit.
            resource_tracker.unregister(f"/{self.name}", "shared_memory")

    def _record(self, slot: int, identity: Identity) -> None:
        offset = self._header.identity_offset(slot)
        self._identities[slot] = identity
        self._sequences[slot] = self._sequences.get(slot, 0) + 1
        packed = pack_record(self._sequences[slot], identity.pack())
        self._expected[offset : offset + len(packed)] = packed
        self._write(packed, offset)

    def _read(self, offset: int, size: int) -> bytes:
        with suppress(OSError):
            return os.pread(self._fd, size, offset)
        return b""

    def _write(self, data: bytes, offset: int) -> None:
        try:
            os.pwrite(self._fd, data, offset)
        except OSError as error:
            self._write_failure = str(error)


def _open(path: Path, flags: int) -> tuple[int, Header]:
    """Raises BlockError if there is no such file, BlockDamaged if it is not a valid block."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BlockError(
            f"cannot open the metrics block {path}: {error.strerror}; is the supervisor running?"
        ) from error
    try:
        return fd, _header(fd)
    except BlockDamaged as error:
        os.close(fd)
        raise BlockDamaged(f"{path}: {error}") from None


def _header(fd: int) -> Header:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BlockDamaged("this is not a file")
    return unpack_header(os.pread(fd, HEADER_SIZE, 0), status.st_size)


class SlotWriter(SlotMemory):
    """The worker's side: its slot, mapped. Never shared with a forked child."""

    def __init__(self, mapping: mmap, generation: int) -> None:
        """For `attach` only."""
        super().__init__(memoryview(mapping), generation)
        self._mapping = mapping

    @classmethod
    def attach(cls, name: str, slot: int, generation: int) -> "SlotWriter":
        """Take over `slot` for a new `generation`. Raises BlockError, BlockDamaged or IndexError."""
        fd, header = _open(block_path(name), os.O_RDWR)
        try:
            mapping = mmap(fd, SLOT_STRIDE, offset=header.slot_offset(slot))
        finally:
            os.close(fd)
        return cls(mapping, generation)

    def close(self) -> None:
        """Unmap; every later record raises ValueError."""
        self.release()
        self._mapping.close()


class BoardWriter:
    """The monitoring worker's side of the board."""

    def __init__(self, fd: int, header: Header) -> None:
        """For `attach` only."""
        self._fd = fd
        self._header = header
        self._sequence = 0

    @classmethod
    def attach(cls, name: str) -> "BoardWriter":
        """Open the board of the block. Raises BlockError or BlockDamaged."""
        return cls(*_open(block_path(name), os.O_RDWR))

    def publish(self, board: Board) -> None:
        """Replace the board. Raises IndexError for a verdict about a slot that does not exist, BlockDamaged."""
        for slot in board.verdicts:
            self._header.slot_offset(slot)
        # Without this check a write past the end of a truncated file would quietly make it longer.
        _header(self._fd)
        self._sequence = max(self._sequence + 1, time.monotonic_ns())
        os.pwrite(self._fd, pack_record(self._sequence, board.pack()), self._header.board_offset)

    def close(self) -> None:
        """Close the file; the board stays as it is."""
        os.close(self._fd)


class BlockReader:
    """Read-only view of a block, for the monitoring worker and for programs unrelated to the supervisor."""

    def __init__(self, fd: int, path: Path) -> None:
        """For `open` only."""
        self._fd = fd
        self.path = path

    @classmethod
    def open(cls, path_or_name: str | Path) -> "BlockReader":
        """Open a block by name, or by path if there is a '/' in it. Raises BlockError or BlockDamaged."""
        path = Path(path_or_name) if "/" in str(path_or_name) else block_path(str(path_or_name))
        fd, _ = _open(path, os.O_RDONLY)
        return cls(fd, path)

    def read(self) -> RawBlock:
        """A copy of all slots in use. Raises BlockDamaged for the block as a whole; one bad slot is only marked."""
        try:
            header = _header(self._fd)
        except BlockDamaged as error:
            raise BlockDamaged(f"{self.path}: {error}") from None
        slots = (self._slot(header, slot) for slot in range(header.slots))
        board = unpack_record(os.pread(self._fd, header.board_size, header.board_offset))
        return RawBlock(
            taken_ns=time.monotonic_ns(),
            header=header,
            slots=tuple(slot for slot in slots if slot is not None),
            board=Board.unpack(board) if board else None,
        )

    def _slot(self, header: Header, slot: int) -> RawSlot | None:
        payload: bytes | None = None
        for _ in range(ATTEMPTS):
            payload = unpack_record(os.pread(self._fd, IDENTITY_SIZE, header.identity_offset(slot)))
            if payload is not None:
                break
        if payload == b"":
            return None
        offset = header.slot_offset(slot)
        identity = Identity.unpack(payload) if payload else None
        return read_slot(
            lambda start, size: os.pread(self._fd, size, offset + start),
            slot,
            identity,
            identity_damaged=identity is None,
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
