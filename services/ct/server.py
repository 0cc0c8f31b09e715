"""The log as a service: receive, decide, store, reply. The order in which a submission is stored is in `sequencer`.

Rules:
- An SCT is signed and given out only for an entry that is in a published tree: its leaf is looked up there first. An
  index that lies could otherwise make the log promise what it does not have.
- Everything that is answered speaks of the published tree, whose head is signed; sizes beyond it do not exist yet.
- An answer with entries never crosses the end of a data tile: what is full never changes, and can be kept for ever.
- What is found damaged on the way is no answer to anybody: the call ends with an error, the probe ends the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from services.ct import sequencing
from services.ct.chain import AcceptedRoots, ChainPolicy, Submission
from services.ct.installation import Installation
from services.ct.messages import (
    DATA_LEVEL,
    MAX_ENTRIES,
    MAX_REPLY_OCTETS,
    AcceptRoots,
    AddChain,
    Checkpoint,
    Consistency,
    Entries,
    Entry,
    EntryAndProof,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetIssuer,
    GetLog,
    GetProofByHash,
    GetRoots,
    GetTile,
    GetTreeHead,
    InclusionProof,
    LogDescription,
    Part,
    Refusal,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)
from services.ct.metrics import LogMetrics
from services.ct.sequencer import Sequencer
from services.ct.sequencing import Place
from services.ct.tile_files import LogDamaged
from services.ct.tiles import HEIGHT, WIDTH, parse_entry, width_at
from services.ct.tiles import Place as TilePlace
from services.errors import ConfigurationError, ProbeFailed
from services.rfc6962 import merkle, note, structures
from services.rfc6962.merkle import ProofRefused
from services.rfc6962.structures import X509Entry
from services.rfc6962.verifier import SignatureRefused, TreeHead
from services.rpc_server import Call

MAXIMUM_MERGE_DELAY_SECONDS: Final = 86_400
MAX_ROOTS: Final = 256
CLOCK_TOLERANCE_MILLISECONDS: Final = 60_000
_PROBE: Final = b"TrustChain: this is a probe of the log's key"
_PROBE_STRIDE: Final = 2_654_435_761  # coprime to every size: all leaves have their turn


class TransparencyLog:
    """Answers the methods of `messages`. `now` gives milliseconds since the Unix epoch."""

    def __init__(self, installation: Installation, metrics: LogMetrics, log: Any, now: Callable[[], int]) -> None:
        self._storage = installation.storage
        self._signer = installation.signer
        self._metrics = metrics
        self._log = log
        self._now = now
        self._roots = AcceptedRoots(self._storage.roots)
        self._policy = ChainPolicy(self._roots)
        self._sequencer = Sequencer(self._storage, self._signer, metrics, now, log)
        self._damage: ConfigurationError | None = None
        self._probes = 0

    async def start(self, extra_roots: Sequence[bytes]) -> None:
        """Show the state that was found, and accept what settings add. Raises Refusal and StorageUnavailable."""
        self._sequencer.start()
        await self._accept(extra_roots)

    async def add(self, request: AddChain, _call: Call) -> SignedCertificateTimestamp:
        """Log a chain. Raises Refusal; Unavailable (StorageUnavailable) when it may be tried again."""
        with self._metrics.request(), self._noting_damage():
            try:
                with self._metrics.counting_refusals():
                    submission = self._policy.accept(request.chain, request.entry_type)
            except Refusal as refusal:
                self._log.info("refused", reason=str(refusal))
                raise
            place = await self._sequencer.add(submission)
            return self._timestamp(submission, place)

    async def tree_head(self, _request: GetTreeHead, _call: Call) -> SignedTreeHead:
        """The newest head."""
        with self._query("tree_head"):
            signed = self._storage.published
            head = signed.head
            return SignedTreeHead(
                tree_size=head.size, timestamp=head.timestamp, root_hash=head.root, signature=signed.signature
            )

    async def consistency(self, request: GetConsistency, _call: Call) -> Consistency:
        """A proof between two sizes. Raises Refusal: out-of-range."""
        with self._query("consistency"):
            if request.first > request.second:
                raise Refusal("out-of-range", "first", f"{request.first} is more than second, {request.second}")
            self._check_size("second", request.second)
            return Consistency(path=merkle.consistency_proof(self._node, request.first, request.second))

    async def proof_by_hash(self, request: GetProofByHash, _call: Call) -> InclusionProof:
        """A proof for a leaf hash. Raises Refusal: not-found, out-of-range."""
        with self._query("proof_by_hash"):
            self._check_size("tree_size", request.tree_size)
            index = self._storage.index_of(request.leaf_hash)
            if index is None or index >= request.tree_size:
                raise Refusal("not-found", "hash", f"no leaf of the tree of {request.tree_size} has this hash")
            return InclusionProof(
                leaf_index=index, audit_path=merkle.inclusion_proof(self._node, index, request.tree_size)
            )

    async def entries(self, request: GetEntries, _call: Call) -> Entries:
        """Entries from `start` on, to the end of their tile at most. Raises Refusal: out-of-range."""
        with self._query("entries"):
            size = self._storage.published.head.size
            if request.start > request.end:
                raise Refusal("out-of-range", "start", f"{request.start} is more than end, {request.end}")
            if request.start >= size:
                raise Refusal("out-of-range", "start", f"the tree has {size} entries")
            tile, at = divmod(request.start, WIDTH)
            end = min(request.end + 1, size, (tile + 1) << HEIGHT, request.start + MAX_ENTRIES)
            leaves = (await self._storage.entries(tile))[at : at + end - request.start]
            return Entries(start=request.start, entries=self._fitting(leaves))

    async def entry_and_proof(self, request: GetEntryAndProof, _call: Call) -> EntryAndProof:
        """One entry with its proof. Raises Refusal: out-of-range."""
        with self._query("entry_and_proof"):
            self._check_size("tree_size", request.tree_size)
            if request.leaf_index >= request.tree_size:
                raise Refusal("out-of-range", "leaf_index", f"a tree of {request.tree_size} has no such entry")
            entry = self._entry(await self._leaf(request.leaf_index))
            path = merkle.inclusion_proof(self._node, request.leaf_index, request.tree_size)
            return EntryAndProof(entry=entry, audit_path=path)

    async def roots(self, _request: GetRoots, _call: Call) -> Roots:
        """The accepted roots."""
        with self._query("roots"):
            return Roots(certificates=self._roots.certificates)

    async def accept_roots(self, request: AcceptRoots, _call: Call) -> Roots:
        """Accept more roots, for ever. Raises Refusal: malformed, bad-chain; StorageUnavailable."""
        with self._query("accept_roots"):
            await self._accept(request.certificates)
            return Roots(certificates=self._roots.certificates)

    async def checkpoint(self, _request: GetCheckpoint, _call: Call) -> Checkpoint:
        """The newest head as a signed note."""
        with self._query("checkpoint"):
            return Checkpoint(note=self._storage.checkpoint)

    async def tile(self, request: GetTile, _call: Call) -> Part:
        """Octets of a tile. Raises Refusal: not-found, out-of-range."""
        with self._query("tile"):
            try:
                place = TilePlace(request.level, request.index)
            except ValueError as error:
                raise Refusal("not-found", "index", str(error)) from error
            if request.width > width_at(place, self._storage.published.head.size):
                raise Refusal("not-found", "width", "the tree does not reach so far")
            if place.level == DATA_LEVEL:
                content = b"".join((await self._storage.entries(place.index))[: request.width])
            else:
                content = self._storage.tiles.tile(place).hashes[: request.width * merkle.HASH_OCTETS]
            return _part(content, request.offset)

    async def issuer(self, request: GetIssuer, _call: Call) -> Part:
        """A certificate of a logged chain. Raises Refusal: not-found, out-of-range."""
        with self._query("issuer"):
            certificate = self._storage.issuer(request.fingerprint)
            if certificate is None:
                raise Refusal("not-found", "fingerprint", "no logged chain has such a certificate")
            return _part(certificate, request.offset)

    async def log(self, _request: GetLog, _call: Call) -> LogDescription:
        """Who this log is."""
        with self._query("log"):
            record = self._storage.record
            return LogDescription(
                origin=record.origin,
                public_key=record.public_key,
                log_id=self._signer.log_id,
                verifier_key=note.verifier_key(record.origin, record.public_key),
                maximum_merge_delay=MAXIMUM_MERGE_DELAY_SECONDS,
            )

    async def probe(self) -> None:
        """Append nothing, but do all that logging needs. Raises ProbeFailed, ConfigurationError, StorageUnavailable."""
        if self._damage is not None:
            raise self._damage
        if isinstance(self._sequencer.trouble, ConfigurationError):
            raise self._sequencer.trouble
        if self._sequencer.trouble is not None:
            raise ProbeFailed("own", f"the log takes nothing in: {self._sequencer.trouble}")
        self._prove_signature()
        await self._prove_tree(self._storage.published.head)
        self._check_clock()
        await self._storage.probe()

    async def finish(self) -> None:
        """Wait until what was begun to be sequenced is in the tree."""
        await self._sequencer.finish()

    async def close(self) -> None:
        """Close the record."""
        await self._storage.close()

    def _timestamp(self, submission: Submission, place: Place) -> SignedCertificateTimestamp:
        if self._node(0, place.leaf_index) != sequencing.leaf_of(submission.entry, place):
            raise LogDamaged(
                f"the index in log.db says that entry {place.leaf_index} is another one than the tree has there. "
                "Nothing was changed. Restore the directory of the log as a whole from the newest backup"
            )
        sct = self._signer.sign_entry(submission.entry, place.timestamp, place.leaf_index)
        return SignedCertificateTimestamp(
            log_id=sct.log_id,
            timestamp=sct.timestamp,
            extensions=sct.extensions,
            signature=sct.signature,
            leaf_index=place.leaf_index,
            serialized=structures.sct(sct),
        )

    async def _accept(self, certificates: Sequence[bytes]) -> None:
        new = [each for each in dict.fromkeys(certificates) if each not in self._roots]
        AcceptedRoots(new)  # refuses before anything is stored
        kept = self._roots.certificates
        if len(kept) + len(new) > MAX_ROOTS or sum(map(len, kept)) + sum(map(len, new)) > MAX_REPLY_OCTETS:
            raise Refusal(
                "malformed", "certificates", f"a log has at most {MAX_ROOTS} roots, and {len(kept)} are accepted"
            )
        if new:
            await self._storage.accept_roots(new)
        for each in new:
            self._roots.add(each)
        self._metrics.roots.set(len(self._roots))

    def _node(self, level: int, index: int) -> bytes:
        return self._storage.tiles.node(level, index)

    async def _leaf(self, index: int) -> bytes:
        return (await self._storage.entries(index >> HEIGHT))[index % WIDTH]

    def _fitting(self, leaves: Sequence[bytes]) -> list[Entry]:
        """As many as fit into one message, but never none."""
        found: list[Entry] = []
        room = MAX_REPLY_OCTETS
        for leaf in leaves:
            entry = self._entry(leaf)
            room -= len(entry.leaf_input) + len(entry.extra_data) + 16
            if found and room < 0:
                break
            found.append(entry)
        return found

    def _entry(self, octets: bytes) -> Entry:
        leaf = parse_entry(octets)
        chain = [self._issuer(fingerprint) for fingerprint in leaf.chain]
        if isinstance(leaf.entry, X509Entry):
            extra_data = structures.chain_extra_data(chain)
        else:
            extra_data = structures.precert_extra_data(leaf.pre_certificate or b"", chain)
        return Entry(leaf_input=leaf.merkle_tree_leaf, extra_data=extra_data)

    def _issuer(self, fingerprint: bytes) -> bytes:
        found = self._storage.issuer(fingerprint)
        if found is None:
            raise LogDamaged(
                f"the certificate issuer/{fingerprint.hex()} of a logged chain is missing. Restore the directory of "
                "the log as a whole from the newest backup"
            )
        return found

    def _check_size(self, field: str, size: int) -> None:
        published = self._storage.published.head.size
        if size > published:
            raise Refusal("out-of-range", field, f"the tree has {published} entries")

    def _prove_signature(self) -> None:
        try:
            self._signer.verifier.verify(self._signer.sign(_PROBE), _PROBE)
            self._signer.verifier.verify_head(self._storage.published)
        except SignatureRefused:
            raise ProbeFailed("own", "a signature by the log's key does not verify") from None

    async def _prove_tree(self, head: TreeHead) -> None:
        """The root again from its parts, and a proof for one leaf, another one each time."""
        if merkle.edge_of(self._node, head.size).root != head.root:
            raise ProbeFailed("own", "the tree in memory does not have the root that was signed")
        if head.size == 0:
            return
        self._probes += 1
        index = self._probes * _PROBE_STRIDE % head.size
        leaf = parse_entry(await self._leaf(index))
        proof = merkle.inclusion_proof(self._node, index, head.size)
        try:
            merkle.verify_inclusion(index, head.size, merkle.leaf_hash(leaf.merkle_tree_leaf), proof, head.root)
        except ProofRefused as error:
            raise ProbeFailed("own", f"entry {index} cannot be proven: {error}") from None

    def _check_clock(self) -> None:
        ahead = self._storage.published.head.timestamp - self._now()
        if ahead > CLOCK_TOLERANCE_MILLISECONDS:
            raise ProbeFailed(
                "environment",
                f"the clock of this host is {ahead // 1000} s behind the newest tree head: set the clock; "
                "until then every timestamp is that of the head",
            )

    @contextmanager
    def _query(self, method: str) -> Iterator[None]:
        with self._metrics.query(method), self._metrics.counting_refusals(), self._noting_damage():
            yield

    @contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except ConfigurationError as error:
            self._damage = self._damage or error
            raise


def _part(content: bytes, offset: int) -> Part:
    if offset > len(content):
        raise Refusal("out-of-range", "offset", f"there are {len(content)} octets")
    return Part(content=content[offset : offset + MAX_REPLY_OCTETS], size=len(content))
