"""Collecting the votes for one operation: who is asked when, what counts, how it ends. Pure.

    asking --votes of more than two thirds--> certified
           --so many refuse that none can come about--> refused
           --deadline--> silent

Rules:
- Whoever has not answered is asked again until the round ends: messages get lost, and validators restart.
- A vote counts when its signature, its operation and its time are right. What does not is refused, with a kind that is
  counted; what two votes prove against their validator is told. A round that ended counts nothing more.
- A refusal is not signed and binds nobody: a vote that comes after it counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from services.consensus import misbehaviour, quorum
from services.consensus import vote as votes_of
from services.consensus.misbehaviour import Misbehaviour
from services.consensus.operation import Operation
from services.consensus.quorum import QuorumCertificate
from services.consensus.registry import Registry
from services.consensus.vote import Vote

Outcome = Literal["asking", "certified", "refused", "silent"]
VoteFault = Literal["late", "wrong-operation", "time"]

ASK_AGAIN: Final = 100


class Uncounted(Exception):
    """A vote that does not count in this round. `kind` is counted."""

    def __init__(self, kind: VoteFault, text: str) -> None:
        super().__init__(text)
        self.kind: VoteFault = kind


@dataclass(slots=True)
class Round:
    """One round. Times are in milliseconds: `deadline` and `now` by one clock since the Unix epoch.

    `max_time_offset` is how far the time of a vote may be from `now`.
    """

    operation: Operation
    registry: Registry
    deadline: int
    max_time_offset: int
    outcome: Outcome = "asking"
    certificate: QuorumCertificate | None = None
    _votes: dict[str, Vote] = field(default_factory=dict)
    _refusals: dict[str, str] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def to_ask(self, now: int) -> tuple[str, ...]:
        """Who is to be asked now, by name. The round ends when its time is over."""
        if self.outcome != "asking":
            return ()
        if now >= self.deadline:
            self.outcome = "silent"
            return ()
        due = [
            each.name
            for each in self.registry.validators
            if each.name not in self._votes and now - self._asked.get(each.name, now - ASK_AGAIN) >= ASK_AGAIN
        ]
        self._asked.update(dict.fromkeys(due, now))
        return tuple(due)

    def voted(self, vote: Vote, now: int) -> Misbehaviour | None:
        """A vote has come. Returns what it proves against its validator. Raises Uncounted and VoteRefused."""
        if (vote.claims.slot, vote.claims.operation) != (self.operation.slot_digest, self.operation.digest):
            return self._other(vote)
        votes_of.verify(vote, self.registry, self.operation)
        before = self._votes.get(vote.claims.validator)
        if before is not None:
            return misbehaviour.found(before, vote)
        if self.outcome != "asking" or now >= self.deadline:
            raise Uncounted("late", "the round is over")
        if abs(vote.claims.time - now) > self.max_time_offset:
            seconds = (vote.claims.time - now) / 1000
            raise Uncounted("time", f"the clock of {vote.claims.validator} is off by {seconds:.3f} s: set the clocks")
        self._votes[vote.claims.validator] = vote
        self._refusals.pop(vote.claims.validator, None)
        self.certificate = quorum.certified(self.registry, self._votes.values())
        if self.certificate is not None:
            self.outcome = "certified"
        return None

    def refused(self, validator: str, reason: str) -> None:
        """A validator does not agree. The round ends when no quorum can come about any more."""
        if self.outcome != "asking" or validator in self._votes or self.registry.find(validator) is None:
            return
        self._refusals[validator] = reason
        possible = {each.name for each in self.registry.validators} - self._refusals.keys()
        if not self.registry.is_quorum(possible):
            self.outcome = "refused"

    @property
    def shortfall(self) -> str:
        """Who is missing and why, for the one who waited and for the health of the service."""
        silent = [
            each.name
            for each in self.registry.validators
            if each.name not in self._votes and each.name not in self._refusals
        ]
        weight = self.registry.weight_of(self._votes.keys())
        parts = [f"{weight} of {self.registry.total} agree, more than two thirds are needed"]
        parts += [f"{name} refuses: {reason}" for name, reason in sorted(self._refusals.items())]
        parts += [f"silent: {', '.join(silent)}"] if silent else []
        return "; ".join(parts)

    def _other(self, vote: Vote) -> Misbehaviour | None:
        """A vote for something else proves something only beside one of the same validator for this slot."""
        before = self._votes.get(vote.claims.validator)
        if before is None or vote.claims.slot != self.operation.slot_digest:
            raise Uncounted("wrong-operation", f"the vote of {vote.claims.validator} is about another operation")
        votes_of.verify_signature(vote, self.registry)
        return misbehaviour.found(before, vote)
