"""Whether a validator has the log at hand: entries picked by chance, each with its proof. Pure.

Rules:
- Which entries follows from the newest certified tree head and the validator's name: nobody can choose them, and
  nobody knows them before the head is certified.
- The digest in a vote is over the entries' octets together with the operation: knowing the hashes of the tree is not
  enough, and an answer given for one operation is none for another.
- This proves access to the entries within the time of a vote, not where they lie nor that they lie there twice: a part
  f that is missing escapes k samples with probability (1 - f)^k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from services.rfc6962 import merkle
from services.rfc6962.merkle import ProofRefused

MAX_SAMPLES: Final = 64

_CHALLENGE: Final = b"TrustChain: retrievability challenge, version 1\n"
_ANSWER: Final = b"TrustChain: retrieved entries, version 1\n"


class RetrievalRefused(Exception):
    """What was retrieved is not what was asked for. The text says why."""


@dataclass(frozen=True, slots=True)
class Beacon:
    """A certified tree head, from which challenges are drawn."""

    tree_size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One entry as a MerkleTreeLeaf (RFC 6962, section 3.4), and its audit path under the beacon's root."""

    index: int
    leaf: bytes
    audit_path: tuple[bytes, ...]


def challenge(beacon: Beacon, validator: str, samples: int) -> tuple[int, ...]:
    """The indices that this validator has to retrieve; none while the tree is empty. Raises ValueError."""
    if not 0 <= samples <= MAX_SAMPLES:
        raise ValueError(f"0 to {MAX_SAMPLES} samples are drawn")
    if beacon.tree_size == 0:
        return ()
    seed = _CHALLENGE + beacon.root + beacon.tree_size.to_bytes(8, "big") + sha256(validator.encode("utf-8")).digest()
    # Of 256 bits, so that no index is likelier than another by more than 2^-216.
    drawn = (int.from_bytes(sha256(seed + bytes((number,))).digest(), "big") for number in range(samples))
    return tuple(number % beacon.tree_size for number in drawn)


def answer(operation_digest: bytes, samples: Sequence[Sample]) -> bytes:
    """The digest that a vote carries."""
    octets = (each.index.to_bytes(8, "big") + len(each.leaf).to_bytes(4, "big") + each.leaf for each in samples)
    return sha256(_ANSWER + operation_digest + b"".join(octets)).digest()


def verify(beacon: Beacon, validator: str, wanted: int, samples: Sequence[Sample]) -> None:
    """Whether these are the entries that were asked for, out of that tree. Raises RetrievalRefused."""
    if tuple(each.index for each in samples) != challenge(beacon, validator, wanted):
        raise RetrievalRefused("these are other entries than were asked for")
    for each in samples:
        try:
            merkle.verify_inclusion(
                each.index, beacon.tree_size, merkle.leaf_hash(each.leaf), list(each.audit_path), beacon.root
            )
        except ProofRefused as error:
            raise RetrievalRefused(f"entry {each.index} is not in the tree: {error}") from error
