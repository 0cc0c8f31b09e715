"""Who may vote, and how one registry follows another."""

from itertools import chain, combinations

import pytest

from services.consensus.registry import (
    MAX_VALIDATORS,
    MAX_WEIGHT,
    NO_REGISTRY,
    Registry,
    RegistryRefused,
    Validator,
    begun,
    check_succession,
    followed,
)
from tests.unit.consensus.validators import NETWORK, OTHER_NETWORK, key, registry, validator


@pytest.mark.parametrize(
    ("weights", "agreeing", "expected"),
    [
        ({"a": 1}, ["a"], True),
        ({"a": 1, "b": 1, "c": 1}, ["a", "b"], False),  # exactly two thirds
        ({"a": 1, "b": 1, "c": 1, "d": 1}, ["a", "b", "c"], True),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, ["a", "b"], False),
        ({"a": MAX_WEIGHT, "b": 1}, ["a"], True),
        ({"a": MAX_WEIGHT, "b": MAX_WEIGHT, "c": MAX_WEIGHT}, ["a", "b"], False),
        ({"a": 1, "b": 1}, ["a", "a", "a"], False),
        ({"a": 1}, ["stranger"], False),
        ({"a": 1}, [], False),
    ],
)
def test_a_quorum_is_more_than_two_thirds_of_the_weight(
    weights: dict[str, int], agreeing: list[str], expected: bool
) -> None:
    assert registry(**weights).is_quorum(agreeing) is expected


@pytest.mark.parametrize("weight", [0, -1, MAX_WEIGHT + 1, 2**64])
def test_a_weight_that_is_none_or_too_large_is_refused(weight: int) -> None:
    with pytest.raises(RegistryRefused, match="weight"):
        validator("a", weight)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a\n", "ä", "a" * 64])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RegistryRefused, match="name"):
        Validator(name, key("a").public_key().public_bytes_raw(), 1)


def test_no_two_validators_have_one_name_or_one_key() -> None:
    with pytest.raises(RegistryRefused, match="once"):
        begun(NETWORK, [validator("a"), validator("a", 2)])
    with pytest.raises(RegistryRefused, match="key"):
        begun(NETWORK, [validator("a"), Validator("b", validator("a").public_key, 1)])


def test_a_registry_has_a_bounded_number_of_validators() -> None:
    begun(NETWORK, [validator(f"v{number}") for number in range(MAX_VALIDATORS)])
    with pytest.raises(RegistryRefused, match="64"):
        begun(NETWORK, [validator(f"v{number}") for number in range(MAX_VALIDATORS + 1)])
    with pytest.raises(RegistryRefused, match="1 to"):
        begun(NETWORK, [])


def test_only_the_first_registry_follows_none() -> None:
    with pytest.raises(RegistryRefused, match="epoch 0"):
        Registry(NETWORK, 1, NO_REGISTRY, (validator("a"),))
    with pytest.raises(RegistryRefused, match="epoch 0"):
        Registry(NETWORK, 0, b"\x01" * 32, (validator("a"),))


def test_every_part_of_a_registry_is_in_its_digest() -> None:
    first = registry(a=1, b=1)
    others = [
        registry(a=1, b=2),
        registry(a=1, c=1),
        begun(OTHER_NETWORK, first.validators),
        Registry(NETWORK, 1, first.digest, first.validators),
        Registry(NETWORK, 2, first.digest, first.validators),
    ]
    assert len({first.digest, *(each.digest for each in others)}) == 6


def test_one_validator_joins_leaves_or_changes_at_a_time() -> None:
    four = registry(a=1, b=1, c=1, d=1)
    joined = followed(four, [*four.validators, validator("e")])
    assert (joined.epoch, joined.previous) == (1, four.digest)
    left = followed(joined, [each for each in joined.validators if each.name != "a"])
    renewed = Validator("b", key("a new key of b").public_key().public_bytes_raw(), 1)
    assert followed(left, [renewed, *left.validators[1:]]).find("b") == renewed
    with pytest.raises(RegistryRefused, match="2 validators differ"):
        followed(four, [*four.validators, validator("e"), validator("f")])
    with pytest.raises(RegistryRefused, match="0 validators differ"):
        followed(four, four.validators)


def test_a_registry_follows_only_the_one_in_force() -> None:
    one, two = registry(a=1), registry(a=1, b=1)
    other = registry(c=1)
    for previous, epoch in ((other.digest, 1), (one.digest, 2)):
        with pytest.raises(RegistryRefused, match="does not follow"):
            check_succession(one, Registry(NETWORK, epoch, previous, two.validators))
    with pytest.raises(RegistryRefused, match="another network"):
        check_succession(one, Registry(OTHER_NETWORK, 1, one.digest, two.validators))


def test_nobody_joins_or_grows_so_much_that_a_quorum_of_the_next_epoch_could_be_strangers() -> None:
    four = registry(a=1, b=1, c=1, d=1)
    followed(four, [*four.validators, validator("e", 4)])
    with pytest.raises(RegistryRefused, match="need not meet"):
        followed(four, [*four.validators, validator("e", 5)])
    with pytest.raises(RegistryRefused, match="need not meet"):
        followed(four, [validator("a", 6), *four.validators[1:]])
    heavy = registry(a=5, b=4)
    with pytest.raises(RegistryRefused, match="need not meet"):
        followed(heavy, [validator("b", 4)])


def subsets(names: list[str]) -> list[frozenset[str]]:
    return [frozenset(each) for each in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1))]


@pytest.mark.parametrize("weights", [(1,), (1, 1), (1, 2, 3), (1, 1, 1, 1), (5, 1, 1), (2, 2, 3, 7)])
@pytest.mark.parametrize("changed", range(9))
def test_whatever_may_follow_every_quorum_meets_every_quorum_before(weights: tuple[int, ...], changed: int) -> None:
    before = registry(**{f"v{number}": weight for number, weight in enumerate(weights)})
    followers = 0
    for place in range(len(weights) + 1):
        wanted = {each.name: each.weight for each in before.validators}
        wanted[f"v{place}"] = changed
        try:
            after = followed(before, [validator(name, weight) for name, weight in wanted.items() if weight])
        except RegistryRefused:
            continue
        followers += 1
        names = sorted({each.name for each in (*before.validators, *after.validators)})
        earlier = [each for each in subsets(names) if before.is_quorum(each)]
        later = [each for each in subsets(names) if after.is_quorum(each)]
        assert all(one & other for one in earlier for other in later)
    assert followers or changed == 0 or changed > sum(weights)
