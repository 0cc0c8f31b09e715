"""A log read from its files alone, by an auditor: no key, no service, nothing is ever written.

    with open_log(settings.paths.ct_dir) as log:
        for entry in log.entries():            # each checked against the tree, whose root is signed
            ...
        assert log.recomputed_root() == log.signed.head.root

Rules:
- What is read is one snapshot, also while the service runs: the checkpoint first, then the database, whose head can
  only be the same or a later one; tiles never change.
- Opening checks what the service checks at its start: the signature of the head, its root, every tile's presence, the
  published checkpoint. Entries and tiles are checked as they are read. The first thing found is LogDamaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services import database_file
from services.ct import storage
from services.ct.sequencing import Place
from services.ct.storage import LogRecord, State
from services.ct.tile_files import LogDamaged, TileFiles
from services.ct.tiles import HEIGHT, WIDTH, parse_entry
from services.ct.tiles import Place as TilePlace
from services.ct.tree_tiles import TreeTiles
from services.rfc6962 import merkle
from services.rfc6962.merkle import EMPTY_EDGE, leaf_hash
from services.rfc6962.structures import TileLeaf
from services.rfc6962.verifier import LogVerifier, SignedHead

DATABASE: Final = "log.db"


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """One entry of the tree. `leaf_hash` is the hash at its index."""

    index: int
    leaf_hash: bytes
    leaf: TileLeaf


class LogFiles:
    """An open log. Made by `open_log`."""

    def __init__(self, connection: sqlite3.Connection, files: TileFiles, state: State) -> None:
        self._connection = connection
        self._files = files
        self._tiles: TreeTiles = storage.tiles_of(state, files)
        self.record: LogRecord = state.record
        self.signed: SignedHead = state.signed
        self.roots: tuple[bytes, ...] = state.roots
        self.verifier = LogVerifier.of(state.record.public_key)

    @property
    def size(self) -> int:
        """How many entries the tree has."""
        return self.signed.head.size

    def entries(self, first: int = 0) -> Iterator[LoggedEntry]:
        """Every entry from index `first` on, in order. Raises LogDamaged."""
        for tile in range(first >> HEIGHT, -(-self.size // WIDTH)):
            begin = tile << HEIGHT
            for index, octets in enumerate(self._entries(tile), begin):
                if index >= first:
                    yield self._entry(index, octets)

    def entry(self, index: int) -> LoggedEntry:
        """One entry. Raises IndexError when the tree has none there, and LogDamaged."""
        if not 0 <= index < self.size:
            raise IndexError(f"the tree has {self.size} entries")
        return self._entry(index, self._entries(index >> HEIGHT)[index % WIDTH])

    def index_of(self, hashed: bytes) -> int | None:
        """The index of the leaf with this hash, as log.db has it."""
        row = self._one("SELECT leaf_index FROM leaves WHERE leaf_hash = ?", hashed)
        return None if row is None else int(row[0])

    def find(self, identity: bytes) -> Place | None:
        """Where the entry with this identity stands (`chain.Submission`), as log.db has it."""
        row = self._one("SELECT leaf_index, timestamp FROM identities WHERE identity = ?", identity)
        return None if row is None else Place(int(row[0]), int(row[1]))

    def issuer(self, fingerprint: bytes) -> bytes | None:
        """A certificate of a logged chain by its SHA-256. Raises LogDamaged."""
        return self._files.issuer(fingerprint)

    def inclusion_proof(self, index: int) -> list[bytes]:
        """The proof that entry `index` is under the signed root. Raises ValueError and LogDamaged."""
        return merkle.inclusion_proof(self._tiles.node, index, self.size)

    def consistency_proof(self, first: int) -> list[bytes]:
        """The proof that the tree of `first` entries is a beginning of this one. Raises ValueError and LogDamaged."""
        return merkle.consistency_proof(self._tiles.node, first, self.size)

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` entries. Raises ValueError beyond the tree, and LogDamaged."""
        return self._tiles.root_at(size)

    def recomputed_root(self) -> bytes:
        """The root from the entries alone, each read and hashed again. Raises LogDamaged."""
        return EMPTY_EDGE.extended(leaf_hash(entry.leaf.merkle_tree_leaf) for entry in self.entries()).root

    def _entry(self, index: int, octets: bytes) -> LoggedEntry:
        leaf = parse_entry(octets)
        hashed = leaf_hash(leaf.merkle_tree_leaf)
        if leaf.leaf_index != index or hashed != self._tiles.node(0, index):
            raise LogDamaged(f"entry {index} of {self._files.directory} is not the one in the tree")
        return LoggedEntry(index, hashed, leaf)

    def _entries(self, tile: int) -> Sequence[bytes]:
        first = tile << HEIGHT
        in_database = storage.rows(self._connection, first, min(first + WIDTH, self.size))
        if in_database:
            return in_database
        known = self._tiles.entries(tile)
        if known is None:
            known = self._tiles.read_entries(tile, self._tiles.tile(TilePlace(0, tile)))
            self._tiles.remember_entries(tile, known)
        return known

    def _one(self, statement: str, key: bytes) -> tuple[int, ...] | None:
        row: tuple[int, ...] | None = self._connection.execute(statement, (key,)).fetchone()
        return row


@contextmanager
def open_log(directory: Path) -> Iterator[LogFiles]:
    """Read the log in DATA_DIR/ct. Raises LogDamaged, DatabaseCorrupt, StorageUnavailable."""
    path = directory / DATABASE
    if not path.exists():
        raise LogDamaged(f"there is no log in {directory}: {path} is missing")
    files = TileFiles(directory)
    checkpoint = files.checkpoint()
    try:
        connection = database_file.open_beside(path)
    except sqlite3.Error as error:
        database_file.fail(error, path)
    try:
        connection.execute("BEGIN")
        state = storage.load(connection, files, checkpoint, alone=False)
        if state is None:
            raise LogDamaged(f"no log was begun in {directory}")
        yield LogFiles(connection, files, state)
    except sqlite3.Error as error:
        database_file.fail(error, path)
    finally:
        connection.close()
