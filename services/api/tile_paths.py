"""Paths of tiles as C2SP's tlog-tiles writes them: text in, numbers out.

    N           decimal, in groups of three digits; all groups but the last begin with `x`: 1234067 is x001/x234/067
    .p/W        after it: a partial tile of W hashes or entries, 1 to 255
    L           decimal, 0 to 5

Rules: every tile has one path. What is written in another way (more zeros than needed, a sign, other digits) is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from services.ct.messages import MAX_TREE_SIZE

FULL_WIDTH: Final = 256
MAX_LEVEL: Final = 5
_TILE: Final = re.compile(r"((?:x[0-9]{3}/){0,4})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of some level, and how many hashes or entries of it: FULL_WIDTH for all."""

    index: int
    width: int


def parse_tile(text: str) -> Tile | None:
    """`N[.p/W]` as numbers, or None if it is not the path of a tile."""
    found = _TILE.fullmatch(text)
    if found is None or found[1].startswith("x000"):
        return None
    index = int(found[1].replace("x", "").replace("/", "") + found[2])
    width = int(found[3]) if found[3] else FULL_WIDTH
    return Tile(index, width) if index <= MAX_TREE_SIZE and (width < FULL_WIDTH or not found[3]) else None


def format_tile(tile: Tile) -> str:
    """The path of a tile, below its level."""
    digits = str(tile.index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return path if tile.width == FULL_WIDTH else f"{path}.p/{tile.width}"


def parse_level(text: str) -> int | None:
    """The level of a tile of hashes, or None if there is none of this name."""
    return int(text) if len(text) == 1 and "0" <= text <= str(MAX_LEVEL) else None


def parse_fingerprint(text: str) -> bytes | None:
    """A SHA-256 in lower-case hexadecimal, or None if it is none."""
    return bytes.fromhex(text) if _FINGERPRINT.fullmatch(text) else None
