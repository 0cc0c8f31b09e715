"""The tree, its proofs and its tiles agree with RFC 6962 read word for word, at any size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ct import tiles
from services.ct.messages import DATA_LEVEL
from services.ct.tiles import EMPTY_FRONTIER, HEIGHT, WIDTH, Frontier, Place, Tile
from services.rfc6962 import merkle
from services.rfc6962.merkle import EMPTY_EDGE, leaf_hash
from tests.vectors.merkle_cases import tree_hash

MOST = 700
LEAVES = [number.to_bytes(2, "big") for number in range(MOST)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
SIZES = st.integers(0, MOST) | st.sampled_from([0, 1, 2, 3, 255, 256, 257, 511, 512, 513])


def nodes(level: int, index: int) -> bytes:
    return tree_hash(LEAVES[index << level : (index + 1) << level])


@given(SIZES, SIZES)
def test_an_edge_grown_in_any_steps_has_the_root_of_the_whole(one: int, other: int) -> None:
    first, second = sorted((one, other))
    edge = EMPTY_EDGE.extended(HASHES[:first])
    assert edge.root == tree_hash(LEAVES[:first])
    assert edge.extended(HASHES[first:second]).root == tree_hash(LEAVES[:second])
    assert merkle.edge_of(nodes, second) == EMPTY_EDGE.extended(HASHES[:second])


@given(st.integers(1, MOST), st.data())
def test_every_leaf_is_proven_and_no_other_in_its_place(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(nodes, index, size)
    root = tree_hash(LEAVES[:size])
    merkle.verify_inclusion(index, size, HASHES[index], proof, root)
    other = data.draw(st.integers(0, MOST - 1).filter(lambda each: each != index))
    for wrong in ((other, HASHES[index]), (index, HASHES[other])):
        try:
            merkle.verify_inclusion(wrong[0], size, wrong[1], proof, root)
        except merkle.ProofRefused:
            continue
        raise AssertionError("a proof of one leaf proves another one")


@given(st.integers(1, MOST), st.integers(1, MOST))
def test_every_beginning_is_proven(one: int, other: int) -> None:
    first, second = sorted((one, other))
    proof = merkle.consistency_proof(nodes, first, second)
    merkle.verify_consistency(first, second, tree_hash(LEAVES[:first]), tree_hash(LEAVES[:second]), proof)
    assert merkle.consistency_proof(nodes, 0, second) == []


@settings(max_examples=30)
@given(SIZES, SIZES)
def test_a_frontier_grown_in_any_steps_leaves_the_same_tiles_behind(one: int, other: int) -> None:
    first, second = sorted((one, other))
    at_once, completed = EMPTY_FRONTIER.grown(HASHES[:second])
    halfway, early = EMPTY_FRONTIER.grown(HASHES[:first])
    in_steps, late = halfway.grown(HASHES[first:second])
    assert in_steps == at_once
    assert [(c.place, c.tile.hashes) for c in (*early, *late)] == [(c.place, c.tile.hashes) for c in completed]
    assert at_once.edge() == EMPTY_EDGE.extended(HASHES[:second])
    assert len([c for c in completed if c.place.level == 0]) == tiles.full_tiles(0, second) == second // WIDTH
    full = {c.place: c.tile for c in completed}
    aligned = second // WIDTH * WIDTH
    assert Frontier.above(aligned, full.__getitem__) == EMPTY_FRONTIER.grown(HASHES[:aligned])[0]


@given(st.integers(0, 2), st.integers(0, 8), st.integers(0, 1 << 20))
def test_a_node_is_where_its_place_says(tile_level: int, height: int, index: int) -> None:
    level = min(tile_level * HEIGHT + height, 20)
    place, rows_up, at = tiles.place_of_node(level, index)
    assert place.level * HEIGHT + rows_up == level
    assert (place.index * (WIDTH >> rows_up)) + at == index
    assert rows_up < HEIGHT


@given(st.integers(1, WIDTH), st.data())
def test_the_nodes_of_a_tile_are_those_of_the_tree(width: int, data: st.DataObject) -> None:
    tile = Tile(b"".join(HASHES[:width]))
    height = data.draw(st.integers(0, width.bit_length() - 1))
    index = data.draw(st.integers(0, (width >> height) - 1))
    assert tile.node(height, index) == nodes(height, index)


@given(st.integers(-1, 4), st.integers(0, (1 << 32) - 1))
def test_no_two_tiles_share_a_path(level: int, index: int) -> None:
    path = Place(level, index).path
    name, *groups = path.removeprefix("tile/").split("/")
    assert name == ("data" if level == DATA_LEVEL else str(level))
    assert int("".join(group.removeprefix("x") for group in groups)) == index
    assert all(group.startswith("x") for group in groups[:-1])
    assert not groups[-1].startswith("x")
