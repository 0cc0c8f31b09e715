"""The key of the log as a file: DATA_DIR/ct/log.key, 0600, PKCS #8, PEM, on P-256.

Rules:
- A crash at any step of making it leaves no key or a whole one; half a one lies under another name, and is removed.
- It is never made over one that exists, and a log that has signed is never given a new one: whoever calls `create` has
  looked at the record first.
- What is missing, unreadable, open to others, or no such key is a ConfigurationError that says what to do; a full or
  failing disk is StorageUnavailable.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.ct.signing import LogSigner
from services.errors import ConfigurationError
from services.whole_files import storage_errors, write_whole

MAX_FILE_OCTETS: Final = 65_536
_PRIVATE: Final = 0o600
_RESTORE: Final = "restore it from a backup; nothing was changed"


def create(path: Path) -> LogSigner:
    """Make a new key where there is none. Raises ConfigurationError when there is one, and StorageUnavailable."""
    if path.exists():
        raise ConfigurationError(f"{path} exists: a new key is not written over it")
    key = ec.generate_private_key(ec.SECP256R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with storage_errors(path):
        write_whole(path, content, _PRIVATE)
    return LogSigner(key)


def load(path: Path) -> LogSigner:
    """Read and check the key. Raises ConfigurationError."""
    content = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigurationError(f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is not a private key in PEM, PKCS #8: {_RESTORE}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{path} does not hold a key on P-256, as a log needs it: {_RESTORE}")
    return LogSigner(key)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_OCTETS + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing, the key of the log: {_RESTORE}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_OCTETS:
        raise ConfigurationError(f"{path} is larger than any key: {_RESTORE}")
    return content
