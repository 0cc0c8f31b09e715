"""The decision of one batch: places, timestamps, the new tree."""

from dataclasses import replace

import pytest

from services.ct import sequencing
from services.ct.chain import Submission
from services.ct.messages import MAX_TREE_SIZE
from services.ct.sequencing import ForkRefused, Place, Tree, TreeFull
from services.ct.tiles import parse_entry
from services.rfc6962 import structures
from services.rfc6962.merkle import EMPTY_EDGE, EMPTY_ROOT, Edge, leaf_hash
from services.rfc6962.structures import PrecertEntry, X509Entry
from services.rfc6962.verifier import TreeHead

NOW = 1_800_000_000_000
EMPTY = sequencing.empty_tree(NOW)


def submission(text: str, precert: bool = False) -> Submission:
    entry = PrecertEntry(bytes(32), text.encode()) if precert else X509Entry(text.encode())
    encoded = structures.signed_entry(entry)
    identity = leaf_hash(encoded)
    return Submission(encoded, identity, text.encode() if precert else None, (b"issuer",), (bytes(32),))


def test_entries_get_consecutive_places_one_timestamp_and_a_head_over_them() -> None:
    submissions = [submission("a"), submission("b", precert=True)]
    batch = sequencing.sequence(EMPTY, submissions, {}, NOW + 5)
    assert [entry.place for entry in batch.entries] == [Place(0, NOW + 5), Place(1, NOW + 5)]
    assert batch.places == {s.identity: Place(n, NOW + 5) for n, s in enumerate(submissions)}
    edge = EMPTY_EDGE.extended(entry.leaf_hash for entry in batch.entries)
    assert batch.tree == Tree(TreeHead(2, NOW + 5, edge.root), edge)


def test_an_entry_is_stored_as_what_it_was_hashed_from() -> None:
    (entry,) = sequencing.sequence(EMPTY, [submission("b", precert=True)], {}, NOW).entries
    leaf = parse_entry(entry.leaf)
    assert (leaf.timestamp, leaf.leaf_index, leaf.entry) == (NOW, 0, PrecertEntry(bytes(32), b"b"))
    assert (leaf.pre_certificate, leaf.chain) == (b"b", (bytes(32),))
    assert (
        leaf_hash(leaf.merkle_tree_leaf)
        == entry.leaf_hash
        == sequencing.leaf_of(submission("b", True).entry, entry.place)
    )


def test_what_is_known_keeps_its_place_and_its_first_timestamp() -> None:
    first = sequencing.sequence(EMPTY, [submission("a")], {}, NOW)
    known = {submission("a").identity: first.places[submission("a").identity]}
    again = sequencing.sequence(first.tree, [submission("a"), submission("c")], known, NOW + 1000)
    assert again.places[submission("a").identity] == Place(0, NOW)
    assert [entry.place for entry in again.entries] == [Place(1, NOW + 1000)]


def test_what_comes_twice_in_one_batch_is_one_entry() -> None:
    batch = sequencing.sequence(EMPTY, [submission("a"), submission("b"), submission("a")], {}, NOW)
    assert (len(batch.entries), batch.tree.head.size) == (2, 2)


def test_the_same_text_as_certificate_and_as_precertificate_is_two_entries() -> None:
    assert submission("a").identity != submission("a", precert=True).identity


def test_timestamps_never_go_back_whatever_the_clock_does() -> None:
    first = sequencing.sequence(EMPTY, [submission("a")], {}, NOW + 60_000)
    second = sequencing.sequence(first.tree, [submission("b")], {}, NOW)
    assert second.tree.head.timestamp == NOW + 60_000
    assert second.entries[0].place.timestamp == NOW + 60_000


def test_no_head_is_older_than_a_timestamp_in_its_tree() -> None:
    tree = EMPTY
    for step, text in enumerate("abcde"):
        batch = sequencing.sequence(tree, [submission(text)], {}, NOW - 10 * step)
        assert batch.tree.head.timestamp >= max(entry.place.timestamp for entry in batch.entries)
        tree = batch.tree


def test_an_empty_batch_is_the_same_tree_with_a_newer_head() -> None:
    first = sequencing.sequence(EMPTY, [submission("a")], {}, NOW)
    again = sequencing.sequence(first.tree, [], {}, NOW + 7)
    assert again.entries == ()
    assert again.tree == Tree(replace(first.tree.head, timestamp=NOW + 7), first.tree.edge)


@pytest.mark.parametrize("head", [TreeHead(1, NOW, EMPTY_ROOT), TreeHead(0, NOW, bytes(32))])
def test_a_head_of_another_tree_does_not_construct(head: TreeHead) -> None:
    with pytest.raises(ForkRefused):
        Tree(head, EMPTY_EDGE)


@pytest.mark.parametrize(
    "after",
    [TreeHead(4, NOW, bytes(32)), TreeHead(5, NOW - 1, bytes(32)), TreeHead(5, NOW, bytes(31) + b"x")],
    ids=["smaller", "older", "different"],
)
def test_no_head_follows_that_growth_does_not_explain(after: TreeHead) -> None:
    with pytest.raises(ForkRefused):
        sequencing.check_successor(TreeHead(5, NOW, bytes(32)), after)


def test_a_larger_or_newer_head_follows() -> None:
    before = TreeHead(5, NOW, bytes(32))
    sequencing.check_successor(before, TreeHead(5, NOW + 1, bytes(32)))
    sequencing.check_successor(before, TreeHead(6, NOW, bytes(31) + b"x"))


def test_a_tree_that_an_sct_cannot_number_takes_nothing_more() -> None:
    edge = Edge(MAX_TREE_SIZE, (bytes(32),) * MAX_TREE_SIZE.bit_count())
    full = Tree(TreeHead(MAX_TREE_SIZE, NOW, edge.root), edge)
    with pytest.raises(TreeFull):
        sequencing.sequence(full, [submission("a")], {}, NOW)
    assert sequencing.sequence(full, [], {}, NOW + 1).tree.head.size == MAX_TREE_SIZE
