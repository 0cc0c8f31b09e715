"""One key, one certificate, one document as a file: read strictly; a key is also destroyed.

Rules:
- A private key that others may read is not used. What is missing, unreadable or damaged is a ConfigurationError that
  names the file and says what to do. `services/whole_files.py` writes them.
- A key that is to be gone is overwritten before its name is taken away. That is all a file system lets us do: copies
  that it, or the disk below it, made for itself are out of reach.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from services.ca.keys.signing_keys import SigningKey, is_signing_key
from services.errors import ConfigurationError
from services.whole_files import sync_directory, write_whole

MAX_FILE_BYTES: Final = 65_536
PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
DIRECTORY: Final = 0o700
RESTORE: Final = "restore it from a backup; nothing was changed"

_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class WrongPassphrase(Exception):
    """A key that this passphrase does not open, or that needs one when there is none. The text says which."""


class UnreadableKey(ValueError):
    """Bytes that are no private key which an authority can have."""


def parse_key(content: bytes, passphrase: bytes | None, *, trusted: bool = False) -> SigningKey:
    """Read a private key, PEM, PKCS #8. `trusted`: it is one that was checked before; the dear checks are left out.

    Raises WrongPassphrase and UnreadableKey.
    """
    encrypted = _ENCRYPTED in content
    if encrypted and passphrase is None:
        raise WrongPassphrase("it is encrypted, and there is no passphrase")
    try:
        key = serialization.load_pem_private_key(
            content, passphrase if encrypted else None, unsafe_skip_rsa_key_validation=trusted
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise WrongPassphrase("the passphrase does not open it, or it is damaged") from error
        raise UnreadableKey("it is not a private key in PEM, PKCS #8") from error
    if not is_signing_key(key):
        raise UnreadableKey("it holds a key of another type than this authority can use")
    return key  # type: ignore[return-value] # as is_signing_key says


def is_encrypted(content: bytes) -> bool:
    """Whether a passphrase is needed for this key (PEM)."""
    return _ENCRYPTED in content


def pkcs8(key: SigningKey, passphrase: bytes | None) -> bytes:
    """A private key as PEM, PKCS #8; encrypted (PBES2) if there is a passphrase."""
    protection = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def csr_pem(csr: x509.CertificateSigningRequest) -> bytes:
    """A certificate request as PEM."""
    return csr.public_bytes(serialization.Encoding.PEM)


def read(path: Path, *, private: bool = False, limit: int = MAX_FILE_BYTES) -> bytes:
    """The content of a file. Raises ConfigurationError."""
    try:
        with path.open("rb", buffering=0) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(limit + 1) or b""
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing: {RESTORE}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if private and mode & 0o077:
        raise ConfigurationError(f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`")
    if len(content) > limit:
        raise ConfigurationError(f"{path} is larger than any file of this kind: {RESTORE}")
    return content


def certificates_in(path: Path, content: bytes) -> list[x509.Certificate]:
    """The certificates, PEM, at least one, that were read from `path`. Raises ConfigurationError."""
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigurationError(f"{path} is not a certificate in PEM: {RESTORE}") from error


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, for the owner alone. Raises OSError."""
    path.mkdir(mode=DIRECTORY, parents=True, exist_ok=True)
    sync_directory(path.parent)


def replace_key(path: Path, content: bytes) -> None:
    """Give a key's file new content at one moment, and overwrite the old content afterwards. Raises OSError."""
    old = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write_whole(path, content, PRIVATE)
        _overwrite(old)
    finally:
        os.close(old)


def destroy(path: Path) -> None:
    """Overwrite a key's file and take its name away; one that is gone already is fine. Raises OSError."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _overwrite(descriptor)
        finally:
            os.close(descriptor)
        os.unlink(path)
        sync_directory(path.parent)


def _overwrite(descriptor: int) -> None:
    os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
    os.fsync(descriptor)
