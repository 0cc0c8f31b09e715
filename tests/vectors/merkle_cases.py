"""The 518 cases of github.com/transparency-dev/merkle, `testdata` (commit 417fb0c), made again from their rules.

Each family starts from proofs that hold in the tree over eight well-known leaves, and from what must be refused: every
proof is changed in all the ways in which a proof can be wrong. RECORDED tells, for each family, how many cases there
are and the SHA-256 over all of them as published: only the very same octets give it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

LEAVES = tuple(
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
)
ROOTS = tuple(
    bytes.fromhex(root)
    for root in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
)
RECORDED = {
    "inclusion": (98, "46b5c356684fb7c87acf2f7c4d6e6190e999b0e3f073f0466292615253a773c5"),
    "consistency": (98, "b9a1d34d6b8493a9c8d046954ae3fa402c758f570705e05ff14554abcd09eaac"),
    "subtreeinclusion": (204, "2df8ed0abb1d64f67d36eeb17f319b53be20d53e1da43fed78f6687eff1a3dc5"),
    "subtreeconsistency": (118, "9c3b28e0b9a30db114678a05146ecaae59bc30f158698bab47f0c384ed6aeb6d"),
}

EMPTY = ROOTS[0]
RANDOM = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")
SINGLE = bytes.fromhex("0d3aed023148ffd2a259fbd0cdc7fb3cf975658760d3775b82af6f90aacc2dfc")
CARELESS, CARELESS_TOO = b"don't care 1", b"don't care 2"
BELOW_ZERO = 2**64 - 1


@dataclass(frozen=True)
class Case:
    """One proof. Of a consistency case `leaf` is the root of the smaller tree, of an inclusion case the leaf hash."""

    numbers: tuple[int, ...]
    leaf: bytes
    root: bytes
    proof: tuple[bytes, ...]
    refused: bool = True

    @property
    def line(self) -> str:
        """All of it, in one way only."""
        proof = [each.hex() for each in self.proof]
        return json.dumps([self.numbers, self.leaf.hex(), self.root.hex(), proof, self.refused])


def digest(cases: Iterable[Case]) -> str:
    """SHA-256 over the cases, in an order that does not depend on how they were listed."""
    return sha256("\n".join(sorted(case.line for case in cases)).encode()).hexdigest()


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH, word for word as RFC 6962, section 2.1, has it."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def mth(start: int, end: int) -> bytes:
    """MTH(D[start:end]) of the well-known leaves."""
    return tree_hash(LEAVES[start:end])


def _flipped(hashed: bytes, bit: int) -> bytes:
    return bytes((hashed[0] ^ 1 << bit,)) + hashed[1:]


def _mended(case: Case, proofs: Iterable[Sequence[bytes]]) -> Iterator[Case]:
    return (replace(case, proof=tuple(proof), refused=True) for proof in proofs)


# Proofs that hold: (index, size, proof) and (first, second, proof); each sibling by the leaves below it.
INCLUSION = (
    (0, 1, ()),
    (0, 8, ((1, 2), (2, 4), (4, 8))),
    (5, 8, ((4, 5), (6, 8), (0, 4))),
    (2, 3, ((0, 2),)),
    (1, 5, ((0, 1), (2, 4), (4, 5))),
)
CONSISTENCY = (
    (1, 1, ()),
    (1, 8, ((1, 2), (2, 4), (4, 8))),
    (6, 8, ((4, 6), (6, 8), (0, 4))),
    (2, 5, ((2, 4), (4, 5))),
    (6, 7, ((4, 6), (6, 7), (0, 4))),
)


def inclusion() -> Iterator[Case]:
    for index, size, siblings in INCLUSION:
        yield from _wrong_inclusions(index, size, siblings)
    for index, size in ((0, 0), (0, 1), (1, 0), (2, 1)):
        yield from _nothing_included((index, size))
    yield from _single((0, 1))


def subtree_inclusion() -> Iterator[Case]:
    for index, size, siblings in INCLUSION:
        for case in _wrong_inclusions(index, size, siblings):
            yield replace(case, numbers=(case.numbers[0], 0, case.numbers[1]))
            yield replace(case, numbers=_moved(*case.numbers))
    for index, size in ((0, 0), (0, 1), (1, 0), (2, 1)):
        yield from _nothing_included((index, 0, size))
        yield from _nothing_included((index + 1, 1, size + 1))
    yield from _single((0, 0, 1))
    yield from _single((1, 1, 2))
    impossible = ((0, 0, 0), (1, 1, 2**63 + 2), (3, 3, 5), (0, 1, 2), (3, 0, 3), (3, 0, 2), (0, 1, 1), (0, 2, 1))
    yield from (Case(numbers, mth(0, 1), EMPTY, ()) for numbers in impossible)


def _moved(index: int, size: int) -> tuple[int, int, int]:
    """The same leaves as the second subtree of their width."""
    start = 1 << max(size - 1, 0).bit_length()
    return (index if index == BELOW_ZERO else start + index, start, start + size)


def _wrong_inclusions(index: int, size: int, siblings: Sequence[tuple[int, int]]) -> Iterator[Case]:
    proof = tuple(mth(*sibling) for sibling in siblings)
    root = mth(0, size)
    right = Case((index, size), mth(index, index + 1), root, proof, refused=False)
    yield right
    wrong = replace(right, refused=True)
    for at in (index - 1 if index else BELOW_ZERO, index + 1, index ^ 2):
        yield replace(wrong, numbers=(at, size))
    for end in (size * 2, size // 2):
        yield replace(wrong, numbers=(index, end))
    for wrong_root in (EMPTY, RANDOM):
        yield replace(wrong, root=wrong_root)
    yield replace(wrong, leaf=b"WrongLeaf")
    yield from _mended(right, ((*proof, b""), (*proof, root), (b"", *proof), (root, *proof)))
    yield from _mended(right, ((*proof[:n], _flipped(proof[n], 3), *proof[n + 1 :]) for n in range(len(proof))))
    if proof:
        yield from _mended(right, (proof[:-1],))
    if len(proof) > 1:
        yield from _mended(right, ((proof[0], RANDOM, *proof[1:]),))


def _nothing_included(numbers: tuple[int, ...]) -> Iterator[Case]:
    yield Case(numbers, b"", EMPTY, ())
    yield Case(numbers, RANDOM, EMPTY, ())
    yield Case(numbers, RANDOM, b"", ())


def _single(numbers: tuple[int, ...]) -> Iterator[Case]:
    yield Case(numbers, SINGLE, SINGLE, (), refused=False)
    yield Case(numbers, b"", SINGLE, ())
    yield Case(numbers, SINGLE, b"", ())
    yield Case(numbers, b"", b"", ())


def consistency() -> Iterator[Case]:
    for first, second, siblings in CONSISTENCY:
        yield from _wrong_consistencies(first, second, siblings)
    yield from _odd_sizes()
    yield Case((0, 0), EMPTY, CARELESS_TOO, ())
    yield Case((0, 1), EMPTY, CARELESS_TOO, ())


def subtree_consistency() -> Iterator[Case]:
    for first, second, siblings in CONSISTENCY:
        for case in _wrong_consistencies(first, second, siblings):
            yield replace(case, numbers=(0, *case.numbers))
        if siblings:
            right = next(_wrong_consistencies(first, second, siblings))
            yield replace(right, numbers=(1, 15, 15), refused=True)
    yield from (replace(case, numbers=(0, *case.numbers)) for case in _odd_sizes())
    yield Case((0, 1, 1), EMPTY, CARELESS_TOO, ())
    yield Case((0, 1, 2), CARELESS, CARELESS_TOO, ())
    for numbers in ((1, 15, 15), (1, 3, 8), (2, 5, 8), (2, 6, 8)):
        yield Case(numbers, CARELESS, CARELESS_TOO, ())
    for numbers in ((1, 1, 2), (1, 1, 1), (0, 0, 0)):
        yield Case(numbers, CARELESS, CARELESS, ())
        yield Case(numbers, EMPTY, EMPTY, (), refused=False)
        if numbers != (0, 0, 0):
            yield Case(numbers, EMPTY, EMPTY, (EMPTY,))
    yield Case((1, 1, 2), EMPTY, EMPTY, (), refused=False)
    for numbers in ((1, 1, 1), (0, 0, 0)):
        yield Case(numbers, EMPTY, CARELESS, (), refused=False)
    yield Case((0, 0, 0), EMPTY, EMPTY, (EMPTY,))


def _wrong_consistencies(first: int, second: int, siblings: Sequence[tuple[int, int]]) -> Iterator[Case]:
    proof = tuple(mth(*sibling) for sibling in siblings)
    smaller, larger = mth(0, first), mth(0, second)
    right = Case((first, second), smaller, larger, proof, refused=False)
    yield right
    if not proof:
        return
    wrong = replace(right, refused=True)
    for sizes in (
        (first - 1, second),
        (first + 1, second),
        (first ^ 2, second),
        (first, second * 2),
        (first, second // 2),
    ):
        yield replace(wrong, numbers=sizes)
    yield replace(wrong, leaf=b"WrongRoot")
    yield replace(wrong, root=b"WrongRoot")
    yield replace(wrong, leaf=larger, root=smaller)
    yield from _mended(right, ((), proof[:-1]))
    yield from _mended(right, ((*proof, extra) for extra in (b"", smaller, larger)))
    yield from _mended(right, ((extra, *proof) for extra in (b"", smaller, larger, proof[0])))
    yield from _mended(right, ((*proof[:n], _flipped(proof[n], 4), *proof[n + 1 :]) for n in range(len(proof))))


def _odd_sizes() -> Iterator[Case]:
    """Sizes that have no proof, as the whole tree has them."""
    yield Case((0, 1), EMPTY, EMPTY, (EMPTY,))
    yield Case((0, 0), EMPTY, EMPTY, (EMPTY,))
    yield Case((1, 1), EMPTY, EMPTY, (EMPTY,))
    yield Case((1, 1), EMPTY, CARELESS_TOO, ())
    for sizes in ((2, 1), (1, 0), (0, 1), (1, 1), (0, 0), (1, 2)):
        yield Case(sizes, CARELESS, CARELESS_TOO, ())
    yield Case((0, 0), CARELESS, CARELESS, ())
    yield Case((1, 1), CARELESS_TOO, CARELESS_TOO, (), refused=False)


FAMILIES = {
    "inclusion": inclusion,
    "consistency": consistency,
    "subtreeinclusion": subtree_inclusion,
    "subtreeconsistency": subtree_consistency,
}
