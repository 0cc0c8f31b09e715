"""The authority's keys and certificates as files.

    DATA_DIR/ca/hierarchy.json          0600    which authorities there are: `document.py`
    DATA_DIR/ca/authorities/ID/         0700    one directory for each, named by the serial number of its certificate
        certificate.pem                 0644
        key.pem or key.pkcs11           0600    the key, or where it is; none for a root whose key is kept elsewhere
        chain.pem                       0644    of an intermediate: it and what is between it and its root
        cross.pem                       0644    of a root: an earlier root's certificate for the same key
    DATA_DIR/ca/root.pem                0644    the roots, for clients; made again when it is missing
    DATA_DIR/ca/root-post-quantum.pem   0644    the same of the post-quantum hierarchy

Rules:
- The commit order of every change, the first start included: directories of new authorities, whole and synced, under
  names that begin with a dot; then the document, by rename, which is the moment of the change; then their own names.
  A directory with a dot that the document names gets its name at the next start; any other one was never used and is
  removed.
- A key that the document calls offline is destroyed, at the next start if need be.
- Nothing that exists is ever overwritten but the document, keys that get encrypted, and the clients' copies. What is
  missing, unreadable, open to other users or does not fit together is a ConfigurationError that says which file and
  what to do; a full or failing disk is StorageUnavailable.
- Keys and signatures are checked against each other when a file is not as it was when that was done last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.document import (
    MAX_DOCUMENT_OCTETS,
    AuthorityEntry,
    DocumentDamaged,
    HierarchyDocument,
    KeyPlace,
    parsed,
    written,
)
from services.ca.hierarchy.hierarchy import Hierarchy, HierarchyMismatch, Issuer, Kind, Root
from services.ca.hierarchy.keyring import KEY_FILE, URI_FILE, Keyring, place_of
from services.ca.keys import key_files
from services.ca.keys.key_files import PRIVATE, PUBLIC, RESTORE
from services.ca.keys.signing_keys import SigningKey
from services.errors import ConfigurationError, StorageUnavailable
from services.whole_files import storage_errors, sync_directory, write_new, write_whole

DOCUMENT: Final = "hierarchy.json"
CERTIFICATE: Final = "certificate.pem"
CHAIN: Final = "chain.pem"
CROSS: Final = "cross.pem"
MAX_CHAIN_OCTETS: Final = 262_144
_KEY_FILES: Final[Mapping[KeyPlace, str | None]] = {"file": KEY_FILE, "token": URI_FILE, "offline": None}


@dataclass(frozen=True, slots=True)
class _Found:
    """The files of one authority as they are on the disk."""

    entry: AuthorityEntry
    directory: Path
    contents: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return _digest(self.contents)

    def certificates(self, name: str) -> list[x509.Certificate]:
        content = self.contents.get(name)
        return [] if content is None else key_files.certificates_in(self.directory / name, content)

    def key(self, keyring: Keyring, *, trusted: bool) -> SigningKey | None:
        name = _KEY_FILES[self.entry.key]
        return None if name is None else keyring.opened(self.directory / name, self.contents[name], trusted=trusted)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


class HierarchyFiles:
    """The files of all authorities. `published_root` is the copy for clients; `keyring` opens and protects keys."""

    def __init__(self, ca_dir: Path, published_root: Path, keyring: Keyring | None = None) -> None:
        self.document = ca_dir / DOCUMENT
        self.directory = ca_dir / "authorities"
        self.keyring = keyring or Keyring()
        self._published: Mapping[Kind, Path] = {
            "classical": published_root,
            "post-quantum": published_root.with_name("root-post-quantum.pem"),
        }
        self._verified: dict[str, str] = {}

    def exist(self) -> bool:
        """Whether a hierarchy was created, even if some of its files are gone since."""
        return self.document.exists() or any(not name.startswith(".") for name in self._names())

    def load(self) -> Hierarchy:
        """Bring an interrupted change to its end, read everything, and check it. Raises ConfigurationError."""
        document = self._read_document()
        self._recover(document)
        found = [self._read(entry) for entry in document.authorities]
        unchanged = all(each.digest == each.entry.verified for each in found)
        try:
            loaded = Hierarchy.of(
                [self._root(each, trusted=unchanged) for each in found if each.entry.role == "root"],
                [self._issuer(each, trusted=unchanged) for each in found if each.entry.role == "intermediate"],
            )
            if not unchanged:
                hierarchy.verify(loaded)
        except HierarchyMismatch as error:
            raise ConfigurationError(f"in {self.directory}, {error}: {RESTORE}") from error
        self._verified = {each.entry.id: each.digest for each in found}
        if not unchanged:
            with suppress(StorageUnavailable):  # then it is checked again next time
                self._write_document(loaded)
        return loaded

    def commit(self, changed: Hierarchy) -> None:
        """Make this the hierarchy that there is. Raises StorageUnavailable: then it is still the one before."""
        with storage_errors(self.directory):
            key_files.make_directory(self.directory)
            self._remove_unused()
            new = [authority for authority in changed.authorities if not self._place(authority.id).exists()]
            for authority in new:
                contents = _contents(authority, self.keyring)
                self._verified[authority.id] = _digest(contents)
                _write_directory(self._unnamed(authority.id), contents)
        for root in changed.roots.values():
            if root.private_key is None:
                self._verified[root.id] = _digest(_contents(root, self.keyring))
        self._write_document(changed)
        with storage_errors(self.directory):
            self._give_names(authority.id for authority in new)
            for root in changed.roots.values():
                if root.private_key is None:
                    key_files.destroy(self._place(root.id) / KEY_FILE)

    def encrypt_keys(self, current: Hierarchy) -> int:
        """Encrypt the keys in files with the passphrase; returns how many were not. Raises StorageUnavailable.

        Each key changes at one moment: an interrupted run leaves some encrypted and some not, which a start reads, and
        another run goes on.
        """
        count = 0
        for authority in current.authorities:
            path = self._place(authority.id) / KEY_FILE
            if place_of(authority.private_key) != "file" or key_files.is_encrypted(key_files.read(path, private=True)):
                continue
            contents = _contents(authority, self.keyring)
            with storage_errors(path):
                key_files.replace_key(path, contents[KEY_FILE])
            self._verified[authority.id] = _digest(contents)
            count += 1
        if count:
            self._write_document(current)
        return count

    def publish(self, current: Hierarchy) -> None:
        """Bring the clients' copies of the roots up to date. Raises ConfigurationError for a copy that is none."""
        ours = {root.certificate for root in current.roots.values()}
        for kind in current.kinds:
            path, content = self._published[kind], b"".join(map(certificate_pem, current.trusted(kind)))
            if path.exists():
                there = key_files.read(path, limit=MAX_DOCUMENT_OCTETS)
                if there == content:
                    continue
                if not _are_among(there, ours):
                    raise ConfigurationError(
                        f"{path} is not a copy of the roots in {self.directory}: find out who changed it, "
                        "then remove it; it is made again at the next start"
                    )
            with storage_errors(path):
                write_whole(path, content, PUBLIC)

    # -- reading

    def _read_document(self) -> HierarchyDocument:
        content = key_files.read(self.document, private=True, limit=MAX_DOCUMENT_OCTETS)
        try:
            return parsed(content)
        except DocumentDamaged as error:
            raise ConfigurationError(f"{self.document} is damaged ({error}): {RESTORE}") from error

    def _read(self, entry: AuthorityEntry) -> _Found:
        directory = self._place(entry.id)
        contents = {CERTIFICATE: key_files.read(directory / CERTIFICATE)}
        key = _KEY_FILES[entry.key]
        if key is not None:
            contents[key] = key_files.read(directory / key, private=True)
        if entry.role == "intermediate":
            contents[CHAIN] = key_files.read(directory / CHAIN, limit=MAX_CHAIN_OCTETS)
        elif (directory / CROSS).exists():
            contents[CROSS] = key_files.read(directory / CROSS)
        return _Found(entry, directory, contents)

    def _root(self, found: _Found, *, trusted: bool) -> Root:
        entry, (certificate, *_) = found.entry, found.certificates(CERTIFICATE)
        _check_entry(found, certificate)
        cross = next(iter(found.certificates(CROSS)), None)
        key = found.key(self.keyring, trusted=trusted)
        return Root.of(certificate, key, cross, state=entry.state, since=entry.since)

    def _issuer(self, found: _Found, *, trusted: bool) -> Issuer:
        entry, (certificate, *_) = found.entry, found.certificates(CERTIFICATE)
        _check_entry(found, certificate)
        first, *above = found.certificates(CHAIN)
        key = found.key(self.keyring, trusted=trusted)
        if key is None or first != certificate:
            raise HierarchyMismatch(f"{CHAIN} of the intermediate {entry.id} does not begin with its certificate")
        return Issuer.of(certificate, key, above, state=entry.state, since=entry.since)

    # -- changing

    def _recover(self, document: HierarchyDocument) -> None:
        named = {entry.id for entry in document.authorities}
        unknown = [name for name in self._names() if not name.startswith(".") and name not in named]
        if unknown:
            raise ConfigurationError(
                f"{self.directory / unknown[0]} is not in {self.document}: restore the document that belongs to these "
                "authorities from a backup; nothing was changed"
            )
        with storage_errors(self.directory):
            self._give_names(id_ for id_ in named if not self._place(id_).exists() and self._unnamed(id_).exists())
            self._remove_unused()
            for entry in document.of_role("root"):
                if entry.key == "offline":
                    key_files.destroy(self._place(entry.id) / KEY_FILE)

    def _write_document(self, current: Hierarchy) -> None:
        entries = tuple(
            AuthorityEntry(
                id=authority.id,
                role="root" if isinstance(authority, Root) else "intermediate",
                kind=authority.kind,
                state=authority.state,
                since=authority.since,
                key=place_of(authority.private_key),
                verified=self._verified.get(authority.id, ""),
            )
            for authority in current.authorities
        )
        with storage_errors(self.document):
            write_whole(self.document, written(HierarchyDocument(authorities=entries)), PRIVATE)

    def _give_names(self, ids: Iterator[str]) -> None:
        for id_ in tuple(ids):
            os.rename(self._unnamed(id_), self._place(id_))
            sync_directory(self.directory)

    def _remove_unused(self) -> None:
        named = {entry.id for entry in self._read_document().authorities} if self.document.exists() else set()
        for name in self._names():
            if name.startswith(".") and name[1:] not in named:
                shutil.rmtree(self.directory / name)

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigurationError(f"{self.directory} cannot be read: {error.strerror}") from error

    def _place(self, authority_id: str) -> Path:
        return self.directory / authority_id

    def _unnamed(self, authority_id: str) -> Path:
        return self.directory / f".{authority_id}"


def _contents(authority: Root | Issuer, keyring: Keyring) -> dict[str, bytes]:
    contents = {CERTIFICATE: certificate_pem(authority.certificate)}
    if authority.private_key is not None:
        name, content = keyring.stored(authority.private_key)
        contents[name] = content
    if isinstance(authority, Root):
        if authority.cross is not None:
            contents[CROSS] = certificate_pem(authority.cross)
    else:
        contents[CHAIN] = b"".join(map(certificate_pem, authority.path))
    return contents


def _write_directory(directory: Path, contents: Mapping[str, bytes]) -> None:
    key_files.make_directory(directory)
    for name, content in contents.items():
        write_new(directory / name, content, PRIVATE if name in {KEY_FILE, URI_FILE} else PUBLIC)
    # Names before the rename: an authority that is there must have all of its files after a power failure, too.
    sync_directory(directory)


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\n".encode("ascii"))
        digest.update(content)
    return digest.hexdigest()


def _check_entry(found: _Found, certificate: x509.Certificate) -> None:
    if (hierarchy.id_of(certificate), hierarchy.kind_of(certificate)) != (found.entry.id, found.entry.kind):
        raise ConfigurationError(
            f"{found.directory / CERTIFICATE} is not the {found.entry.kind} certificate {found.entry.id}: {RESTORE}"
        )


def _are_among(content: bytes, ours: set[x509.Certificate]) -> bool:
    try:
        return set(x509.load_pem_x509_certificates(content)) <= ours
    except ValueError:
        return False
