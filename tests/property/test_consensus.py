"""Safety and progress of votes under any schedule: loss, repetition, disorder, crashes, liars, partition."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from services.consensus import ballot, misbehaviour, quorum
from services.consensus import vote as votes_of
from services.consensus.ballot import NOTHING_DRAWN, BallotRefused, Drawn, Given
from services.consensus.operation import Operation, change_registry
from services.consensus.registry import Registry, followed
from services.consensus.round import Round, Uncounted
from services.consensus.vote import Vote, VoteRefused
from tests.unit.consensus.validators import NETWORK, NOW, claims, key, operation, registry, validator, vote

SCHEDULES = 1500
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**16)), min_size=10, max_size=120)


@dataclass
class Voter:
    """A validator: all it has is durable but `unsent`, which a crash between record and reply loses."""

    name: str
    registry: Registry
    lies: bool = False
    given: dict[bytes, Given] = field(default_factory=dict)
    drawn: Drawn = NOTHING_DRAWN
    closed: int = -1

    def asked(self, about: Operation, now: int) -> Vote:
        """Raises BallotRefused."""
        if self.lies:
            return vote(self.name, self.registry, about, time=now)
        known = self.given.get(about.slot_digest)
        decided = ballot.decide(about, self.name, self.registry, known, self.drawn, self.closed, now)
        if isinstance(decided, Vote):
            return decided
        said = claims(self.name, self.registry, about, number=decided.number, time=decided.time)
        signed = votes_of.sign(key(self.name), said)
        self.given[about.slot_digest], self.drawn = Given(about.digest, signed), decided
        if ballot.closes(about, self.registry):
            self.closed = self.registry.epoch
        return signed

    def adopt(self, after: Registry) -> None:
        if after.epoch > self.registry.epoch:
            self.registry = after


Message = tuple[int, str, Vote | None]
"""A round's number, a validator's name, and its vote; None asks for it."""


@dataclass
class World:
    """Rounds, validators and what is on its way between them; each step is one event."""

    voters: dict[str, Voter]
    rounds: list[Round]
    now: int = NOW
    wire: list[Message] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    answers: list[Vote] = field(default_factory=list)

    def step(self, kind: int, pick: int) -> None:
        if kind <= 1 or not self.wire:
            self.tick(pick % 150)
            return
        place = pick % len(self.wire)
        if kind == 2:
            del self.wire[place]  # lost
        elif kind == 3:
            self.wire.append(self.wire[place])  # twice
        elif kind == 4:
            self.crash(*self.wire.pop(place))
        else:
            self.deliver(*self.wire.pop(place))

    def tick(self, milliseconds: int) -> None:
        self.now += milliseconds
        for number, each in enumerate(self.rounds):
            self.wire += [(number, name, None) for name in each.to_ask(self.now)]

    def deliver(self, number: int, name: str, given: Vote | None) -> None:
        if name in self.away:
            return
        if given is not None:
            self.count(self.rounds[number], given)
            return
        try:
            answer = self.voters[name].asked(self.rounds[number].operation, self.now)
        except BallotRefused as refused:
            self.rounds[number].refused(name, refused.kind)
        else:
            self.wire.append((number, name, answer))

    def crash(self, number: int, name: str, given: Vote | None) -> None:
        """The validator records its vote and dies before it is sent."""
        if given is None and name not in self.away:
            try:
                self.voters[name].asked(self.rounds[number].operation, self.now)
            except BallotRefused:
                return

    def count(self, in_round: Round, given: Vote) -> None:
        self.answers.append(given)
        try:
            in_round.voted(given, self.now)
        except (Uncounted, VoteRefused):
            return

    def pass_on(self, after: Registry, names: list[str]) -> None:
        """Once the second round has certified the next registry these learn of it, and the other value is tried."""
        if self.rounds[1].certificate is None:
            return
        for name in names:
            self.voters[name].adopt(after)
        if len(self.rounds) == 2:
            self.rounds.append(Round(OTHER, after, self.now + 60_000, 60_000))

    def settle(self) -> None:
        """From now on everything arrives."""
        for _ in range(40):
            self.tick(101)
            while self.wire:
                self.deliver(*self.wire.pop())

    def certified(self) -> set[bytes]:
        for each in self.rounds:
            if each.certificate is not None:
                quorum.verify(each.certificate, each.registry, each.operation)
        return {each.operation.digest for each in self.rounds if each.certificate is not None}


def world(of: Registry, about: list[Operation], *, liars: frozenset[str] = frozenset()) -> World:
    voters = {each.name: Voter(each.name, of, each.name in liars) for each in of.validators}
    return World(voters, [Round(each, of, NOW + 60_000, 60_000) for each in about])


FOUR = registry(a=1, b=1, c=1, d=1)
ONE, OTHER = operation("one value"), operation("another value")


@settings(max_examples=SCHEDULES)
@given(STEPS, st.sampled_from(["", "a", "c", "d"]))
def test_no_schedule_and_no_liar_gets_two_values_certified_for_one_slot(
    steps: list[tuple[int, int]], liar: str
) -> None:
    made = world(FOUR, [ONE, OTHER, ONE], liars=frozenset(liar))
    for step in steps:
        made.step(*step)
    made.settle()
    assert len(made.certified()) <= 1


def test_with_more_than_a_third_of_liars_two_values_can_be_certified() -> None:
    """Else the test above would prove nothing."""
    made = world(FOUR, [ONE, OTHER], liars=frozenset("cd"))
    made.deliver(0, "a", None)
    made.deliver(1, "b", None)
    made.settle()
    assert len(made.certified()) == 2


@settings(max_examples=SCHEDULES)
@given(STEPS, st.sampled_from(["", "a", "b", "c", "d"]))
def test_after_any_schedule_one_value_is_certified_with_one_validator_gone(
    steps: list[tuple[int, int]], gone: str
) -> None:
    made = world(FOUR, [ONE])
    made.away = set(gone)
    for step in steps:
        made.step(*step)
    made.settle()
    assert made.certified() == {ONE.digest}


@settings(max_examples=SCHEDULES // 3)
@given(STEPS, st.sampled_from(["ab", "bc", "cd", "abd", "abcd"]))
def test_with_more_than_a_third_gone_nothing_is_certified_and_the_round_says_who_is_silent(
    steps: list[tuple[int, int]], gone: str
) -> None:
    made = world(FOUR, [ONE])
    made.away = set(gone)
    for step in steps:
        made.step(*step)
    made.settle()
    made.tick(60_000)
    assert made.certified() == set()
    assert made.rounds[0].outcome == "silent"
    assert f"silent: {', '.join(sorted(gone))}" in made.rounds[0].shortfall


@settings(max_examples=SCHEDULES)
@given(STEPS, st.sampled_from(["", "b", "d"]), st.sampled_from(["join", "leave"]))
def test_no_slot_gets_another_value_in_the_epoch_after(steps: list[tuple[int, int]], liar: str, change: str) -> None:
    validators = [*FOUR.validators, validator("e")] if change == "join" else FOUR.validators[1:]
    after = followed(FOUR, validators)
    changing = change_registry(NETWORK, after.epoch, after.digest)
    made = world(FOUR, [ONE, changing], liars=frozenset(liar))
    made.voters["e"] = Voter("e", after)
    for kind, pick in steps:
        made.step(kind, pick)
        made.pass_on(after, sorted(made.voters)[pick % len(made.voters) :])
    made.settle()
    made.pass_on(after, sorted(made.voters))
    made.settle()
    assert not {ONE.digest, OTHER.digest} <= made.certified()


@settings(max_examples=SCHEDULES // 3)
@given(STEPS, st.sampled_from(["a", "d"]))
def test_the_votes_of_an_honest_validator_never_prove_anything_against_it(
    steps: list[tuple[int, int]], liar: str
) -> None:
    made = world(FOUR, [ONE, OTHER, operation("a third one", b"another slot")], liars=frozenset(liar))
    for kind, pick in steps:
        made.now -= pick % 50 if kind == 0 else 0  # clocks are set back a little
        made.step(kind, pick)
    made.settle()
    for one in made.answers:
        for other in made.answers:
            proof = misbehaviour.found(one, other)
            assert proof is None or proof.validator == liar


def test_a_liar_that_answered_both_is_found_out() -> None:
    made = world(FOUR, [ONE, OTHER], liars=frozenset("d"))
    made.settle()
    proofs = [
        proof
        for one in made.answers
        for other in made.answers
        if (proof := misbehaviour.found(one, other)) is not None and proof.kind == "double-vote"
    ]
    assert {proof.validator for proof in proofs} == {"d"}
    misbehaviour.verify(proofs[0], FOUR, FOUR)
