"""Votes: what counts, and what each octet of them is bound to."""

import msgspec
import pytest

from services.consensus import quorum
from services.consensus import vote as votes_of
from services.consensus.quorum import QuorumCertificate, QuorumRefused, median_time
from services.consensus.registry import followed
from services.consensus.vote import Claims, Vote, VoteRefused
from tests.unit.consensus.validators import NOW, OTHER_NETWORK, operation, registry, tampered, validator, vote

FOUR = registry(a=1, b=1, c=1, d=1)
ASKED = operation()
CHANGES = {
    "validator": "b",
    "epoch": 1,
    "registry": b"\x01" * 32,
    "slot": b"\x01" * 32,
    "operation": b"\x01" * 32,
    "time": NOW + 1,
    "number": 2,
    "tree_size": 1,
    "root": b"\x01" * 32,
    "retrieved": b"\x01" * 32,
    "rules": b"\x01" * 32,
    "report": b"\x01" * 32,
}


def test_a_vote_counts_with_the_weight_of_its_validator() -> None:
    weighted = registry(a=7, b=1)
    assert votes_of.verify(vote("a", weighted, ASKED), weighted, ASKED) == 7


def test_no_claim_of_a_vote_can_be_changed() -> None:
    assert set(CHANGES) == {each.name for each in msgspec.structs.fields(Claims)}
    for name, value in CHANGES.items():
        with pytest.raises(VoteRefused):
            votes_of.verify(tampered(vote("a", FOUR, ASKED), **{name: value}), FOUR, ASKED)


def test_a_vote_counts_for_its_operation_registry_and_network_alone() -> None:
    given = vote("a", FOUR, ASKED)
    with pytest.raises(VoteRefused, match="another operation"):
        votes_of.verify(given, FOUR, operation("another value"))
    with pytest.raises(VoteRefused, match="another network"):
        votes_of.verify(given, FOUR, operation(network=OTHER_NETWORK))
    next_epoch = followed(FOUR, [*FOUR.validators, validator("e")])
    with pytest.raises(VoteRefused, match="epoch 0"):
        votes_of.verify(given, next_epoch, ASKED)
    with pytest.raises(VoteRefused, match="not a validator"):
        votes_of.verify(vote("stranger", FOUR, ASKED), FOUR, ASKED)


def test_a_vote_is_written_one_way() -> None:
    given = vote("a", FOUR, ASKED)
    octets = votes_of.encode(given)
    assert votes_of.parse(octets) == given
    claims = msgspec.msgpack.decode(octets)
    wider = octets.replace(msgspec.msgpack.encode(NOW), b"\xd3" + NOW.to_bytes(8, "big"))
    assert wider != octets
    for wrong in (wider, octets + b"\x00", octets[:-1], b"", msgspec.msgpack.encode([*claims, 1]), b"\xc1" * 2000):
        with pytest.raises(VoteRefused):
            votes_of.parse(wrong)


def test_a_certificate_holds_votes_of_more_than_two_thirds() -> None:
    votes = [vote(name, FOUR, ASKED) for name in "cab"]
    assert quorum.certified(FOUR, votes[:2]) is None
    made = quorum.certified(FOUR, votes)
    assert made is not None
    assert quorum.parse(quorum.encode(made)) == made
    assert quorum.verify(made, FOUR, ASKED) == NOW


def test_no_certificate_is_made_of_two_thirds_repeated_strange_or_unordered_votes() -> None:
    a, b, c = (vote(name, FOUR, ASKED) for name in "abc")
    wrong: list[tuple[Vote, ...]] = [
        (a, b),
        (a, a, b),
        (a, b, b),
        (a, c, b),
        (a, b, vote("c", FOUR, operation("another value"))),
        (a, b, tampered(c, time=NOW + 1)),
        (a, b, vote("stranger", FOUR, ASKED)),
    ]
    for votes in wrong:
        with pytest.raises(QuorumRefused):
            quorum.verify(QuorumCertificate(votes), FOUR, ASKED)


def test_octets_that_are_no_certificate_are_refused() -> None:
    made = QuorumCertificate((vote("a", FOUR, ASKED),))
    octets = quorum.encode(made)
    for wrong in (b"", octets[:-1], octets + b"\x00", msgspec.msgpack.encode([[]]), bytes(70_000)):
        with pytest.raises(QuorumRefused):
            quorum.parse(wrong)


def test_the_time_of_a_quorum_is_the_weighted_median() -> None:
    weighted = registry(a=1, b=1, c=3)
    votes = [vote(name, weighted, ASKED, time=time) for name, time in (("a", 1), ("b", 2), ("c", 9))]
    assert median_time(votes, weighted) == 9
    assert median_time(votes[:2], weighted) == 1
    with pytest.raises(ValueError, match="no votes"):
        median_time([], weighted)
