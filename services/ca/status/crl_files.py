"""The published revocation lists as files, DER:

    DATA_DIR/ca/crl/ISSUER-PARTITION.crl        0644    the newest list of each partition
    DATA_DIR/ca/crl/anything.crl                        lists that an operator put there, DER or PEM

Rules:
- They are what a restored backup of the database is compared with: what a list here says is revoked stays revoked.
- A file is whole or the one before.
- Files here may come from anywhere. Nothing in them counts before a signature of one of our authorities was verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import StorageUnavailable
from services.whole_files import UNFINISHED, storage_errors, sync_directory, write_whole

MAX_FILES: Final = 4096
MAX_FILE_BYTES: Final = 67_108_864
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file with the name of a list. `trouble` says why its content was not read."""

    path: Path
    content: bytes
    trouble: str = ""


class CrlFiles:
    """The directory of the lists."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, issuer: str, partition: int) -> Path:
        """Where the list of a partition is."""
        return self.directory / f"{issuer}-{partition}.crl"

    def prepare(self) -> None:
        """Make the directory. Raises StorageUnavailable."""
        try:
            if not self.directory.exists():
                self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
                sync_directory(self.directory.parent)
            for left in self.directory.glob(f".*{UNFINISHED}"):
                left.unlink(missing_ok=True)
        except OSError as error:
            raise StorageUnavailable(f"{self.directory} cannot be made: {error.strerror}") from error

    def found(self) -> Iterator[FoundFile]:
        """All files with the name of a list, in the order of their names. Raises StorageUnavailable."""
        try:
            paths = sorted(path for path in self.directory.iterdir() if path.name.endswith(".crl"))
        except OSError as error:
            raise StorageUnavailable(f"{self.directory} cannot be read: {error.strerror}") from error
        for path in paths[:MAX_FILES]:
            yield _read(path)
        for path in paths[MAX_FILES:]:
            yield FoundFile(path, b"", f"there are more than {MAX_FILES} files; remove those that are not needed")

    def publish(self, issuer: str, partition: int, der: bytes) -> None:
        """Put a list in place of the one before. Raises StorageUnavailable: then the one before is still there."""
        path = self.path(issuer, partition)
        with storage_errors(path):
            write_whole(path, der, _FILE_MODE)


def _read(path: Path) -> FoundFile:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return FoundFile(path, b"", f"it cannot be read: {error.strerror}")
    if len(content) > MAX_FILE_BYTES:
        return FoundFile(path, b"", f"it has more than {MAX_FILE_BYTES} bytes")
    return FoundFile(path, content)
