"""Whatever octets come, reading votes and certificates returns or refuses."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from services.consensus import quorum
from services.consensus import vote as votes_of
from services.consensus.quorum import QuorumCertificate, QuorumRefused
from services.consensus.vote import VoteRefused
from tests.unit.consensus.validators import operation, registry, vote

FOUR = registry(a=1, b=1, c=1, d=1)
VOTE = votes_of.encode(vote("a", FOUR, operation()))
CERTIFICATE = quorum.encode(QuorumCertificate(tuple(vote(name, FOUR, operation()) for name in "abc")))


@given(st.binary(max_size=2000))
@example(b"\x91" * 1000)
@example(b"\x92" * 60_000)
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with suppress(VoteRefused):
        assert votes_of.encode(votes_of.parse(octets)) == octets
    with suppress(QuorumRefused):
        assert quorum.encode(quorum.parse(octets)) == octets


@given(st.integers(0, len(VOTE) - 1), st.integers(1, 255))
def test_a_vote_with_one_octet_changed_counts_nowhere(place: int, difference: int) -> None:
    changed = bytearray(VOTE)
    changed[place] ^= difference
    try:
        votes_of.verify(votes_of.parse(bytes(changed)), FOUR, operation())
    except VoteRefused:
        return
    raise AssertionError("a changed vote counts")


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255))
def test_a_certificate_with_one_octet_changed_certifies_nothing(place: int, difference: int) -> None:
    changed = bytearray(CERTIFICATE)
    changed[place] ^= difference
    try:
        quorum.verify(quorum.parse(bytes(changed)), FOUR, operation())
    except QuorumRefused:
        return
    raise AssertionError("a changed certificate certifies")
