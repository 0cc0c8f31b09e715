"""The authority's keys and certificates as files.

    DATA_DIR/ca/hierarchy/      0700    appears whole, by one rename
        root.key                0600    PKCS #8, PEM
        root.pem                0644
        intermediate.key        0600    PKCS #8, PEM
        intermediate.pem        0644
    DATA_DIR/ca/root.pem        0644    a copy for clients, made again when it is missing

Rules:
- A crash at any step of the first start leaves either no `hierarchy` or a whole one: all files are written and synced
  under another name first. What is found under that other name was never used, and is removed.
- Nothing that exists is ever overwritten. What is missing, unreadable, open to other users or does not fit together is
  a ConfigurationError that says which file and what to do; a full or failing disk is StorageUnavailable.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from config.schema import KeyType
from services.ca import hierarchy
from services.ca.hierarchy import Hierarchy, HierarchyMismatch, SigningKey
from services.ca.public_keys import RSA_EXPONENT
from services.errors import ConfigurationError, StorageUnavailable

MAX_FILE_BYTES: Final = 65_536
_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644
_DIRECTORY: Final = 0o700
_RESTORE: Final = "restore it from a backup; nothing was changed"


def generate(key_type: KeyType) -> SigningKey:
    """A new private key. RSA takes a good part of a second."""
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa3072":
        return rsa.generate_private_key(RSA_EXPONENT, 3072)
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


class HierarchyFiles:
    """The files of one authority. `published_root` is the copy for clients."""

    def __init__(self, ca_dir: Path, published_root: Path) -> None:
        self.directory = ca_dir / "hierarchy"
        self._unfinished = ca_dir / ".hierarchy.unfinished"
        self._published_root = published_root

    def exist(self) -> bool:
        """Whether the hierarchy was created, even if some of its files are gone since."""
        return self.directory.exists()

    def create(self, created: Hierarchy) -> None:
        """Store a new hierarchy. Raises ConfigurationError when there is one already, and StorageUnavailable."""
        if self.exist():
            raise ConfigurationError(f"{self.directory} exists: a new hierarchy is not written over it")
        with _storage_errors(self.directory):
            self._remove_unfinished()
            _make_directory(self._unfinished)
            for name, content in _contents(created).items():
                _write_new(self._unfinished / name, content, _PRIVATE if name.endswith(".key") else _PUBLIC)
            # Names before the rename: a hierarchy that is there must have all of its files after a power failure, too.
            _sync(self._unfinished)
            os.rename(self._unfinished, self.directory)
            _sync(self.directory.parent)

    def load(self) -> Hierarchy:
        """Read and check the hierarchy. Raises ConfigurationError."""
        root_key, intermediate_key = self._key("root.key"), self._key("intermediate.key")
        root, intermediate = self._certificate("root.pem"), self._certificate("intermediate.pem")
        try:
            return hierarchy.verified(root, root_key, intermediate, intermediate_key)
        except HierarchyMismatch as error:
            raise ConfigurationError(f"in {self.directory}, {error}: {_RESTORE}") from error

    def publish_root(self, root: x509.Certificate) -> None:
        """Make the clients' copy of the root if there is none. Raises ConfigurationError when there is another one."""
        content = pem(root)
        if not self._published_root.exists():
            with _storage_errors(self._published_root):
                _write_whole(self._published_root, content)
        elif _read(self._published_root) != content:
            raise ConfigurationError(
                f"{self._published_root} is not a copy of {self.directory / 'root.pem'}: find out who changed it, "
                "then remove it; it is made again at the next start"
            )

    def _remove_unfinished(self) -> None:
        if self._unfinished.exists():
            shutil.rmtree(self._unfinished)

    def _key(self, name: str) -> SigningKey:
        path = self.directory / name
        content = _read(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigurationError(f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`")
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"{path} is not a private key in PEM, PKCS #8: {_RESTORE}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            raise ConfigurationError(f"{path} holds a key of another type than this authority can use: {_RESTORE}")
        return key

    def _certificate(self, name: str) -> x509.Certificate:
        path = self.directory / name
        try:
            return x509.load_pem_x509_certificate(_read(path))
        except (ValueError, x509.InvalidVersion) as error:
            raise ConfigurationError(f"{path} is not a certificate in PEM: {_RESTORE}") from error


def _contents(created: Hierarchy) -> Mapping[str, bytes]:
    return {
        "root.key": _pkcs8(created.root_key),
        "root.pem": pem(created.root),
        "intermediate.key": _pkcs8(created.issuer.private_key),
        "intermediate.pem": pem(created.issuer.certificate),
    }


def _pkcs8(key: SigningKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing: {_RESTORE}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than any key or certificate: {_RESTORE}")
    return content


def _make_directory(path: Path) -> None:
    path.mkdir(mode=_DIRECTORY, parents=True)
    _sync(path.parent)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _write_whole(path: Path, content: bytes) -> None:
    """Content before name: the other way round, a crash in between leaves half a file that looks like a whole one."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    _write_new(unfinished, content, _PUBLIC)
    os.rename(unfinished, path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{path} cannot be written: {error.strerror}") from error
