"""What a validator cosigns as a witness, and what a log may sign after it (C2SP tlog-witness, "add-checkpoint"). Pure.

Rules:
- A request has one form: what is parsed encodes to the same octets. What has no such form is a RequestError (status
  400), and so is a checkpoint with extension lines, because the signature of a log (type 5) would not cover them.
- A witness cosigns a head that its log signed, and only one of which the head it cosigned last is the beginning. The
  same head again is cosigned again: this is how a log that does not grow shows that it lives.
- Every outcome follows from the request and from what was cosigned last. So whoever decides reads this, decides, and
  stores `Cosigned.witnessed` in one atomic step, before the cosignature leaves (else a slower request for a smaller
  tree overwrites a larger one).
- The time of a head is in milliseconds since the Unix epoch, as the log signed it.
- A log signs nothing that a witness has seen it contradict: after a restore it may stand by less than was cosigned.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from services.ct.messages import MAX_TREE_SIZE
from services.rfc6962 import note
from services.rfc6962.merkle import EMPTY_ROOT, HASH_OCTETS, ProofRefused, verify_consistency
from services.rfc6962.note import Checkpoint, Note, NoteError, NoteSignature
from services.rfc6962.structures import StructureError
from services.rfc6962.verifier import LogVerifier, SignatureRefused, SignedHead, TreeHead

MAX_PROOF_LINES: Final = 63
MAX_REQUEST_OCTETS: Final = note.MAX_NOTE_OCTETS + 3_072  # the old size and 63 lines of 45 octets are less than 3072

RefusalKind = Literal[
    "unknown_origin",  # no log of this name is witnessed here
    "not_signed",  # not one signature by the log, or one that does not verify
    "future",  # the log's clock is ahead of this one by more than is tolerated
    "old_above_size",  # the request would have the tree shrink
    "conflict",  # the old size is not that of the head cosigned last
    "inconsistent",  # the tree is not shown to be the one cosigned last, grown
]
Reason = Literal[
    "below",  # a larger tree of this log was cosigned than it has
    "another_history",  # a tree of this log was cosigned that its own tree does not begin with
]

# tlog-witness says nothing about a head's time. A signature that is from the future is not one yet.
STATUS: Final[Mapping[RefusalKind, int]] = MappingProxyType(
    {
        "unknown_origin": 404,
        "not_signed": 403,
        "future": 403,
        "old_above_size": 400,
        "conflict": 409,
        "inconsistent": 422,
    }
)

_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,14})")


class RequestError(ValueError):
    """The octets are not an add-checkpoint request, or not an answer to one."""


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint to be cosigned, and the proof that the tree of `old` leaves is its beginning.

    Raises RequestError, also for a note that is not a checkpoint of three lines.
    """

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __post_init__(self) -> None:
        if not 0 <= self.old <= MAX_TREE_SIZE:
            raise RequestError("no tree has the old size")
        if len(self.proof) > MAX_PROOF_LINES or any(len(each) != HASH_OCTETS for each in self.proof):
            raise RequestError(f"a proof has at most {MAX_PROOF_LINES} hashes of {HASH_OCTETS} octets")
        try:
            note.parse_checkpoint(self.note.text)
        except NoteError as error:
            raise RequestError(str(error)) from error

    @property
    def checkpoint(self) -> Checkpoint:
        """What is to be cosigned. Its origin tells which log's last head decides."""
        return note.parse_checkpoint(self.note.text)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The head of a log that was cosigned last. Raises ValueError for values that no head has."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        Checkpoint(self.origin, self.size, self.root)
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("an empty tree has one root")


@dataclass(frozen=True, slots=True)
class Cosigned:
    """To be stored first, then `text` is cosigned."""

    witnessed: Witnessed
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is cosigned. `size` is that of the head cosigned last (0 for none), for a conflict and nothing else."""

    kind: RefusalKind
    size: int | None = None

    def __post_init__(self) -> None:
        if (self.size is not None) != (self.kind == "conflict"):
            raise ValueError("a conflict tells the size, and nothing else does")


@dataclass(frozen=True, slots=True)
class MayNotSign:
    """Why the log signs nothing, and the head that shows it."""

    reason: Reason
    witnessed: Witnessed


def encode_request(request: Request) -> bytes:
    """The body of an add-checkpoint request."""
    proof = b"".join(base64.b64encode(each) + b"\n" for each in request.proof)
    return b"old %d\n%b\n%b" % (request.old, proof, note.encode(request.note))


def parse_request(data: bytes) -> Request:
    """Read the body of an add-checkpoint request. No signature and no proof is verified. Raises RequestError."""
    if len(data) > MAX_REQUEST_OCTETS:
        raise RequestError(f"it has {len(data)} octets; at most {MAX_REQUEST_OCTETS} are read")
    above, blank, below = data.partition(b"\n\n")
    # One line more than can be: then the proof is refused without splitting all the rest.
    first, *lines = above.split(b"\n", MAX_PROOF_LINES + 1)
    old = _OLD.fullmatch(first)
    if not blank or not old:
        raise RequestError("it is not an old size and a proof above a blank line")
    try:
        proof = tuple(base64.b64decode(line, validate=True) for line in lines)
        request = Request(int(old[1]), proof, note.parse(below))
    except ValueError as error:
        raise RequestError(f"it is not a request: {error}") from error
    if encode_request(request) != data:
        raise RequestError("it is not written the one way it can be")
    return request


def encode_answer(text: str, signatures: tuple[NoteSignature, ...]) -> bytes:
    """The signature lines with which a request is answered. Raises NoteError when there is none."""
    return note.encode(Note(text, signatures))[len(text.encode()) + 1 :]


def parse_answer(text: str, data: bytes) -> Note:
    """Read the signature lines below the text that was to be cosigned. None is verified. Raises RequestError."""
    try:
        answered = note.parse(f"{text}\n".encode() + data)
    except NoteError as error:
        raise RequestError("the answer is not signature lines") from error
    # The text ends at the last blank line: an answer with one would put its own words above the signatures.
    if answered.text != text:
        raise RequestError("the answer has more than signature lines")
    return answered


def decide(
    request: Request, logs: Mapping[str, LogVerifier], witnessed: Witnessed | None, now: int, tolerance: int
) -> Cosigned | Refused:
    """What becomes of a request. `witnessed` is the last head of its origin; times are in milliseconds.

    Raises ValueError when `witnessed` is of another log.
    """
    checkpoint = request.checkpoint
    if witnessed is not None and witnessed.origin != checkpoint.origin:
        raise ValueError("what was witnessed is of another log")
    if (kind := _refusal(request, logs, now + tolerance)) is not None:
        return Refused(kind)
    size = 0 if witnessed is None else witnessed.size
    if request.old != size:
        return Refused("conflict", size)
    if not _follows(request, checkpoint, EMPTY_ROOT if witnessed is None else witnessed.root):
        return Refused("inconsistent")
    return Cosigned(Witnessed(checkpoint.origin, checkpoint.size, checkpoint.root), request.note.text)


def may_sign(
    own_size: int, own_root: bytes, witnessed: Iterable[Witnessed], root_at: Callable[[int], bytes]
) -> MayNotSign | None:
    """Whether a log may stand by its tree, in view of all that was cosigned of it: None, or why not.

    `root_at` is the root of the log's own tree at a size below its own. Another history is told first: unlike a tree
    that is below, no waiting and no other copy of the same tree mends it.
    """
    heads = sorted(witnessed, key=lambda head: head.size)
    for head in heads:
        if head.size <= own_size and head.root != (own_root if head.size == own_size else root_at(head.size)):
            return MayNotSign("another_history", head)
    if heads and heads[-1].size > own_size:
        return MayNotSign("below", heads[-1])
    return None


def _refusal(request: Request, logs: Mapping[str, LogVerifier], latest: int) -> RefusalKind | None:
    """Why a request is refused, whatever was cosigned before it. `latest` is the last time that a head may have."""
    checkpoint = request.checkpoint
    if (log := logs.get(checkpoint.origin)) is None:
        return "unknown_origin"
    if (timestamp := _signed_at(request.note, checkpoint, log)) is None:
        return "not_signed"
    if timestamp > latest:
        return "future"
    return "old_above_size" if request.old > checkpoint.size else None


def _signed_at(signed: Note, checkpoint: Checkpoint, log: LogVerifier) -> int | None:
    """When the log signed this head, in milliseconds: None when it did not."""
    try:
        timestamp, signature = note.find_rfc6962_signature(signed, checkpoint.origin, log.log_id)
        log.verify_head(SignedHead(TreeHead(checkpoint.size, timestamp, checkpoint.root), signature))
    except (NoteError, StructureError, SignatureRefused):
        return None
    return timestamp


def _follows(request: Request, checkpoint: Checkpoint, root: bytes) -> bool:
    """Whether the tree of `request.old` leaves with this root is shown to be the beginning of the checkpoint's."""
    if checkpoint.size == 0:
        return checkpoint.root == EMPTY_ROOT and not request.proof
    if request.old == 0:
        return not request.proof
    try:
        verify_consistency(request.old, checkpoint.size, root, checkpoint.root, request.proof)
    except ProofRefused:
        return False
    return True
