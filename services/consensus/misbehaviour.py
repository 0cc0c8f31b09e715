"""What a validator's own signatures prove against it. Pure.

Rules:
- Nothing is believed of what somebody says about a validator: both votes carry its signature, or it is no proof.
- What is proven leads to a proposal to change the registry, never to a lower threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.consensus import vote as votes_of
from services.consensus.registry import Registry
from services.consensus.vote import Vote

MisbehaviourKind = Literal[
    "double-vote",  # two values for one slot
    "number-used-twice",  # two different votes with one number
    "clock-turned-back",  # a later vote with an earlier time
]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Two votes of one validator that contradict each other."""

    kind: MisbehaviourKind
    one: Vote
    other: Vote

    @property
    def validator(self) -> str:
        """Who gave both."""
        return self.one.claims.validator


def found(one: Vote, other: Vote) -> Misbehaviour | None:
    """What two votes prove, if they are of one validator and contradict each other. No signature is verified."""
    first, second = sorted((one, other), key=lambda each: (each.claims.number, each.claims.signed_octets))
    if first.claims.validator != second.claims.validator or first.claims == second.claims:
        return None
    kind = _kind(first, second)
    return None if kind is None else Misbehaviour(kind, first, second)


def verify(proof: Misbehaviour, first: Registry, second: Registry) -> None:
    """Whether it is proven; the registries are those of the epochs of both votes.

    Raises VoteRefused when a signature is not the validator's, and ValueError when the votes do not contradict.
    """
    if found(proof.one, proof.other) != proof:
        raise ValueError(f"these two votes are not a {proof.kind}")
    if first.network != second.network:
        raise ValueError("these are votes in two networks")
    votes_of.verify_signature(proof.one, first)
    votes_of.verify_signature(proof.other, second)


def _kind(first: Vote, second: Vote) -> MisbehaviourKind | None:
    one, other = first.claims, second.claims
    if one.slot == other.slot and one.operation != other.operation:
        return "double-vote"
    if one.number == other.number:
        return "number-used-twice"
    return "clock-turned-back" if one.time > other.time else None
