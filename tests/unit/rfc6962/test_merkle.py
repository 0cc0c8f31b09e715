"""Trees and proofs that do not exist."""

import pytest

from services.ct import tiles
from services.ct.messages import DATA_LEVEL
from services.ct.tiles import EMPTY_FRONTIER, Frontier, Place, Tile
from services.rfc6962 import merkle
from services.rfc6962.merkle import EMPTY_ROOT, Edge
from services.rfc6962.structures import StructureError


def nowhere(level: int, index: int) -> bytes:
    raise AssertionError(f"node {index} of level {level} is asked for")


@pytest.mark.parametrize(("size", "peaks"), [(-1, ()), (0, (EMPTY_ROOT,)), (1, ()), (3, (EMPTY_ROOT,))])
def test_an_edge_with_another_number_of_peaks_does_not_construct(size: int, peaks: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="peaks"):
        Edge(size, peaks)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (6, 5)])
def test_no_leaf_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(nowhere, index, size)


@pytest.mark.parametrize(("first", "second"), [(2, 1), (-1, 5)])
def test_a_larger_tree_is_no_beginning_of_a_smaller_one(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="beginning"):
        merkle.consistency_proof(nowhere, first, second)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 9), (9, 9)])
def test_nothing_is_read_where_nothing_is_to_be_proven(first: int, second: int) -> None:
    assert merkle.consistency_proof(nowhere, first, second) == []


@pytest.mark.parametrize("count", [0, 3])
def test_a_perfect_tree_has_a_power_of_two(count: int) -> None:
    with pytest.raises(ValueError, match="perfect"):
        merkle.perfect_root([EMPTY_ROOT] * count)


@pytest.mark.parametrize("octets", [0, 31, 33, 257 * 32])
def test_what_is_not_whole_hashes_is_no_tile(octets: int) -> None:
    with pytest.raises(ValueError, match="no tile"):
        Tile(bytes(octets))


def test_a_partial_tile_has_no_root_and_no_nodes_beyond_its_width() -> None:
    tile = Tile(bytes(5 * 32))
    with pytest.raises(ValueError, match="no root"):
        assert tile.root
    for height, index in ((0, 5), (1, 2), (3, 0), (0, -1), (-1, 0)):
        with pytest.raises(ValueError, match="no"):
            tile.node(height, index)


@pytest.mark.parametrize(("level", "index"), [(-2, 0), (5, 0), (0, -1), (0, 1 << 32)])
def test_a_tile_beyond_every_tree_has_no_place(level: int, index: int) -> None:
    with pytest.raises(ValueError, match="there is no tile"):
        Place(level, index)


def test_paths_are_those_of_the_specification() -> None:
    """C2SP tlog-tiles: groups of three digits, all but the last with an x."""
    assert Place(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Place(DATA_LEVEL, 5).path == "tile/data/005"


def test_the_widths_are_those_of_the_specification() -> None:
    """static-ct-api, "Partial Tiles": a tree of 70,000."""
    size = 70_000
    assert [tiles.full_tiles(level, size) for level in range(3)] == [273, 1, 0]
    assert tiles.width_at(Place(0, 272), size) == 256
    assert tiles.width_at(Place(0, 273), size) == 112
    assert tiles.width_at(Place(1, 1), size) == 17
    assert tiles.width_at(Place(2, 0), size) == 1
    assert tiles.width_at(Place(0, 274), size) == 0
    assert tiles.width_at(Place(DATA_LEVEL, 273), size) == 112


def test_a_frontier_of_other_widths_does_not_construct() -> None:
    with pytest.raises(ValueError, match="partial tiles"):
        Frontier(1, EMPTY_FRONTIER.hashes)


def test_a_frontier_above_tiles_needs_full_ones() -> None:
    with pytest.raises(ValueError, match="full tiles"):
        Frontier.above(255, nowhere)  # type: ignore[arg-type] # not reached


def test_octets_after_an_entry_are_no_entry() -> None:
    with pytest.raises(StructureError):
        tiles.parse_entry(b"")
