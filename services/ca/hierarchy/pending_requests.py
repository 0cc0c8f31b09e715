"""Keys of intermediates that are being signed elsewhere, until their certificates come.

    DATA_DIR/ca/requests/NAME/      0700    NAME: SHA-256 of the public key
        key.pem or key.pkcs11       0600
        request.pem                 0644    PKCS #10

Rules:
- A directory appears whole, by rename: a key without a request, or the other way round, is never there.
- The key moves with its certificate into the hierarchy, and only then its directory goes. A crash in between leaves a
  copy of a key that is used already, which the operator may remove.
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509

from services.ca.hierarchy.keyring import KEY_FILE, URI_FILE, Keyring
from services.ca.hierarchy.messages import CeremonyRefused
from services.ca.keys import key_files
from services.ca.keys.signing_keys import SigningKey, spki
from services.whole_files import storage_errors, sync_directory, write_new

MAX_PENDING: Final = 16
REQUEST: Final = "request.pem"


class PendingRequests:
    """The requests of one authority that are not answered yet."""

    def __init__(self, ca_dir: Path, keyring: Keyring) -> None:
        self._directory = ca_dir / "requests"
        self._keyring = keyring

    def store(self, key: SigningKey, csr: x509.CertificateSigningRequest) -> None:
        """Keep a key with its request. Raises CeremonyRefused when there are too many, and StorageUnavailable."""
        place = self._place(spki(key.public_key()))
        unfinished = place.with_name(f".{place.name}")
        name, content = self._keyring.stored(key)
        with storage_errors(self._directory):
            key_files.make_directory(self._directory)
            if len(self._pending()) >= MAX_PENDING:
                raise CeremonyRefused(
                    "malformed", None, f"{MAX_PENDING} requests are waiting in {self._directory}: remove old ones"
                )
            for left in self._directory.glob(".*"):
                shutil.rmtree(left)
            key_files.make_directory(unfinished)
            write_new(unfinished / name, content, key_files.PRIVATE)
            write_new(unfinished / REQUEST, key_files.csr_pem(csr), key_files.PUBLIC)
            sync_directory(unfinished)
            os.rename(unfinished, place)
            sync_directory(self._directory)

    def key(self, public_key: bytes) -> SigningKey | None:
        """The key of the request with this public key (SubjectPublicKeyInfo, DER). Raises ConfigurationError."""
        place = self._place(public_key)
        if not place.exists():
            return None
        path = place / URI_FILE if (place / URI_FILE).exists() else place / KEY_FILE
        return self._keyring.opened(path, key_files.read(path, private=True))

    def remove(self, public_key: bytes) -> None:
        """Forget the request with this public key. Raises StorageUnavailable."""
        place = self._place(public_key)
        with storage_errors(place):
            if place.exists():
                key_files.destroy(place / KEY_FILE)
                shutil.rmtree(place)
                sync_directory(self._directory)

    def encrypt_keys(self) -> int:
        """Encrypt the keys that are not; returns how many. Raises ConfigurationError and StorageUnavailable."""
        count = 0
        for place in self._pending():
            path = place / KEY_FILE
            if not path.exists():
                continue
            content = key_files.read(path, private=True)
            if not key_files.is_encrypted(content):
                key = self._keyring.opened(path, content)
                with storage_errors(path):
                    key_files.replace_key(path, key_files.pkcs8(key, self._keyring.passphrase))
                count += 1
        return count

    def _pending(self) -> list[Path]:
        if not self._directory.exists():
            return []
        return [path for path in self._directory.iterdir() if not path.name.startswith(".")]

    def _place(self, public_key: bytes) -> Path:
        return self._directory / sha256(public_key).hexdigest()
