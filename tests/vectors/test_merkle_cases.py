"""Proofs of RFC 6962 as others judge them, wrong ones included."""

from collections.abc import Callable

import pytest

from services.rfc6962 import merkle
from services.rfc6962.merkle import EMPTY_EDGE, EMPTY_ROOT, ProofRefused, leaf_hash
from tests.vectors import merkle_cases
from tests.vectors.merkle_cases import FAMILIES, LEAVES, RECORDED, ROOTS, Case


def included(case: Case) -> None:
    index, size = case.numbers
    merkle.verify_inclusion(index, size, case.leaf, case.proof, case.root)


def consistent(case: Case) -> None:
    first, second = case.numbers
    merkle.verify_consistency(first, second, case.leaf, case.root, case.proof)


def subtree_included(case: Case) -> None:
    index, start, end = case.numbers
    merkle.verify_inclusion(index, end, case.leaf, case.proof, case.root, start=start)


def subtree_consistent(case: Case) -> None:
    start, end, size = case.numbers
    merkle.verify_subtree_consistency(start, end, size, case.leaf, case.root, case.proof)


VERIFIERS: dict[str, Callable[[Case], None]] = {
    "inclusion": included,
    "consistency": consistent,
    "subtreeinclusion": subtree_included,
    "subtreeconsistency": subtree_consistent,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cases_are_those_that_were_published(family: str) -> None:
    cases = list(FAMILIES[family]())
    assert (len(cases), merkle_cases.digest(cases)) == RECORDED[family]


def test_there_are_518() -> None:
    assert sum(count for count, _ in RECORDED.values()) == 518


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_is_judged_as_published(family: str) -> None:
    for case in FAMILIES[family]():
        if case.refused:
            with pytest.raises(ProofRefused):
                VERIFIERS[family](case)
        else:
            VERIFIERS[family](case)


def test_the_roots_of_the_eight_leaves_are_the_published_ones() -> None:
    edge = EMPTY_EDGE
    assert edge.root == EMPTY_ROOT == ROOTS[0]
    for leaf, root in zip(LEAVES, ROOTS[1:], strict=True):
        edge = edge.extended([leaf_hash(leaf)])
        assert edge.root == root
