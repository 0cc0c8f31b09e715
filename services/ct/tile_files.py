"""The files of the log: full tiles, issuers, the checkpoint. Each is whole or not there, before and after a crash.

    DATA_DIR/ct/tile/<level>/<index>     256 hashes, written once       DATA_DIR/ct/tile/data/<index>    256 entries
    DATA_DIR/ct/issuer/<fingerprint>     a certificate of a chain       DATA_DIR/ct/checkpoint           replaced

Promise: when a method that writes returns, content and name are on the disk. Tiles and issuers are never replaced: one
that exists with another content is a LogDamaged, and stays as it is.

Rules:
- They are what everybody may read of the log, and a copy of them can be served as it is (C2SP static-ct-api).
- There is one writer. The checkpoint alone is renamed without syncing the directory: the one before is as true.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from services.ct.messages import DATA_LEVEL
from services.ct.tiles import FULL_OCTETS, LEVELS, Place, full_tiles
from services.errors import ConfigurationError, StorageUnavailable
from services.rfc6962.note import MAX_NOTE_OCTETS
from services.whole_files import rename_whole, sync_directory, write_whole

MAX_DATA_TILE_OCTETS: Final = 256 * 140_000  # the largest entries there can be
_DIRECTORY: Final = 0o755
_FILE: Final = 0o644
_IN_DIRECTORY: Final = 1000
_RESTORE: Final = "Nothing was changed. Restore the directory of the log as a whole from the newest backup"


class LogDamaged(ConfigurationError):
    """What is on the disk is not what the log promised. Nothing was overwritten."""


class TileFiles:
    """The files below the directory of one log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: set[Path] = set()

    def read(self, place: Place) -> bytes:
        """A full tile. Raises LogDamaged when it is missing or cannot be one, and StorageUnavailable."""
        path = self.directory / place.path
        limit = MAX_DATA_TILE_OCTETS if place.level == DATA_LEVEL else FULL_OCTETS
        content = _read(path, limit)
        if content is None:
            raise LogDamaged(f"{path} is missing, a tile of the log. {_RESTORE}")
        if len(content) > limit or (place.level != DATA_LEVEL and len(content) != FULL_OCTETS):
            raise LogDamaged(f"{path} is not a tile: it has {len(content)} octets or more. {_RESTORE}")
        return content

    def write(self, place: Place, content: bytes) -> None:
        """Make a full tile, or find it made. Raises LogDamaged when another one is there, and StorageUnavailable."""
        self._write_once(self.directory / place.path, content)

    def issuer(self, fingerprint: bytes) -> bytes | None:
        """A certificate by its SHA-256, None if it is not here. Raises LogDamaged when it is another one."""
        path = self._issuer_path(fingerprint)
        content = _read(path, FULL_OCTETS * 16)
        if content is not None and sha256(content).digest() != fingerprint:
            raise LogDamaged(f"{path} does not hold the certificate of that fingerprint. {_RESTORE}")
        return content

    def write_issuers(self, certificates: Iterable[bytes]) -> None:
        """Keep certificates of chains. Raises StorageUnavailable."""
        for certificate in certificates:
            self._write_once(self._issuer_path(sha256(certificate).digest()), certificate)

    def checkpoint(self) -> bytes | None:
        """The checkpoint as published, None before the first one."""
        return _read(self.directory / "checkpoint", MAX_NOTE_OCTETS)

    def write_checkpoint(self, note: bytes) -> None:
        """Publish a checkpoint in place of the one before. Raises StorageUnavailable."""
        path = self.directory / "checkpoint"
        with _storage_errors(path):
            rename_whole(path, note, _FILE)

    def check_presence(self, published: int, size: int | None) -> None:
        """Whether all tiles of the first `published` leaves are there, and none beyond `size`. Raises LogDamaged."""
        for level in range(DATA_LEVEL, LEVELS):
            possible = None if size is None else full_tiles(level, size)
            self._check_level(level, full_tiles(level, published), possible)

    def _check_level(self, level: int, needed: int, possible: int | None) -> None:
        last = needed if possible is None else possible
        for first in range(0, last + 1, _IN_DIRECTORY):
            directory = (self.directory / Place(level, first).path).parent
            names = os.listdir(directory) if directory.is_dir() else []
            there = {first + int(name) for name in names if len(name) == 3 and name.isdecimal()}
            for index in range(first, min(needed, first + _IN_DIRECTORY)):
                if index not in there:
                    path = self.directory / Place(level, index).path
                    raise LogDamaged(f"{path} is missing, a tile of the log. {_RESTORE}")
            for index in sorted(there) if possible is not None else ():
                if index >= last:
                    path = self.directory / Place(level, index).path
                    raise LogDamaged(
                        f"{path} belongs to a larger tree than {self.directory / 'log.db'} knows: that is an old copy. "
                        f"{_RESTORE}"
                    )

    def _issuer_path(self, fingerprint: bytes) -> Path:
        return self.directory / "issuer" / fingerprint.hex()

    def _write_once(self, path: Path, content: bytes) -> None:
        there = _read(path, len(content))
        if there is None:
            with _storage_errors(path):
                self._ensure(path.parent)
                write_whole(path, content, _FILE)
        elif there != content:
            raise LogDamaged(f"{path} exists and holds something else than the log has for it. {_RESTORE}")

    def _ensure(self, directory: Path) -> None:
        if directory in self._made:
            return
        if not directory.is_dir():
            self._ensure(directory.parent)
            directory.mkdir(mode=_DIRECTORY)
            sync_directory(directory.parent)
        self._made.add(directory)


def _read(path: Path, limit: int) -> bytes | None:
    """At most one octet more than `limit`; None when there is no such file."""
    with _storage_errors(path):
        try:
            with path.open("rb") as file:
                return file.read(limit + 1)
        except FileNotFoundError:
            return None


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written or read now: {error.strerror}") from error
