"""How far record and log were compared. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeenLog:
    """The newest tree head that was seen and believed, and how far its entries were compared.

    `public_key` is the SubjectPublicKeyInfo of the log, `peaks` are the complete subtrees of the first `position`
    entries.
    """

    public_key: bytes
    tree_size: int
    timestamp: int
    root_hash: bytes
    signature: bytes
    position: int = 0
    peaks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far the whole comparison has come: the next leaf index, and the last row without one. Times in seconds."""

    started_at: int
    leaf: int = 0
    certificate: int = 0
    swept_at: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end."""
        return self.swept_at is not None and self.swept_at >= self.started_at
