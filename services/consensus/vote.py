"""One vote: four claims about one operation under one signature. Pure: the key is an argument.

    stake   WHO:   the registered key of this validator signed, in this epoch of this registry
    time    WHEN:  the validator's clock, and the number of the vote, counted up and used once
    space   WHERE: the entries asked for by the newest certified tree head were at hand (`retrievability`)
    work    WHAT:  what the validator's own look at the operation came to, by which rules

Rules:
- All of it is signed together with the operation's digest and slot: no claim can be moved to another operation.
- Ed25519 over one fixed layout; on the wire there is one way to write a vote. Everything else is VoteRefused.
- A vote says yes. A validator that does not agree signs nothing, so that a refusal cannot be mistaken for a vote.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from services.consensus.operation import MAX_EPOCH, Operation
from services.consensus.registry import Registry

MAX_VOTE_OCTETS: Final = 1024
MAX_TIME: Final = 2**53
SIGNATURE_OCTETS: Final = 64

_PURPOSE: Final = b"TrustChain: vote of a validator, version 1\n"

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]{0,62}$")]
Epoch = Annotated[int, Meta(ge=0, le=MAX_EPOCH)]
Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_TIME)]


class VoteRefused(Exception):
    """Octets that are no vote, or a vote that does not count. The text says why."""


class Claims(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a validator stands by. `time` is in milliseconds since the Unix epoch; `number` counts its votes.

    `retrieved` and `report` are digests: of what was retrieved for this operation, and of the validator's own look at
    it by the rules with the digest `rules`. `tree_size` and `root` name the head that the challenge came from.
    """

    validator: Name
    epoch: Epoch
    registry: Digest
    slot: Digest
    operation: Digest
    time: Milliseconds
    number: Number
    tree_size: Annotated[int, Meta(ge=0, lt=2**40)]
    root: Digest
    retrieved: Digest
    rules: Digest
    report: Digest

    @property
    def signed_octets(self) -> bytes:
        """What the signature is over: fixed widths, the name with its length."""
        name = self.validator.encode("ascii")
        return b"".join(
            (
                _PURPOSE,
                bytes((len(name),)),
                name,
                self.epoch.to_bytes(8, "big"),
                self.registry,
                self.slot,
                self.operation,
                self.time.to_bytes(8, "big"),
                self.number.to_bytes(8, "big"),
                self.tree_size.to_bytes(8, "big"),
                self.root,
                self.retrieved,
                self.rules,
                self.report,
            )
        )


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Claims and the signature over them."""

    claims: Claims
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_OCTETS, max_length=SIGNATURE_OCTETS)]


_decode: Final = msgspec.msgpack.Decoder(Vote).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def sign(key: Ed25519PrivateKey, claims: Claims) -> Vote:
    """Sign. Only what is on record as given for its slot may be signed: see `ballot`."""
    return Vote(claims, key.sign(claims.signed_octets))


def encode(vote: Vote) -> bytes:
    """The one way to write it."""
    return _encode(vote)


def parse(octets: bytes) -> Vote:
    """Read a vote; nothing is verified. Raises VoteRefused."""
    if len(octets) > MAX_VOTE_OCTETS:
        raise VoteRefused(f"it has {len(octets)} octets; a vote has at most {MAX_VOTE_OCTETS}")
    try:
        vote = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VoteRefused(f"it is not a vote: {str(error)[:200]}") from error
    if encode(vote) != octets:
        raise VoteRefused("it is not written the one way a vote is")
    return vote


def verify_signature(vote: Vote, registry: Registry) -> int:
    """The weight behind a vote. Raises VoteRefused: not of this registry, not registered, not signed by its key."""
    claims = vote.claims
    if (claims.epoch, claims.registry) != (registry.epoch, registry.digest):
        raise VoteRefused(f"it is of epoch {claims.epoch} or another registry; epoch {registry.epoch} is in force")
    validator = registry.find(claims.validator)
    if validator is None:
        raise VoteRefused(f"{claims.validator} is not a validator of epoch {registry.epoch}")
    try:
        Ed25519PublicKey.from_public_bytes(validator.public_key).verify(vote.signature, claims.signed_octets)
    except InvalidSignature as error:
        raise VoteRefused(f"it is not signed by the key of {validator.name}") from error
    return validator.weight


def verify(vote: Vote, registry: Registry, operation: Operation) -> int:
    """The weight that a vote gives to an operation. Raises VoteRefused."""
    if operation.network != registry.network:
        raise VoteRefused("the operation is of another network")
    if (vote.claims.slot, vote.claims.operation) != (operation.slot_digest, operation.digest):
        raise VoteRefused("it is about another operation")
    return verify_signature(vote, registry)
