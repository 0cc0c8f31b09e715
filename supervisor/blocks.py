"""The metrics block of the running tree: made again when it was damaged, and never a reason for supervision to fail.

Rules: the old block is closed before the new one is made, because both have the same name. While there is none (no
memory for it) heartbeats are unknown, and unknown means alive.
"""

from collections.abc import Callable
from typing import Final, Protocol

from monitoring.block import BlockDamaged, BlockError, Board, ChildState
from supervisor.child import SECOND, ChildSpec
from supervisor.lifecycle import State
from supervisor.log import Log

REBUILD_NS: Final = 5 * SECOND
"""Between two blocks: somebody who damages it all the time must not keep the whole tree restarting."""


class Block(Protocol):
    """What is used of `monitoring.block.Block`."""

    name: str

    def assign(self, slot: int, service: str, index: int) -> None:
        """Give a slot to a worker."""

    def record_start(self, slot: int, pid: int, generation: int, now_ns: int) -> None:
        """Tell of a new process."""

    def record_state(self, slot: int, state: ChildState, restarts: int) -> None:
        """Tell of a new state."""

    def heartbeat_ns(self, slot: int) -> int:
        """Time of the last heartbeat of the present process, 0 for none."""

    def board(self) -> Board | None:
        """What the monitor published last."""

    def check(self) -> None:
        """Raise BlockDamaged."""

    def close(self) -> None:
        """Remove the block."""


class Blocks:
    """The present block, if there is one."""

    def __init__(self, create: Callable[[], Block], specs: tuple[ChildSpec, ...], log: Log) -> None:
        """Make the first block. Raises BlockError."""
        self._create = create
        self._specs = specs
        self._log = log
        self.name = ""
        self._block: Block | None = self._make()
        self._made_at = 0

    def _make(self) -> Block:
        block = self._create()
        self.name = block.name
        for spec in self._specs:
            block.assign(spec.slot, spec.name, spec.index)
        return block

    def repair(self, now: int) -> bool:
        """Look at the block; return whether it had to be replaced by a new one, which no process writes to yet."""
        if self._block is not None:
            try:
                self._block.check()
            except BlockDamaged as error:
                self._log.error("the metrics block is damaged", detail=str(error))
                self._discard()
            else:
                return False
        if self._made_at and now - self._made_at < REBUILD_NS:
            return False
        self._made_at = now
        try:
            self._block = self._make()
        except BlockError as error:
            self._log.error("no metrics block: hangs are not noticed meanwhile", detail=str(error))
            return False
        self._log.warning("a new metrics block: every worker is restarted on it, one at a time", block=self._block.name)
        return True

    def _discard(self) -> None:
        if self._block is not None:
            try:
                self._block.close()
            except OSError as error:
                self._log.failure("the damaged block was not removed", error)
            self._block = None

    def record_start(self, spec: ChildSpec, pid: int, generation: int, restarts: int, now: int) -> None:
        """A process was started."""
        if self._block is not None:
            self._block.record_start(spec.slot, pid, generation, now)
            self._block.record_state(spec.slot, "starting", restarts)

    def record_state(self, spec: ChildSpec, state: State, restarts: int) -> None:
        """A child changed its state."""
        if self._block is not None:
            self._block.record_state(spec.slot, state.value, restarts)

    def heartbeat_ns(self, spec: ChildSpec) -> int | None:
        """Return the time of the last heartbeat, 0 if there was none in this generation, None if it is unknown."""
        return None if self._block is None else self._block.heartbeat_ns(spec.slot)

    def board(self) -> Board | None:
        """Return what the monitor published last."""
        return None if self._block is None else self._block.board()

    def close(self) -> None:
        """Remove the block; only after the workers have ended."""
        self._discard()
