"""The log as the reconciler reads it: heads, proofs and entries, asked for over its socket.

Rules: entries are parsed here, and what cannot be parsed contradicts (`Contradicted`): the log's own key signed over
it. What the log cannot answer now is the caller's RemoteError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509

from services.ca.issuance.transparency import Peer
from services.ca.reconciliation.contradictions import Finding, of_leaf
from services.ca.reconciliation.following import Contradicted
from services.ca.reconciliation.reconciliation import Comparison, LoggedEntry
from services.ca.reconciliation.storage import ReconciliationStorage
from services.ct.messages import (
    Consistency,
    Entries,
    Entry,
    GetConsistency,
    GetEntries,
    GetLog,
    GetTreeHead,
    LogDescription,
    SignedTreeHead,
)
from services.rfc6962 import structures
from services.rfc6962.merkle import leaf_hash
from services.rfc6962.structures import StructureError
from services.rfc6962.verifier import LogVerifier

CALL_SECONDS: Final = 5.0
_MILLISECONDS: Final = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """One entry with the hash of its leaf."""

    logged: LoggedEntry
    leaf_hash: bytes


class Journal:
    """Asks the log."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def public_key(self) -> bytes:
        """The log's key, a SubjectPublicKeyInfo. Raises RemoteError."""
        return (await self._called("log", GetLog(), LogDescription)).public_key

    async def head(self) -> SignedTreeHead:
        """The newest head. Raises RemoteError."""
        return await self._called("tree_head", GetTreeHead(), SignedTreeHead)

    async def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that one tree is a beginning of the other. Raises RemoteError."""
        return (await self._called("consistency", GetConsistency(first=first, second=second), Consistency)).path

    async def entries(self, first: int, end: int) -> list[ReadEntry]:
        """Entries from `first` on, at least one, none from `end` on. Raises RemoteError and Contradicted."""
        reply = await self._called("entries", GetEntries(start=first, end=end - 1), Entries)
        try:
            read = [_parsed(first + at, one) for at, one in enumerate(reply.entries[: end - first])]
        except StructureError as error:
            text = f"what it has from entry {first} on cannot be read: {error}"
            raise Contradicted(Finding("log_damaged", of_leaf(first), text)) from error
        if not read or reply.start != first:
            raise Contradicted(Finding("log_damaged", of_leaf(first), "it has no entry there, and signed that it has"))
        return read

    async def _called(self, method: str, request: object, reply_type: type[T]) -> T:
        return await self._peer.call(method, request, reply_type, timeout=CALL_SECONDS, idempotent=True)


class Comparisons:
    """Makes the comparison with the authorities that there are, once for each set of them."""

    def __init__(
        self,
        journal: Journal,
        storage: ReconciliationStorage,
        authorities: Callable[[], Mapping[str, x509.Certificate]],
        unlogged_profiles: Iterable[str],
    ) -> None:
        self._journal = journal
        self._storage = storage
        self._authorities = authorities
        self._unlogged = frozenset(unlogged_profiles)
        self._made: Comparison | None = None

    def authority(self, name: str) -> x509.Certificate | None:
        """The certificate of an authority."""
        return self._authorities().get(name)

    async def renewed(self, public_key: bytes) -> Comparison:
        """A new one: the record may be complete from a later time on. Raises RemoteError, Contradicted."""
        first = (await self._journal.entries(0, 1))[0].logged
        self._made = Comparison(
            self._authorities(),
            LogVerifier.of(public_key),
            self._unlogged,
            first.timestamp // _MILLISECONDS,
            await self._storage.complete_from(),
            await self._storage.entries_given_up(),
        )
        return self._made

    async def current(self, public_key: bytes) -> Comparison:
        """The one that was made last, if it still holds. Raises RemoteError, Contradicted."""
        if self._made is None or not self._made.knows(self._authorities()):
            return await self.renewed(public_key)
        return self._made


def _parsed(index: int, entry: Entry) -> ReadEntry:
    """Raises StructureError."""
    timestamp, signed, extensions = structures.parse_merkle_tree_leaf(entry.leaf_input)
    is_precert = isinstance(signed, structures.PrecertEntry)
    pre_certificate = structures.parse_precert_extra_data(entry.extra_data) if is_precert else None
    return ReadEntry(LoggedEntry(index, timestamp, signed, extensions, pre_certificate), leaf_hash(entry.leaf_input))
