"""Opening the log: its key, its record, its files. The first time, creating it.

Rules:
- The order of the first start is record, key, first head. So a key without a record, or a record with a head and
  without a key, is no start that was interrupted: it is a loss. It is told (exit 78) and nothing is made anew, because
  a second tree under the same key would be a fork, and a second key cannot sign the first tree.
- A crash at any step of the first start leaves a state from which the next start goes on.
- The origin counts only when the log is created: it is the name by which its checkpoints are known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from config.schema import Settings
from services.ct import keys, sequencing, storage
from services.ct.messages import MAX_CERTIFICATE_OCTETS
from services.ct.signing import LogSigner
from services.ct.storage import MIGRATIONS, LogRecord, LogStorage, State
from services.ct.tile_files import TileFiles
from services.database import Database
from services.errors import ConfigurationError, StorageUnavailable

RECORD: Final = "log.db"
KEY: Final = "log.key"
MAX_ROOT_FILE_OCTETS: Final = 64 * MAX_CERTIFICATE_OCTETS


@dataclass(frozen=True, slots=True)
class Installation:
    """An open log."""

    signer: LogSigner
    storage: LogStorage


async def open_installation(settings: Settings, now: Callable[[], int], log: Any) -> Installation:
    """Open the log of these settings, creating it if there is none. `now` gives milliseconds since the Unix epoch.

    Raises ConfigurationError (LogDamaged, DatabaseCorrupt) for what an operator has to mend, and StorageUnavailable.
    """
    directory = settings.paths.ct_dir
    _make_directory(directory)
    record, key = directory / RECORD, directory / KEY
    if key.exists() and not record.exists():
        raise ConfigurationError(
            f"{record} is missing, the record of the log whose key is {key}: restore {directory} as a whole from a "
            f"backup. If there is none, move {directory} away: a new log with a new key begins at the next start"
        )
    database = await Database.open(record, MIGRATIONS)
    try:
        signer, opened = await _open(settings, database, TileFiles(directory), now)
        await opened.publish()
    except BaseException:
        await database.close()
        raise
    log.info(
        "log open",
        log_id=signer.log_id.hex(),
        origin=opened.record.origin,
        tree_size=opened.published.head.size,
        roots=len(opened.roots),
    )
    return Installation(signer, opened)


async def _open(
    settings: Settings, database: Database, files: TileFiles, now: Callable[[], int]
) -> tuple[LogSigner, LogStorage]:
    key = files.directory / KEY

    def load(connection: sqlite3.Connection) -> State | None:
        return storage.load(connection, files, files.checkpoint(), alone=True)

    state = await database.read(load)
    if state is None:
        signer = keys.load(key) if key.exists() else keys.create(key)
        begun = LogRecord(signer.verifier.public_key, origin_of(settings))
        head = signer.sign_head(sequencing.empty_tree(now()).head)
        await database.write(lambda connection: storage.begin(connection, begun, head))
        state = await database.read(load)
    else:
        signer = keys.load(key)
    if state is None or state.record.public_key != signer.verifier.public_key:
        raise ConfigurationError(
            f"{key} is not the key of the log in {files.directory}: restore the right one from a backup; nothing was "
            "changed"
        )
    return signer, LogStorage(database, files, state)


def origin_of(settings: Settings) -> str:
    """The name of a new log: where it takes submissions, as a URL without scheme (C2SP static-ct-api)."""
    return settings.ct.origin or f"{settings.server.domain}:{settings.api.port}"


def read_roots(paths: tuple[str, ...]) -> list[bytes]:
    """The certificates in these PEM files, DER. Raises ConfigurationError."""
    return [certificate for path in paths for certificate in _certificates(Path(path))]


def _certificates(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ROOT_FILE_OCTETS + 1)
        if len(content) > MAX_ROOT_FILE_OCTETS:
            raise ValueError(f"it is larger than {MAX_ROOT_FILE_OCTETS} octets")
        found = x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise ConfigurationError(f"ct.extra_roots: {path} cannot be read: {error.strerror}") from error
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigurationError(f"ct.extra_roots: {path} does not hold certificates in PEM: {error}") from error
    return [certificate.public_bytes(serialization.Encoding.DER) for certificate in found]


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"{directory} cannot be made: {error.strerror}") from error
