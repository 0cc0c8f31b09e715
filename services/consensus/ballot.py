"""Whether a validator gives its vote, and which: what it has signed before decides. Pure.

Rules:
- One value for a slot, for ever, also in later epochs. Who asks again for the same value in the same epoch gets the
  same vote, octet for octet; in a later epoch a new one, for the same value.
- Who has voted for the registry of the next epoch votes for nothing more in the present one: else a certificate could
  still come about in an epoch that is over for others.
- Numbers are counted up and times never go back: `Drawn` has to be durable, together with the vote, before it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from services.consensus.operation import Operation
from services.consensus.registry import Registry
from services.consensus.vote import Vote

RefusalKind = Literal["wrong-network", "slot-taken", "epoch-closed", "not-a-validator", "clock"]

CLOCK_TOLERANCE: Final = 60_000


class BallotRefused(Exception):
    """A vote that is not given; nothing was signed. `kind` is counted, the text tells the asker why."""

    def __init__(self, kind: RefusalKind, text: str) -> None:
        super().__init__(text)
        self.kind: RefusalKind = kind


@dataclass(frozen=True, slots=True)
class Given:
    """What is on record for a slot: the operation that was voted for, and the newest vote for it."""

    operation: bytes
    vote: Vote


@dataclass(frozen=True, slots=True)
class Drawn:
    """The newest number and time (milliseconds since the Unix epoch) that this validator has signed with."""

    number: int
    time: int


NOTHING_DRAWN: Final = Drawn(0, 0)


def decide(
    operation: Operation, name: str, registry: Registry, given: Given | None, drawn: Drawn, closed: int, now: int
) -> Vote | Drawn:
    """The vote that was given before, or the number and time of a new one. Raises BallotRefused.

    `given` is what is on record for the slot of `operation`, `closed` the newest epoch in which this validator votes no
    more (-1 for none), `now` in milliseconds since the Unix epoch.
    """
    if operation.network != registry.network:
        raise BallotRefused("wrong-network", "the operation is of another network")
    if registry.find(name) is None:
        raise BallotRefused("not-a-validator", f"{name} is not a validator of epoch {registry.epoch}")
    if given is not None and given.operation != operation.digest:
        raise BallotRefused("slot-taken", "another value was voted for in this slot")
    if given is not None and given.vote.claims.registry == registry.digest:
        return given.vote
    if closed >= registry.epoch:
        raise BallotRefused("epoch-closed", f"epoch {registry.epoch} is over: a vote was given for the next registry")
    if now < drawn.time - CLOCK_TOLERANCE:
        behind = (drawn.time - now) // 1000
        raise BallotRefused("clock", f"the clock of {name} is {behind} s behind its newest vote: set the clock")
    return Drawn(drawn.number + 1, max(now, drawn.time))


def closes(operation: Operation, registry: Registry) -> bool:
    """Whether a vote for this operation ends the epoch for the validator that gives it."""
    return operation.kind == "registry" and operation.slot == (registry.epoch + 1).to_bytes(8, "big")
