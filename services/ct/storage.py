"""What the log keeps, and the order in which it becomes durable.

    DATA_DIR/ct/log.db      the signed head; the entries that are not in full tiles yet; where each leaf hash and each
                            entry stands; the accepted roots
    DATA_DIR/ct/tile/...    the full tiles, and issuer/..., checkpoint: see tile_files.py

The promise, in words: when `commit` returns, the entries and the head over them are on the disk, together, and no other
head of that size or a smaller one will ever take its place. When `publish` returns, every full tile and the checkpoint
are files. Only after both may anybody be told.

Rules:
- The head is one row, replaced by compare and swap: a commit that was prepared over another head fails as a whole.
- `publish` may be cut off anywhere and repeated: what it writes follows from what was committed, octet for octet. It
  runs in the writing thread, after the commit. Entries leave the database in the step after the tile that holds them.
- At the start the head row is the truth. The tree is built from tiles and entries, must have that root, and is then
  published by the same code. A checkpoint or tile beyond the head means that the database is an old copy: told, never
  used, for a second history would be signed over the first.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from services.ct.messages import DATA_LEVEL
from services.ct.sequencing import Batch, NewEntry, Place, Tree
from services.ct.tile_files import LogDamaged, TileFiles
from services.ct.tiles import HEIGHT, WIDTH, Completed, Frontier, Tile, parse_entry
from services.ct.tiles import Place as TilePlace
from services.ct.tree_tiles import TreeTiles
from services.database import Database
from services.errors import StorageUnavailable
from services.rfc6962 import note
from services.rfc6962.merkle import leaf_hash
from services.rfc6962.note import Checkpoint, Note, NoteError
from services.rfc6962.structures import StructureError
from services.rfc6962.verifier import LogVerifier, SignatureRefused, SignedHead, TreeHead

REMEMBERED_ISSUERS: Final = 256

# Only ever appended to. Timestamps are milliseconds since the Unix epoch.
MIGRATIONS: Final = (
    """
    CREATE TABLE log (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        public_key BLOB NOT NULL,
        origin TEXT NOT NULL
    ) STRICT;
    CREATE TABLE head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        tree_size INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        root_hash BLOB NOT NULL,
        signature BLOB NOT NULL
    ) STRICT;
    CREATE TABLE entries (leaf_index INTEGER PRIMARY KEY, leaf BLOB NOT NULL) STRICT;
    CREATE TABLE leaves (leaf_hash BLOB PRIMARY KEY, leaf_index INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE identities (
        identity BLOB PRIMARY KEY,
        leaf_index INTEGER NOT NULL,
        timestamp INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE roots (id INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL UNIQUE, certificate BLOB NOT NULL) STRICT;
    """,
)


class HeadMoved(Exception):
    """The head on the disk is not the one that this process stands by: nothing more may be signed here."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """Whose log it is: its key, a SubjectPublicKeyInfo, and the name in its checkpoints."""

    public_key: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class State:
    """A log as it was found on the disk, checked. `completed` are tiles that may not be in files yet."""

    record: LogRecord
    signed: SignedHead
    tree: Tree
    frontier: Frontier
    completed: tuple[Completed, ...]
    roots: tuple[bytes, ...]


def load(connection: sqlite3.Connection, files: TileFiles, checkpoint: bytes | None, *, alone: bool) -> State | None:
    """Read and check the log; None when none was begun here. Raises LogDamaged; reads only.

    `checkpoint` is the published one, read before this snapshot of the database began. `alone`: nobody writes
    meanwhile, so that nothing may be there which the head does not speak of.
    """
    found = _record(connection)
    if found is None:
        return None
    signed = _head(connection)
    if signed is None:
        raise damaged(files, "it has a key and no head")
    verifier = LogVerifier.of(found.public_key)
    try:
        verifier.verify_head(signed)
    except (SignatureRefused, StructureError) as error:
        raise damaged(files, f"the signature of its head is wrong: {error}") from error
    frontier, completed = _grown(connection, files, signed.head.size, alone=alone)
    edge = frontier.edge()
    if edge.root != signed.head.root:
        raise damaged(files, "its entries and the tiles do not lead to the root that was signed")
    state = State(found, signed, Tree(signed.head, edge), frontier, completed, _roots(connection))
    if checkpoint is not None:
        _check_checkpoint(state, files, verifier, checkpoint)
    return state


def tiles_of(state: State, files: TileFiles) -> TreeTiles:
    """The tree of this state, to be asked for."""
    tiles = TreeTiles(files, state.frontier)
    tiles.grow(state.frontier, state.completed)
    return tiles


def rows(connection: sqlite3.Connection, first: int, end: int) -> list[bytes]:
    """The entries from `first` up to, not including, `end`, as far as the database holds them."""
    found = connection.execute(
        "SELECT leaf FROM entries WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index", (first, end)
    )
    return [leaf for (leaf,) in found]


def begin(connection: sqlite3.Connection, record: LogRecord, signed: SignedHead) -> None:
    """Put a new log on record, with its first head."""
    connection.execute("INSERT INTO log VALUES (1, ?, ?)", (record.public_key, record.origin))
    head = signed.head
    connection.execute(
        "INSERT INTO head VALUES (1, ?, ?, ?, ?)", (head.size, head.timestamp, head.root, signed.signature)
    )


class LogStorage:
    """The log over an open database. `committed` is durable; `published` is what may be told."""

    def __init__(self, database: Database, files: TileFiles, state: State) -> None:
        self._database = database
        self._files = files
        self._verifier = LogVerifier.of(state.record.public_key)
        self._issuers: OrderedDict[bytes, bytes] = OrderedDict()
        self.record = state.record
        self.roots = state.roots
        self.tiles = tiles_of(state, files)
        self.tree = state.tree
        self.committed = state.signed
        self.published = state.signed
        self.checkpoint = b""

    @property
    def is_published(self) -> bool:
        """Whether all that is committed has been published since this process runs."""
        return self.published is self.committed and bool(self.checkpoint)

    def find(self, identity: bytes) -> Place | None:
        """Where an entry with this identity stands."""
        row = self._first("SELECT leaf_index, timestamp FROM identities WHERE identity = ?", identity)
        return None if row is None else Place(int(row[0]), int(row[1]))

    def index_of(self, hashed: bytes) -> int | None:
        """The index of the leaf with this hash."""
        row = self._first("SELECT leaf_index FROM leaves WHERE leaf_hash = ?", hashed)
        return None if row is None else int(row[0])

    async def keep_issuers(self, certificates: Iterable[bytes]) -> None:
        """Have the certificates of a chain in files. Raises StorageUnavailable."""
        new = {sha256(each).digest(): each for each in certificates}
        new = {fingerprint: each for fingerprint, each in new.items() if fingerprint not in self._issuers}
        if new:
            await self._database.write(lambda _: self._files.write_issuers(new.values()))
            for fingerprint, certificate in new.items():
                self._remember_issuer(fingerprint, certificate)

    def issuer(self, fingerprint: bytes) -> bytes | None:
        """A certificate of a logged chain by its SHA-256."""
        known = self._issuers.get(fingerprint)
        if known is None and (known := self._files.issuer(fingerprint)) is not None:
            self._remember_issuer(fingerprint, known)
        return known

    async def commit(self, batch: Batch, signed: SignedHead) -> None:
        """Make the entries and their head durable, all or none. Raises StorageUnavailable and HeadMoved."""
        before = self.committed.head
        try:
            await self._database.write(lambda connection: _commit(connection, before, signed, batch.entries))
        except StorageUnavailable:
            # Not acknowledged. If it is there nevertheless, memory and disk differ: only a new process finds out.
            self.check_head()
            raise
        frontier, completed = self.tiles.frontier.grown(entry.leaf_hash for entry in batch.entries)
        self.tiles.grow(frontier, completed)
        self.tree = batch.tree
        self.committed = signed

    async def publish(self) -> None:
        """Have all full tiles and the checkpoint in files: now the head may be told. Raises StorageUnavailable."""
        signed = self.committed
        pending = dict(self.tiles.unpublished)
        checkpoint = self._checkpoint(signed)
        await self._database.write(
            lambda connection: _publish(connection, self._files, pending, signed.head.size, checkpoint)
        )
        self.tiles.published(pending)
        self.published = signed
        self.checkpoint = checkpoint

    async def entries(self, tile: int) -> Sequence[bytes]:
        """The entries of this data tile, as far as the tree goes, each a TileLeaf. Raises LogDamaged."""
        first, size = tile << HEIGHT, self.committed.head.size
        if size < first + WIDTH or TilePlace(0, tile) in self.tiles.unpublished:
            found = self._database.lookup(lambda connection: rows(connection, first, first + WIDTH))
            if found:
                return found
            # The writer has just put them into their tile, and this loop has not heard of it yet.
        known = self.tiles.entries(tile)
        if known is None:
            hashes = self.tiles.tile(TilePlace(0, tile))
            # On the reading thread: half a megabyte has to be read and hashed.
            known = await self._database.read(lambda _: self.tiles.read_entries(tile, hashes))
            self.tiles.remember_entries(tile, known)
        return known

    async def accept_roots(self, certificates: Sequence[bytes]) -> None:
        """Put roots on record. Raises StorageUnavailable."""
        added = [(sha256(each).digest(), each) for each in certificates]
        await self._database.write(
            lambda connection: (
                connection.executemany(
                    "INSERT OR IGNORE INTO roots (fingerprint, certificate) VALUES (?, ?)", added
                ).rowcount
            )
        )
        self.roots = (*self.roots, *certificates)

    def check_head(self) -> None:
        """Whether the head on the disk is the one that this process stands by. Raises HeadMoved."""
        found = self._database.lookup(_head)
        if found is None or found.head != self.committed.head:
            raise HeadMoved(f"the head in {self._database.path} is not the one of {self.committed.head.size} leaves")

    async def probe(self) -> None:
        """One small durable write. Raises StorageUnavailable or DatabaseCorrupt."""
        await self._database.probe()

    async def close(self) -> None:
        """Finish what waits, and close."""
        await self._database.close()

    def _first(self, statement: str, key: bytes) -> tuple[int, ...] | None:
        def one(connection: sqlite3.Connection) -> tuple[int, ...] | None:
            row: tuple[int, ...] | None = connection.execute(statement, (key,)).fetchone()
            return row

        return self._database.lookup(one)

    def _remember_issuer(self, fingerprint: bytes, certificate: bytes) -> None:
        self._issuers[fingerprint] = certificate
        while len(self._issuers) > REMEMBERED_ISSUERS:
            self._issuers.popitem(last=False)

    def _checkpoint(self, signed: SignedHead) -> bytes:
        origin, head = self.record.origin, signed.head
        text = note.checkpoint_text(Checkpoint(origin, head.size, head.root))
        line = note.rfc6962_signature(origin, self._verifier.log_id, head.timestamp, signed.signature)
        return note.encode(Note(text, (line,)))


def damaged(files: TileFiles, found: str) -> LogDamaged:
    """The error that tells the operator what was found and what to do."""
    return LogDamaged(
        f"the log {files.directory} does not hold together: {found}. Nothing was changed. Restore the directory as a "
        "whole from the newest backup. If there is none, move it away: the next start makes a new log with a new key"
    )


def _commit(connection: sqlite3.Connection, before: TreeHead, signed: SignedHead, entries: Sequence[NewEntry]) -> None:
    head = signed.head
    swapped = connection.execute(
        "UPDATE head SET tree_size = ?, timestamp = ?, root_hash = ?, signature = ? "
        "WHERE tree_size = ? AND timestamp = ? AND root_hash = ?",
        (head.size, head.timestamp, head.root, signed.signature, before.size, before.timestamp, before.root),
    )
    if swapped.rowcount != 1:
        raise HeadMoved(f"the head on the disk is not the one of {before.size} leaves")
    connection.executemany("INSERT INTO entries VALUES (?, ?)", [(e.place.leaf_index, e.leaf) for e in entries])
    connection.executemany("INSERT INTO leaves VALUES (?, ?)", [(e.leaf_hash, e.place.leaf_index) for e in entries])
    connection.executemany(
        "INSERT INTO identities VALUES (?, ?, ?)",
        [(e.identity, e.place.leaf_index, e.place.timestamp) for e in entries],
    )


def _publish(
    connection: sqlite3.Connection,
    files: TileFiles,
    pending: dict[TilePlace, Tile],
    size: int,
    checkpoint: bytes,
) -> None:
    """Files first, then the checkpoint that speaks of them; the entries they hold leave the database last."""
    for place, tile in pending.items():
        if place.level == 0:
            first = place.index << HEIGHT
            files.write(TilePlace(DATA_LEVEL, place.index), b"".join(rows(connection, first, first + WIDTH)))
        files.write(place, tile.hashes)
    files.write_checkpoint(checkpoint)
    if pending:
        connection.execute("DELETE FROM entries WHERE leaf_index < ?", (size >> HEIGHT << HEIGHT,))


def _grown(
    connection: sqlite3.Connection, files: TileFiles, size: int, *, alone: bool
) -> tuple[Frontier, tuple[Completed, ...]]:
    """The frontier at the end of the tiles, grown by the entries in the database."""
    (first,) = connection.execute("SELECT min(leaf_index) FROM entries").fetchone()
    published = size if first is None else int(first)
    entries = rows(connection, published, size)
    if published % WIDTH or len(entries) != size - published:
        raise damaged(files, f"entries between {published} and {size} are missing from log.db")
    files.check_presence(published, size if alone else None)
    frontier = Frontier.above(published, lambda place: Tile(files.read(place)))
    try:
        leaves = [parse_entry(entry) for entry in entries]
    except StructureError as error:
        raise damaged(files, f"an entry in log.db cannot be read: {error}") from error
    return frontier.grown(leaf_hash(leaf.merkle_tree_leaf) for leaf in leaves)


def _check_checkpoint(state: State, files: TileFiles, verifier: LogVerifier, published: bytes) -> None:
    """What was published must be a beginning of what is on record."""
    path = files.directory / "checkpoint"
    try:
        parsed = note.parse(published)
        checkpoint = note.parse_checkpoint(parsed.text)
        timestamp, signature = note.find_rfc6962_signature(parsed, state.record.origin, verifier.log_id)
        verifier.verify_head(SignedHead(TreeHead(checkpoint.size, timestamp, checkpoint.root), signature))
    except (NoteError, SignatureRefused, StructureError) as error:
        raise LogDamaged(
            f"{path} is not a checkpoint of this log: {error}. Nothing was changed. Find out who changed it, then "
            "remove it; it is made again at the next start"
        ) from error
    head = state.signed.head
    if checkpoint.size > head.size or timestamp > head.timestamp:
        raise damaged(
            files, f"its checkpoint speaks of {checkpoint.size} leaves, and log.db, an old copy, of {head.size}"
        )
    if tiles_of(state, files).root_at(checkpoint.size) != checkpoint.root:
        raise damaged(files, f"its checkpoint of {checkpoint.size} leaves has another root than these have")


def _record(connection: sqlite3.Connection) -> LogRecord | None:
    row = connection.execute("SELECT public_key, origin FROM log").fetchone()
    return None if row is None else LogRecord(row[0], row[1])


def _head(connection: sqlite3.Connection) -> SignedHead | None:
    row = connection.execute("SELECT tree_size, timestamp, root_hash, signature FROM head").fetchone()
    return None if row is None else SignedHead(TreeHead(row[0], row[1], row[2]), row[3])


def _roots(connection: sqlite3.Connection) -> tuple[bytes, ...]:
    return tuple(certificate for (certificate,) in connection.execute("SELECT certificate FROM roots ORDER BY id"))
