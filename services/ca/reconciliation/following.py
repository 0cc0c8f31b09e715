"""Following the log: whether what it says now continues what it said before. Pure.

Rules:
- A tree head counts when the log's key signed it. The key is the one that was seen first: another key is another log.
- A head that is smaller than one that was seen, or that no proof leads to, contradicts: somebody put the log back, or
  keeps two. That cannot be explained by a crash, because the log tells a head only after it is durable.
- The tree is built again from the entries that are compared. When it has the size of the head it must have its root: so
  the entries that were compared are the ones that the log stands by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.ca.reconciliation.contradictions import Finding, digests
from services.ca.reconciliation.positions import SeenLog
from services.ct.messages import SignedTreeHead
from services.rfc6962 import merkle
from services.rfc6962.merkle import Edge, ProofRefused
from services.rfc6962.structures import StructureError
from services.rfc6962.verifier import LogVerifier, SignatureRefused, SignedHead, TreeHead

SUBJECT = "the log"


class Contradicted(Exception):
    """The log does not continue what was seen of it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def begun(public_key: bytes, head: SignedTreeHead) -> SeenLog:
    """The first head that is seen of a log. Raises Contradicted when it did not sign it."""
    _check_signature(public_key, head)
    return SeenLog(public_key, head.tree_size, head.timestamp, head.root_hash, head.signature)


def needs_proof(seen: SeenLog, public_key: bytes, head: SignedTreeHead) -> bool:
    """Whether only a proof of consistency shows that `head` continues what was seen. Raises Contradicted."""
    if public_key != seen.public_key:
        said = digests(key_seen=seen.public_key, key=public_key)
        raise Contradicted(Finding("log_forked", SUBJECT, "it has another key than the one that was seen", said))
    _check_signature(public_key, head)
    said = digests(root_seen=seen.root_hash, root=head.root_hash)
    if head.tree_size < seen.tree_size:
        text = f"it has {head.tree_size} entries, and {seen.tree_size} were seen: it was put back"
        raise Contradicted(Finding("log_shrank", SUBJECT, text, said))
    if head.tree_size == seen.tree_size and head.root_hash != seen.root_hash:
        text = f"two roots over {seen.tree_size} entries: {seen.root_hash.hex()} and {head.root_hash.hex()}"
        raise Contradicted(Finding("log_forked", SUBJECT, text, said))
    return 0 < seen.tree_size < head.tree_size


def check_promises(promised: int, head: SignedTreeHead) -> None:
    """Whether the tree has all places that were given before it was asked for. Raises Contradicted."""
    if head.tree_size <= promised:
        text = f"it has {head.tree_size} entries, and gave the place {promised} to a certificate: it was put back"
        raise Contradicted(Finding("log_shrank", SUBJECT, text, digests(root=head.root_hash)))


def grown(seen: SeenLog, head: SignedTreeHead, path: Sequence[bytes] | None) -> SeenLog:
    """What is seen now; `path` is the proof, if one is needed. Raises Contradicted when it proves nothing."""
    if path is not None:
        try:
            merkle.verify_consistency(seen.tree_size, head.tree_size, seen.root_hash, head.root_hash, path)
        except ProofRefused as refused:
            text = f"nothing shows that its {head.tree_size} entries begin with the {seen.tree_size} seen: {refused}"
            said = digests(root_seen=seen.root_hash, root=head.root_hash)
            raise Contradicted(Finding("log_forked", SUBJECT, text, said)) from refused
    return replace(
        seen,
        tree_size=head.tree_size,
        timestamp=head.timestamp,
        root_hash=head.root_hash,
        signature=head.signature,
    )


def advanced(seen: SeenLog, leaf_hashes: Iterable[bytes]) -> SeenLog:
    """The position after these entries. Raises Contradicted when they do not lead to the root that was seen."""
    edge = Edge(seen.position, seen.peaks).extended(leaf_hashes)
    if edge.size == seen.tree_size and edge.root != seen.root_hash:
        text = f"its {edge.size} entries do not lead to the root that it signed"
        said = digests(root=seen.root_hash, recomputed=edge.root)
        raise Contradicted(Finding("log_forked", SUBJECT, text, said))
    return replace(seen, position=edge.size, peaks=edge.peaks)


def _check_signature(public_key: bytes, head: SignedTreeHead) -> None:
    said = digests(root=head.root_hash)
    try:
        signed = SignedHead(TreeHead(head.tree_size, head.timestamp, head.root_hash), head.signature)
        LogVerifier.of(public_key).verify_head(signed)
    except (SignatureRefused, StructureError, ValueError) as error:
        text = f"the head over {head.tree_size} entries is not signed by its key: {error}"
        raise Contradicted(Finding("log_forked", SUBJECT, text, said)) from error
