"""The audit: everything that the files say, against everything else that they say.

The order, because the tree may run meanwhile: first the published lists, then the log as it is at this moment, then the
rows. A row is reserved before its entry exists and a list is stored before it is published, so that what is read later
can only know more. What was issued during the audit is looked at in the log as it is at the end.

Memory: one tile of 256 entries with its rows, the revocations of one partition, and the log's own caches. Nothing grows
with the number of certificates but the number of findings, which are handed out one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509

from services.audit.databases import AuditImpossible
from services.ca.reconciliation import status_reconciliation
from services.ca.reconciliation import storage as reconciliation_storage
from services.ca.reconciliation.contradictions import Finding, Note, Observation, digests, of_leaf, of_serial
from services.ca.reconciliation.positions import SeenLog
from services.ca.reconciliation.reconciliation import Comparison, LoggedEntry, RecordRow
from services.ca.reconciliation.status_reconciliation import ListOnRecord
from services.ca.status import crl
from services.ca.status.crl import UnreadableCrl
from services.ca.status.crl_files import CrlFiles, FoundFile
from services.ct import files as log_files
from services.ct.files import LogFiles
from services.ct.tile_files import LogDamaged
from services.errors import StorageUnavailable
from services.rfc6962 import structures
from services.rfc6962.merkle import EMPTY_EDGE, Edge

WIDTH: Final = 256
ROWS_AT_ONCE: Final = 256
_MILLISECONDS: Final = 1000

Progress = Callable[[str, int, int], None]
"""What is read, how many are done, and of how many."""


class Examination:
    """One audit of one data directory. `now` is in seconds since the Unix epoch."""

    def __init__(
        self,
        *,
        record: sqlite3.Connection,
        authorities: Mapping[str, x509.Certificate],
        ct_dir: Path,
        ca_dir: Path,
        unlogged_profiles: Collection[str],
        now: int,
        progress: Progress,
    ) -> None:
        self._record = record
        self._authorities = authorities
        self._ct_dir = ct_dir
        self._crl_files = CrlFiles(ca_dir / "crl")
        self._unlogged_profiles = unlogged_profiles
        self._comparison = Comparison(authorities, None, unlogged_profiles)
        self._now = now
        self._progress = progress
        self._chained: set[bytes] = set()
        self.certificates = 0
        self.entries = 0
        self.lists = 0

    def observations(self) -> Iterator[Observation]:
        """Everything that is found. Raises AuditImpossible, sqlite3.Error and StorageUnavailable."""
        published = self._published()
        yield from self._log()
        yield from self._without_entry()
        yield from self._unfinished()
        yield from self._lists(published)

    def _log(self) -> Iterator[Observation]:
        # The record first: the log may grow while it is read, and is then ahead of it.
        seen = reconciliation_storage.log_seen(self._record)
        try:
            with log_files.open_log(self._ct_dir) as log:
                yield from self._seen(log, seen)
                self._comparison = self._compared_with(log)
                yield from self._entries(log, EMPTY_EDGE)
                size = log.size
            highest = reconciliation_storage.last_leaf(self._record)
            if highest is not None and highest >= size:
                yield from self._later(size, highest)
        except LogDamaged as damage:
            yield Finding("log_damaged", "the log", str(damage)[:900])
            yield from self._alone()

    def _alone(self) -> Iterator[Observation]:
        """The rows without the log."""
        end = reconciliation_storage.last_leaf(self._record)
        for first in range(0, 0 if end is None else end + 1, WIDTH):
            for row in reconciliation_storage.rows_in(self._record, first, first + WIDTH):
                self.certificates += 1
                yield from self._comparison.stored(row, thorough=True)

    def _later(self, size: int, highest: int) -> Iterator[Observation]:
        """Rows beyond the log as it was: in the log as it is now, or in none."""
        promised = reconciliation_storage.highest_place(self._record)
        with log_files.open_log(self._ct_dir) as log:
            yield from self._tiles(log, size, log.size)
            if log.size <= promised:
                text = f"the record names entry {promised}, and the log has {log.size}"
                yield Finding("log_shrank", "the log", text)
            for first in range(log.size, highest + 1, WIDTH):
                rows = reconciliation_storage.rows_in(self._record, first, first + WIDTH)
                self.certificates += len(rows)
                yield from self._comparison.range_of([], rows, self._lookup, thorough=True)

    def _seen(self, log: LogFiles, seen: SeenLog | None) -> Iterator[Finding]:
        """The log against the newest head that the authority has seen of it."""
        if seen is None:
            return
        said = digests(root_seen=seen.root_hash, root=log.signed.head.root)
        if seen.public_key != log.record.public_key:
            yield Finding("log_forked", "the log", "it has another key than the log that the authority has seen", said)
        elif seen.tree_size > log.size:
            text = f"the authority has seen {seen.tree_size} entries, and the log has {log.size}"
            yield Finding("log_shrank", "the log", text, said)
        elif log.root_at(seen.tree_size) != seen.root_hash:
            text = f"its first {seen.tree_size} entries are not those that the authority has seen"
            yield Finding("log_forked", "the log", text, said)

    def _entries(self, log: LogFiles, edge: Edge) -> Iterator[Observation]:
        damaged = False
        for first in range(0, log.size, WIDTH):
            try:
                entries = list(islice(log.entries(first), WIDTH))
            except LogDamaged as damage:
                damaged = True
                yield Finding("log_damaged", of_leaf(first), str(damage)[:900])
                continue
            edge = edge.extended(entry.leaf_hash for entry in entries)
            yield from self._chains(log, entries)
            yield from self._compared([_logged(entry) for entry in entries])
            self._progress("log entries", min(first + WIDTH, log.size), log.size)
        if not damaged and edge.root != log.signed.head.root:
            seen = digests(root=log.signed.head.root, recomputed=edge.root)
            yield Finding("log_damaged", "the log", "its entries do not lead to the root that it has signed", seen)

    def _tiles(self, log: LogFiles, first: int, end: int) -> Iterator[Observation]:
        entries = log.entries(first)
        while batch := list(islice(entries, min(WIDTH, end - first))):
            first += len(batch)
            yield from self._chains(log, batch)
            yield from self._compared([_logged(entry) for entry in batch])

    def _chains(self, log: LogFiles, entries: Sequence[log_files.LoggedEntry]) -> Iterator[Finding]:
        """The certificates above the entries: without one of them the log cannot give out the entry."""
        for entry in entries:
            for fingerprint in entry.leaf.chain:
                if fingerprint in self._chained:
                    continue
                self._chained.add(fingerprint)
                try:
                    if log.issuer(fingerprint) is None:
                        text = f"the certificate issuer/{fingerprint.hex()} of its chain is missing in {self._ct_dir}"
                        yield Finding("log_damaged", of_leaf(entry.index), text)
                except LogDamaged as damage:
                    yield Finding("log_damaged", of_leaf(entry.index), str(damage)[:900])

    def _compared(self, entries: Sequence[LoggedEntry]) -> Iterator[Observation]:
        rows = reconciliation_storage.rows_in(self._record, entries[0].index, entries[-1].index + 1)
        self.entries += len(entries)
        self.certificates += len(rows)
        yield from self._comparison.range_of(entries, rows, self._lookup, thorough=True)

    def _without_entry(self) -> Iterator[Observation]:
        after = 0
        while rows := reconciliation_storage.rows_without_leaf(self._record, after, ROWS_AT_ONCE):
            after = rows[-1][0]
            self.certificates += len(rows)
            for _, row in rows:
                yield from self._comparison.unlogged(row, thorough=True)

    def _unfinished(self) -> Iterator[Note]:
        after = 0
        while rows := reconciliation_storage.reserved_rows(self._record, after, ROWS_AT_ONCE):
            after = rows[-1][0]
            for _, serial in rows:
                yield Note("unfinished", of_serial(serial), "reserved without a certificate")

    def _lists(self, published: Sequence[FoundFile]) -> Iterator[Observation]:
        stored = {(one.issuer, one.partition): one for one in reconciliation_storage.lists(self._record)}
        for file in published:
            yield from self._file(file, stored)
        for key in sorted({*stored, *reconciliation_storage.partitions(self._record)}):
            recorded = reconciliation_storage.recorded(self._record, *key)
            one = stored.get(key)
            if one is None:
                for revocation in recorded:
                    text = f"no list of {key[0]}-{key[1]} is on record"
                    yield Note("revocation_pending", of_serial(revocation.serial), text)
                continue
            self.lists += 1
            yield from status_reconciliation.of_list(one, self._authorities.get(key[0]), recorded, self._now)

    def _file(self, file: FoundFile, stored: Mapping[tuple[str, int], ListOnRecord]) -> Iterator[Observation]:
        issuer, _, partition = file.path.stem.rpartition("-")
        authority = self._authorities.get(issuer)
        one = stored.get((issuer, int(partition))) if partition.isdecimal() else None
        if authority is None or one is None:
            yield from self._brought(file)
        elif file.trouble:
            yield Finding("crl_invalid", f"file {file.path.name}", file.trouble)
        else:
            yield from status_reconciliation.of_file(one, f"file {file.path.name}", file.content, authority)

    def _brought(self, file: FoundFile) -> Iterator[Observation]:
        """A list that an operator put there: what it says must be on record, whoever of ours signed it."""
        for name, authority in self._authorities.items():
            try:
                published, partition = crl.read(file.content, authority)
            except UnreadableCrl:
                continue
            one = ListOnRecord(name, partition or 0, published.number, 0, published.der)
            recorded = reconciliation_storage.recorded(self._record, name, one.partition)
            yield from status_reconciliation.of_list(one, authority, recorded, self._now)

    def _published(self) -> list[FoundFile]:
        if not self._crl_files.directory.exists():
            return []
        try:
            return list(self._crl_files.found())
        except StorageUnavailable as error:
            raise AuditImpossible(str(error)) from error

    def _compared_with(self, log: LogFiles) -> Comparison:
        began = log.entry(0).leaf.timestamp if log.size else log.signed.head.timestamp
        return Comparison(
            self._authorities,
            log.verifier,
            self._unlogged_profiles,
            began // _MILLISECONDS,
            reconciliation_storage.complete_from(self._record),
            reconciliation_storage.entries_given_up(self._record),
        )

    def _lookup(self, serial: str) -> RecordRow | None:
        return reconciliation_storage.row_of(self._record, serial)


def _logged(entry: log_files.LoggedEntry) -> LoggedEntry:
    leaf = entry.leaf
    extensions = structures.leaf_index_extension(leaf.leaf_index)
    return LoggedEntry(entry.index, leaf.timestamp, leaf.entry, extensions, leaf.pre_certificate)
