"""The Merkle tree of RFC 6962, section 2.1: hashes, roots, proofs and their verification. Pure.

A `NodeSource` gives the hash of a complete subtree: `nodes(level, index)` covers the leaves from `index << level` on,
`1 << level` of them. Everything that can be said of a tree of any size follows from complete subtrees alone.

Rules:
- Every hash is 32 octets; leaves and nodes are told apart by their first octet (section 2.1), so that no leaf can be
  passed off as a node.
- A proof is verified by its exact length first: neither a spare nor a missing hash is ever accepted.
- `Edge` is all that is needed to grow a tree: at most one hash for each bit of its size. It is never changed, only
  extended, so that what a failed commit leaves behind is the edge from before.
- Subtrees that begin anywhere are covered, too: a proof for the whole tree is the case `start == 0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

HASH_OCTETS: Final = 32
EMPTY_ROOT: Final = sha256().digest()

NodeSource = Callable[[int, int], bytes]


class ProofRefused(ValueError):
    """The proof does not show what it is said to show."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of one leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root above `hashes`, of which there are a power of two. Raises ValueError for another number."""
    if not hashes or len(hashes) & (len(hashes) - 1):
        raise ValueError(f"{len(hashes)} hashes have no perfect tree above them")
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@dataclass(frozen=True, slots=True)
class Edge:
    """A tree of `size` leaves by its complete subtrees, the largest first: one peak for each bit of the size.

    Raises ValueError when their number does not fit.
    """

    size: int
    peaks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.peaks) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves does not have {len(self.peaks)} peaks")

    def extended(self, leaf_hashes: Iterable[bytes]) -> Edge:
        """The tree with more leaves after these."""
        size, peaks = self.size, list(self.peaks)
        for hashed in leaf_hashes:
            carried, bits = hashed, size
            while bits & 1:
                carried = node_hash(peaks.pop(), carried)
                bits >>= 1
            peaks.append(carried)
            size += 1
        return Edge(size, tuple(peaks))

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = node_hash(peak, root)
        return root


EMPTY_EDGE: Final = Edge(0, ())


def edge_of(nodes: NodeSource, size: int) -> Edge:
    """The edge of the tree of the first `size` leaves."""
    return Edge(size, tuple(nodes(level, index) for level, index in peak_places(size)))


def peak_places(size: int) -> Iterator[tuple[int, int]]:
    """Level and index of each complete subtree of a tree of `size` leaves, the largest first."""
    before = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, before >> level
            before += 1 << level


def range_root(nodes: NodeSource, start: int, end: int) -> bytes:
    """MTH(D[start:end]) for a `start` that is a multiple of the power of two at or above the length."""
    if end == start:
        return EMPTY_ROOT
    level = (end - start).bit_length() - 1
    if end - start == 1 << level:
        return nodes(level, start >> level)
    middle = start + (1 << level)
    return node_hash(nodes(level, start >> level), range_root(nodes, middle, end))


def inclusion_proof(nodes: NodeSource, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) (section 2.1.1), from the leaf up. Raises ValueError when there is no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    downwards = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            downwards.append((middle, end))
            end = middle
        else:
            downwards.append((start, middle))
            start = middle
    return [range_root(nodes, *sibling) for sibling in reversed(downwards)]


def consistency_proof(nodes: NodeSource, first: int, second: int) -> list[bytes]:
    """PROOF(first, D[second]) (section 2.1.2). Empty for `first` 0 or equal sizes. Raises ValueError out of range."""
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {first} leaves is not the beginning of one of {second}")
    if first in {0, second}:
        return []
    proof = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(range_root(nodes, middle, end))
            end = middle
        else:
            proof.append(range_root(nodes, start, middle))
            start = middle
    # The verifier knows the subtree of the first tree when that begins at 0: it is the whole first tree.
    if start != 0:
        proof.append(range_root(nodes, start, end))
    proof.reverse()
    return proof


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes, *, start: int = 0
) -> None:
    """Check that `leaf` (a leaf hash) is leaf `index` of the tree with this root. Raises ProofRefused.

    With `start`, the tree is the subtree of the leaves from `start` up to, not including, `size`.
    """
    _demand(0 <= start < size and start <= index < size, "there is no such leaf")
    _check_lengths(leaf, root, *proof)
    _check_subtree(start, size)
    at, last = index - start, size - start - 1
    hashed = leaf
    for sibling in _exactly(proof, _inclusion_length(at, last + 1)):
        if at & 1 or at == last:
            while not at & 1:
                at, last = at >> 1, last >> 1
            hashed = node_hash(sibling, hashed)
        else:
            hashed = node_hash(hashed, sibling)
        at, last = at >> 1, last >> 1
    _demand(hashed == root, "it leads to another root")


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `first` leaves is the beginning of the tree of `second`. Raises ProofRefused.

    Nothing can be shown about an empty tree: it is the beginning of every other one.
    """
    _demand(first > 0, "nothing can be shown about an empty tree")
    verify_subtree_consistency(0, first, second, first_root, second_root, proof)


def verify_subtree_consistency(
    start: int, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the leaves from `start` up to, not including, `first` are a subtree of the tree of `second` leaves.

    The proof of an empty subtree is empty. Raises ProofRefused.
    """
    _demand(0 <= start <= first <= second, "the sizes cannot be those of a tree and its beginning")
    _check_lengths(*proof)
    if start == first:
        _demand(not proof and first_root == EMPTY_ROOT, "nothing is to be proven about an empty tree")
        return
    _check_subtree(start, first)
    if start == 0 and first == second:
        _demand(not proof, "nothing is to be proven about a tree and itself")
        _demand(first_root == second_root, "the roots of one tree differ")
        return
    at, last, end = _largest_complete(start, first - 1, second - 1)
    rest = list(proof)
    if at == last:
        smaller = larger = first_root
    else:
        _demand(bool(rest), "it is too short")
        smaller = larger = rest.pop(0)
    for sibling in rest:
        _demand(end > 0, "it is too long")
        if last & 1 or last == end:
            if at < last:
                smaller = node_hash(sibling, smaller)
            larger = node_hash(sibling, larger)
            while not last & 1:
                at, last, end = at >> 1, last >> 1, end >> 1
        else:
            larger = node_hash(larger, sibling)
        at, last, end = at >> 1, last >> 1, end >> 1
    _demand(end == 0, "it is too short")
    _demand(smaller == first_root, "it leads to another first root")
    _demand(larger == second_root, "it leads to another second root")


def _largest_complete(at: int, last: int, end: int) -> tuple[int, int, int]:
    """Up to the row of the largest complete subtree that ends where the first tree does."""
    while last & 1 and last not in {at, end}:
        at, last, end = at >> 1, last >> 1, end >> 1
    if last == end:
        while at != last:
            at, last, end = at >> 1, last >> 1, end >> 1
    return at, last, end


def _split(length: int) -> int:
    """The largest power of two below `length`, which is more than 1."""
    return 1 << ((length - 1).bit_length() - 1)


def _check_lengths(*hashes: bytes) -> None:
    _demand(all(len(each) == HASH_OCTETS for each in hashes), f"a hash has {HASH_OCTETS} octets")


def _check_subtree(start: int, end: int) -> None:
    width = 1 << (end - start - 1).bit_length()
    _demand(start % width == 0, "such a range of leaves is no subtree")


def _inclusion_length(index: int, size: int) -> int:
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def _exactly(proof: Sequence[bytes], length: int) -> Sequence[bytes]:
    _demand(len(proof) == length, f"it has {len(proof)} hashes and needs {length}")
    return proof


def _demand(held: bool, otherwise: str) -> None:
    if not held:
        raise ProofRefused(otherwise)
