"""The tree as it can be asked for: full tiles from their files, the rest from the frontier in memory.

Rules:
- What is read is checked against the tile above it, up to the frontier, whose root is signed. So a damaged file is told
  (LogDamaged) before anything is derived from it, and a proof from here always leads to the signed root.
- Memory is bounded: the most recently used tiles, by number and, for entries, by octets.
- Tiles that became full and are not in files yet are `unpublished` and are used from memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from services.ct.messages import DATA_LEVEL
from services.ct.tile_files import LogDamaged, TileFiles
from services.ct.tiles import (
    HEIGHT,
    WIDTH,
    Completed,
    Frontier,
    Place,
    Tile,
    hash_at,
    place_of_node,
    split_data_tile,
    width_at,
)
from services.rfc6962.merkle import edge_of
from services.rfc6962.structures import StructureError

REMEMBERED_TILES: Final = 1024
REMEMBERED_ENTRY_OCTETS: Final = 16 * 1_048_576


class TreeTiles:
    """The tiles of a tree whose right edge is `frontier`."""

    def __init__(self, files: TileFiles, frontier: Frontier) -> None:
        self.files = files
        self.frontier = frontier
        self.unpublished: dict[Place, Tile] = {}
        self._partial: dict[int, Tile] = {}
        self._tiles: OrderedDict[Place, Tile] = OrderedDict()
        self._entries: OrderedDict[int, Sequence[bytes]] = OrderedDict()
        self._entry_octets = 0

    def grow(self, frontier: Frontier, completed: Iterable[Completed]) -> None:
        """The tree has grown; nothing of that is in files."""
        self.frontier = frontier
        self._partial.clear()
        self.unpublished.update((each.place, each.tile) for each in completed)

    def published(self, places: Iterable[Place]) -> None:
        """These tiles are in files now."""
        for place in places:
            self._remember(place, self.unpublished.pop(place))

    def node(self, level: int, index: int) -> bytes:
        """The root of a complete subtree. Raises ValueError when the tree has none there, and LogDamaged."""
        place, height, at = place_of_node(level, index)
        return self.tile(place).node(height, at)

    def root_at(self, size: int) -> bytes:
        """The root of the tree of the first `size` leaves. Raises ValueError beyond the tree, and LogDamaged."""
        return edge_of(self.node, size).root

    def tile(self, place: Place) -> Tile:
        """A tile of hashes, as far as the tree goes. Raises ValueError beyond it, and LogDamaged."""
        width = width_at(place, self.frontier.size)
        if width == 0:
            raise ValueError(f"a tree of {self.frontier.size} leaves has no tile {place.index} at level {place.level}")
        if width == WIDTH:
            return self._full(place)
        if place.level not in self._partial:
            self._partial[place.level] = Tile(self.frontier.hashes[place.level])
        return self._partial[place.level]

    def entries(self, index: int) -> Sequence[bytes] | None:
        """The entries of a data tile, if it is at hand."""
        if (found := self._entries.get(index)) is not None:
            self._entries.move_to_end(index)
        return found

    def read_entries(self, index: int, hashes: Tile) -> Sequence[bytes]:
        """Read and check a data tile; `hashes` is the tile of level 0 above it. May run in another thread."""
        place = Place(DATA_LEVEL, index)
        content = self.files.read(place)
        entries: list[bytes] = []
        try:
            for entry, hashed in islice(split_data_tile(content), WIDTH):
                if hashed != hash_at(hashes.hashes, len(entries)):
                    raise self._damaged(place, f"entry {(index << HEIGHT) + len(entries)} is not the one in the tree")
                entries.append(entry)
        except StructureError as error:
            raise self._damaged(place, str(error)) from error
        if len(entries) != WIDTH or sum(map(len, entries)) != len(content):
            raise self._damaged(place, f"it does not hold {WIDTH} entries")
        return entries

    def remember_entries(self, index: int, entries: Sequence[bytes]) -> None:
        """Keep the entries of a data tile at hand."""
        self._forget(index)
        self._entries[index] = entries
        self._entry_octets += sum(map(len, entries))
        while self._entry_octets > REMEMBERED_ENTRY_OCTETS and len(self._entries) > 1:
            self._forget(next(iter(self._entries)))

    def _forget(self, index: int) -> None:
        self._entry_octets -= sum(map(len, self._entries.pop(index, ())))

    def _full(self, place: Place) -> Tile:
        if (found := self.unpublished.get(place)) is not None:
            return found
        if (found := self._tiles.get(place)) is not None:
            self._tiles.move_to_end(place)
            return found
        above = self.tile(Place(place.level + 1, place.index >> HEIGHT))
        tile = Tile(self.files.read(place))
        if tile.root != hash_at(above.hashes, place.index % WIDTH):
            raise self._damaged(place, "its hashes are not those of the tree")
        self._remember(place, tile)
        return tile

    def _remember(self, place: Place, tile: Tile) -> None:
        self._tiles[place] = tile
        while len(self._tiles) > REMEMBERED_TILES:
            self._tiles.popitem(last=False)

    def _damaged(self, place: Place, found: str) -> LogDamaged:
        return LogDamaged(
            f"{self.files.directory / place.path} is damaged: {found}. Nothing was changed. Put this file back from a "
            "backup: a tile that is full never changes"
        )
