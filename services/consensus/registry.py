"""Who may vote: the validators of one epoch with their keys and weights, and how one registry follows another. Pure.

Rules:
- Weights are integers, and a quorum is more than two thirds of all of them: `3 * sum > 2 * total`. Nothing lowers that.
- A validator is known by its name; its key may change. No two have the same name or the same key.
- A registry names the one before it by its digest. Between two that follow each other exactly one validator differs,
  and every quorum of one meets every quorum of the other (`check_succession`): else two disjoint groups could certify
  different values, each within its own epoch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from services.consensus.operation import DIGEST_OCTETS, MAX_EPOCH

MAX_VALIDATORS: Final = 64
MAX_WEIGHT: Final = 2**32 - 1
KEY_OCTETS: Final = 32
NO_REGISTRY: Final = bytes(DIGEST_OCTETS)

_PURPOSE: Final = b"TrustChain: registry of validators, version 1\n"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


class RegistryRefused(Exception):
    """A registry that cannot be, or cannot follow the present one. The text says why."""


@dataclass(frozen=True, slots=True)
class Validator:
    """One voter: `public_key` is Ed25519, 32 octets. Raises RegistryRefused."""

    name: str
    public_key: bytes
    weight: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RegistryRefused(f"{self.name[:64]!r} is not the name of a validator: a-z, 0-9, dots and hyphens are")
        if len(self.public_key) != KEY_OCTETS:
            raise RegistryRefused(f"the key of {self.name} does not have {KEY_OCTETS} octets")
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise RegistryRefused(f"the weight of {self.name} is not between 1 and {MAX_WEIGHT}")

    @property
    def octets(self) -> bytes:
        """One way to write it."""
        name = self.name.encode("ascii")
        return bytes((len(name),)) + name + self.public_key + self.weight.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Registry:
    """The validators of one epoch, in the order of their names. `previous` is the digest of the one before it.

    Raises RegistryRefused.
    """

    network: bytes
    epoch: int
    previous: bytes
    validators: tuple[Validator, ...]

    def __post_init__(self) -> None:
        if len(self.network) != DIGEST_OCTETS or len(self.previous) != DIGEST_OCTETS:
            raise RegistryRefused(f"a network and a registry are named by {DIGEST_OCTETS} octets")
        if not 0 <= self.epoch <= MAX_EPOCH or (self.epoch == 0) != (self.previous == NO_REGISTRY):
            raise RegistryRefused("the registry of epoch 0 follows none, every other one follows another")
        if not 1 <= len(self.validators) <= MAX_VALIDATORS:
            raise RegistryRefused(f"a registry has 1 to {MAX_VALIDATORS} validators")
        names = [each.name for each in self.validators]
        if names != sorted(set(names)):
            raise RegistryRefused("each validator is there once, in the order of names")
        if len({each.public_key for each in self.validators}) != len(names):
            raise RegistryRefused("two validators have the same key")

    @property
    def total(self) -> int:
        """The weight of all."""
        return sum(each.weight for each in self.validators)

    @property
    def octets(self) -> bytes:
        """The one way to write it, which its signatures are for."""
        head = self.network + self.epoch.to_bytes(8, "big") + self.previous + bytes((len(self.validators),))
        return _PURPOSE + head + b"".join(each.octets for each in self.validators)

    @property
    def digest(self) -> bytes:
        """By which votes and later registries name it."""
        return sha256(self.octets).digest()

    def find(self, name: str) -> Validator | None:
        """The validator of this name."""
        return next((each for each in self.validators if each.name == name), None)

    def weight_of(self, names: Collection[str]) -> int:
        """The weight of those of `names` who are validators; each counts once."""
        return sum(each.weight for each in self.validators if each.name in names)

    def is_quorum(self, names: Collection[str]) -> bool:
        """Whether these are more than two thirds."""
        return 3 * self.weight_of(names) > 2 * self.total


def begun(network: bytes, validators: Collection[Validator]) -> Registry:
    """The registry of epoch 0. Raises RegistryRefused."""
    return Registry(network, 0, NO_REGISTRY, _ordered(validators))


def followed(registry: Registry, validators: Collection[Validator]) -> Registry:
    """The registry after this one. Raises RegistryRefused, also when it may not follow."""
    after = Registry(registry.network, registry.epoch + 1, registry.digest, _ordered(validators))
    check_succession(registry, after)
    return after


def check_succession(before: Registry, after: Registry) -> None:
    """Whether one may follow the other. Raises RegistryRefused.

    With weights w before and w' after, totals T and T', and what was added D: any two quorums share more than
    2T/3 - (T + D - 2T'/3) of the weight before. So they meet if 2T' >= T + 3D.
    """
    if after.network != before.network:
        raise RegistryRefused("it is the registry of another network")
    if (after.epoch, after.previous) != (before.epoch + 1, before.digest):
        raise RegistryRefused(f"it does not follow the registry of epoch {before.epoch} that is in force here")
    earlier, later = _by_name(before), _by_name(after)
    changed = [name for name in earlier.keys() | later.keys() if earlier.get(name) != later.get(name)]
    if len(changed) != 1:
        raise RegistryRefused(f"{len(changed)} validators differ; one joins, leaves or changes at a time")
    (name,) = changed
    weight_before = earlier[name].weight if name in earlier else 0
    added = max(0, (later[name].weight if name in later else 0) - weight_before)
    if 2 * after.total < before.total + 3 * added:
        raise RegistryRefused(
            f"the weight of {name} changes by so much that a quorum of this epoch and one of the next need not meet: "
            "add at most as much as all have together, or take away at most half of it"
        )


def _ordered(validators: Collection[Validator]) -> tuple[Validator, ...]:
    return tuple(sorted(validators, key=lambda each: each.name))


def _by_name(registry: Registry) -> Mapping[str, Validator]:
    return {each.name: each for each in registry.validators}
