"""The certificate of a quorum: the votes of more than two thirds of the weight for one operation. Pure.

Rules:
- It is verified as a whole by whoever has the registry and the operation: every vote, each validator once, in order.
- Its time is the weighted median of the times of its votes: while less than half of the weight in it lies, it is a time
  that an honest clock told, or between two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from services.consensus import vote as votes_of
from services.consensus.operation import Operation
from services.consensus.registry import MAX_VALIDATORS, Registry
from services.consensus.vote import MAX_VOTE_OCTETS, Vote, VoteRefused

MAX_OCTETS: Final = MAX_VALIDATORS * MAX_VOTE_OCTETS


class QuorumRefused(Exception):
    """Not the certificate of a quorum for this operation. The text says why."""


class QuorumCertificate(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Votes for one operation, in the order of the validators' names."""

    votes: Annotated[tuple[Vote, ...], Meta(min_length=1, max_length=MAX_VALIDATORS)]


_decode: Final = msgspec.msgpack.Decoder(QuorumCertificate).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def encode(certificate: QuorumCertificate) -> bytes:
    """The one way to write it."""
    return _encode(certificate)


def parse(octets: bytes) -> QuorumCertificate:
    """Read a certificate; nothing is verified. Raises QuorumRefused."""
    if len(octets) > MAX_OCTETS:
        raise QuorumRefused(f"it has {len(octets)} octets; at most {MAX_OCTETS} are read")
    try:
        certificate = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QuorumRefused(f"it is not the certificate of a quorum: {str(error)[:200]}") from error
    if encode(certificate) != octets:
        raise QuorumRefused("it is not written the one way a certificate of a quorum is")
    return certificate


def certified(registry: Registry, votes: Iterable[Vote]) -> QuorumCertificate | None:
    """The certificate that these votes make; None as long as they are no quorum. They are verified already."""
    ordered = sorted(votes, key=lambda each: each.claims.validator)
    if not registry.is_quorum({each.claims.validator for each in ordered}):
        return None
    return QuorumCertificate(tuple(ordered))


def verify(certificate: QuorumCertificate, registry: Registry, operation: Operation) -> int:
    """The time of a certificate, in milliseconds since the Unix epoch. Raises QuorumRefused."""
    names = [each.claims.validator for each in certificate.votes]
    if names != sorted(set(names)):
        raise QuorumRefused("each vote counts once, in the order of names")
    for each in certificate.votes:
        try:
            votes_of.verify(each, registry, operation)
        except VoteRefused as error:
            raise QuorumRefused(f"the vote of {each.claims.validator} does not count: {error}") from error
    if not registry.is_quorum(names):
        raise QuorumRefused(
            f"{registry.weight_of(names)} of {registry.total} is not a quorum, which is more than two thirds"
        )
    return median_time(certificate.votes, registry)


def median_time(votes: Collection[Vote], registry: Registry) -> int:
    """The weighted median of the times of these votes, the lower one of two. Raises ValueError without votes."""
    ordered = sorted((each.claims.time, registry.weight_of({each.claims.validator})) for each in votes)
    half = sum(weight for _, weight in ordered)
    passed = 0
    for time, weight in ordered:
        passed += weight
        if 2 * passed >= half:
            return time
    raise ValueError("no votes, no time")
