"""The tree cut into tiles (C2SP tlog-tiles, static-ct-api): 256 hashes each, one level for 8 of the tree. Pure.

Rules:
- A full tile never changes. So only full tiles are ever stored; what is right of them is the `Frontier`, from which a
  partial tile of any published width can be cut.
- A full tile can be checked: its root stands in the tile above it, and so on up to the frontier and the signed root.
- Growing a frontier tells which tiles became full, with their content: there is no other way to make one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from services.ct.messages import DATA_LEVEL, MAX_TREE_SIZE
from services.rfc6962 import structures
from services.rfc6962.merkle import HASH_OCTETS, Edge, edge_of, leaf_hash, node_hash
from services.rfc6962.structures import LEAF_PREFIX, StructureError, TileLeaf

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
FULL_OCTETS: Final = WIDTH * HASH_OCTETS
LEVELS: Final = 5  # 256 ** 5 is one more than the largest tree


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which tile: `level` is DATA_LEVEL for the entries themselves."""

    level: int
    index: int

    def __post_init__(self) -> None:
        if not DATA_LEVEL <= self.level < LEVELS or not 0 <= self.index <= MAX_TREE_SIZE >> HEIGHT:
            raise ValueError(f"there is no tile {self.index} at level {self.level}")

    @property
    def path(self) -> str:
        """Where the full tile lies below the directory of the log, and below the monitoring prefix."""
        level = "data" if self.level == DATA_LEVEL else str(self.level)
        return f"tile/{level}/{index_path(self.index)}"


def index_path(index: int) -> str:
    """The index of a tile in groups of three digits, all but the last marked: 1234067 is x001/x234/067."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def full_tiles(level: int, size: int) -> int:
    """How many full tiles a tree of `size` leaves has at this level."""
    return size >> HEIGHT * (max(level, 0) + 1)


def width_at(place: Place, size: int) -> int:
    """How many hashes, or entries, the tile has in a tree of `size` leaves; 256 at most."""
    return max(0, min(WIDTH, (size >> HEIGHT * max(place.level, 0)) - (place.index << HEIGHT)))


class Tile:
    """The hashes of a tile, and all nodes between them. Raises ValueError for octets that are no tile."""

    __slots__ = ("_rows",)

    def __init__(self, hashes: bytes) -> None:
        width, odd = divmod(len(hashes), HASH_OCTETS)
        if odd or not 1 <= width <= WIDTH:
            raise ValueError(f"{len(hashes)} octets are no tile")
        self._rows = list(_rows(hashes))

    @property
    def hashes(self) -> bytes:
        """The tile as it is stored and served."""
        return self._rows[0]

    @property
    def root(self) -> bytes:
        """The hash that stands for the tile at the level above. Raises ValueError for a partial tile."""
        if len(self._rows) <= HEIGHT:
            raise ValueError("a partial tile has no root")
        return self._rows[HEIGHT]

    def node(self, height: int, index: int) -> bytes:
        """The node `height` rows above the hashes. Raises ValueError when the tile is too narrow for it."""
        if not 0 <= height < len(self._rows):
            raise ValueError(f"a tile of {len(self.hashes)} octets has no nodes {height} rows up")
        return hash_at(self._rows[height], index)


def hash_at(hashes: bytes, index: int) -> bytes:
    """One of the concatenated hashes. Raises ValueError when there are fewer."""
    found = hashes[index * HASH_OCTETS : (index + 1) * HASH_OCTETS]
    if index < 0 or len(found) != HASH_OCTETS:
        raise ValueError(f"there is no hash {index} among {len(hashes)} octets")
    return found


def _rows(hashes: bytes) -> Iterator[bytes]:
    row = hashes
    while row:
        yield row
        pair = 2 * HASH_OCTETS
        complete = len(row) // pair * pair
        row = b"".join(
            node_hash(row[at : at + HASH_OCTETS], row[at + HASH_OCTETS : at + pair]) for at in range(0, complete, pair)
        )


TileSource = Callable[[Place], Tile]


@dataclass(frozen=True, slots=True)
class Completed:
    """A tile that became full. Data tiles are completed together with the tile of level 0 of the same index."""

    place: Place
    tile: Tile


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is right of the full tiles of a tree: for each level, the hashes of its partial tile. Raises ValueError."""

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        widths = [(self.size >> HEIGHT * level) % WIDTH for level in range(LEVELS)]
        fits = [len(each) for each in self.hashes] == [width * HASH_OCTETS for width in widths]
        if not fits or not 0 <= self.size <= MAX_TREE_SIZE:
            raise ValueError(f"these are not the partial tiles of a tree of {self.size} leaves")

    @classmethod
    def above(cls, size: int, full_tile: TileSource) -> Frontier:
        """The frontier of a tree whose leaves all are in full tiles. Raises ValueError for another size."""
        if size % WIDTH:
            raise ValueError(f"a tree of {size} leaves does not consist of full tiles")
        hashes = [b""]
        for level in range(1, LEVELS):
            count = size >> HEIGHT * level
            below = range(count // WIDTH * WIDTH, count)
            hashes.append(b"".join(full_tile(Place(level - 1, index)).root for index in below))
        return cls(size, tuple(hashes))

    def grown(self, leaf_hashes: Iterable[bytes]) -> tuple[Frontier, tuple[Completed, ...]]:
        """The frontier after these leaves, and the tiles that became full, each after those below it."""
        size = self.size
        levels = [bytearray(each) for each in self.hashes]
        completed: list[Completed] = []
        for leaf in leaf_hashes:
            levels[0] += leaf
            size += 1
            if size % WIDTH == 0:
                completed += _complete(levels, size)
        return Frontier(size, tuple(bytes(each) for each in levels)), tuple(completed)

    def edge(self) -> Edge:
        """The complete subtrees of the tree, of which its root follows."""
        partial: dict[int, Tile] = {}

        def node(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, HEIGHT)
            if tile_level not in partial:
                partial[tile_level] = Tile(self.hashes[tile_level])
            return partial[tile_level].node(height, index % (WIDTH >> height))

        return edge_of(node, self.size)


EMPTY_FRONTIER: Final = Frontier(0, (b"",) * LEVELS)


def _complete(levels: list[bytearray], size: int) -> Iterator[Completed]:
    for level in range(LEVELS):
        if len(levels[level]) < FULL_OCTETS:
            return
        tile = Tile(bytes(levels[level]))
        yield Completed(Place(level, full_tiles(level, size) - 1), tile)
        levels[level].clear()
        if level + 1 < LEVELS:
            levels[level + 1] += tile.root


def place_of_node(level: int, index: int) -> tuple[Place, int, int]:
    """In which tile the root of a complete subtree is, how many rows up, and which one there."""
    tile_level, height = divmod(level, HEIGHT)
    in_row = WIDTH >> height
    return Place(tile_level, index // in_row), height, index % in_row


def split_data_tile(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a data tile, each a TileLeaf, with their leaf hashes. Raises StructureError.

    A TileLeaf begins with the TimestampedEntry that its leaf hash is over, as it stands there.
    """
    at = 0
    while at < len(content):
        timestamped, end = structures.tile_leaf_ends(content, at)
        yield content[at:end], leaf_hash(LEAF_PREFIX + content[at:timestamped])
        at = end


def parse_entry(octets: bytes) -> TileLeaf:
    """The one entry that these octets are. Raises StructureError."""
    leaf, end = structures.parse_tile_leaf(octets)
    if end != len(octets):
        raise StructureError(f"{len(octets) - end} octets follow the entry")
    return leaf
