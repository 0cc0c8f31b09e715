"""One batch of entries gets its place in the tree: the decision, without its storing. Pure.

Rules:
- A `Tree` cannot be made of a head and an edge that do not belong together, and a batch only ever extends the edge it
  was given. So no head can be made of a smaller tree or of another one than the log stands by.
- One timestamp serves the whole batch, its SCTs and its tree head: the head is never older than an SCT in it (RFC 6962,
  section 3.5). It never goes back, whatever the clock does.
- What is known already keeps its place and its first timestamp (section 3.1), also within one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.ct.chain import Submission
from services.ct.messages import MAX_TREE_SIZE
from services.rfc6962 import structures
from services.rfc6962.merkle import EMPTY_EDGE, EMPTY_ROOT, Edge, leaf_hash
from services.rfc6962.verifier import TreeHead


class ForkRefused(ValueError):
    """The log would stand by a tree that is not the one it stood by before, grown."""


class TreeFull(ValueError):
    """The tree has as many leaves as an SCT can number."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands, and since when (milliseconds since the Unix epoch)."""

    leaf_index: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that gets its place in this batch. `leaf` is its TileLeaf."""

    identity: bytes
    place: Place
    leaf_hash: bytes
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree that the log stands by. Raises ForkRefused for a head that is not the head of this edge."""

    head: TreeHead
    edge: Edge

    def __post_init__(self) -> None:
        if self.head.size != self.edge.size or self.head.root != self.edge.root:
            raise ForkRefused(f"the head of {self.head.size} leaves is not that of this tree of {self.edge.size}")


@dataclass(frozen=True, slots=True)
class Batch:
    """The new entries in order, the place of every submission by identity, and the tree with them in it."""

    entries: tuple[NewEntry, ...]
    places: Mapping[bytes, Place]
    tree: Tree


def empty_tree(now: int) -> Tree:
    """The tree of a new log."""
    return Tree(TreeHead(0, now, EMPTY_ROOT), EMPTY_EDGE)


def sequence(tree: Tree, submissions: Iterable[Submission], known: Mapping[bytes, Place], now: int) -> Batch:
    """Give each submission its place. `known` are places by identity, `now` is in milliseconds. Raises TreeFull."""
    timestamp = max(now, tree.head.timestamp)
    places: dict[bytes, Place] = {}
    entries: list[NewEntry] = []
    for submission in submissions:
        if submission.identity in places:
            continue
        if (place := known.get(submission.identity)) is None:
            place = Place(tree.head.size + len(entries), timestamp)
            entries.append(_new_entry(submission, place))
        places[submission.identity] = place
    edge = tree.edge.extended(entry.leaf_hash for entry in entries)
    return Batch(tuple(entries), places, Tree(TreeHead(edge.size, timestamp, edge.root), edge))


def check_successor(before: TreeHead, after: TreeHead) -> None:
    """Refuse what no growth explains. Raises ForkRefused."""
    if after.size < before.size or after.timestamp < before.timestamp:
        raise ForkRefused(f"a tree of {after.size} leaves does not follow one of {before.size}")
    if after.size == before.size and after.root != before.root:
        raise ForkRefused(f"another root for the same {before.size} leaves")


def leaf_of(entry: bytes, place: Place) -> bytes:
    """The leaf hash of an entry (from `structures.signed_entry`) at its place."""
    extensions = structures.leaf_index_extension(place.leaf_index)
    return leaf_hash(structures.merkle_tree_leaf(place.timestamp, entry, extensions))


def _new_entry(submission: Submission, place: Place) -> NewEntry:
    if place.leaf_index >= MAX_TREE_SIZE:
        raise TreeFull(f"the tree has {MAX_TREE_SIZE} leaves: start a new log")
    extensions = structures.leaf_index_extension(place.leaf_index)
    timestamped = structures.timestamped_entry(place.timestamp, submission.entry, extensions)
    leaf = structures.tile_leaf_of(timestamped, submission.pre_certificate, submission.fingerprints)
    hashed = leaf_hash(structures.LEAF_PREFIX + timestamped)
    return NewEntry(submission.identity, place, hashed, leaf)
