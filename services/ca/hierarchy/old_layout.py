"""The layout of files before there could be several authorities: read once, and left behind.

    DATA_DIR/ca/hierarchy/      root.key root.pem intermediate.key intermediate.pem

Rules:
- The old directory goes after everything is durable in its new place, and only if the new place has all of it. A crash
  in between leaves both; the next start goes on.
- It is read as strictly as ever. Damage ends the start, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.files import HierarchyFiles
from services.ca.hierarchy.hierarchy import Hierarchy, HierarchyMismatch, Issuer, Root
from services.ca.hierarchy.keyring import Keyring
from services.ca.keys import key_files
from services.ca.keys.signing_keys import SigningKey
from services.errors import ConfigurationError
from services.whole_files import storage_errors, sync_directory

OLD_DIRECTORY: Final = "hierarchy"
_KEYS: Final = ("root.key", "intermediate.key")


def take_over(ca_dir: Path, files: HierarchyFiles, now: Callable[[], int]) -> bool:
    """Bring an old layout into the new one, if there is one; returns whether there was.

    `now` gives seconds since the Unix epoch. Raises ConfigurationError and StorageUnavailable.
    """
    old = ca_dir / OLD_DIRECTORY
    if not old.exists():
        return False
    if not files.exist():
        files.commit(_read(old, now()))
    elif not _is_held(old, files):
        raise ConfigurationError(
            f"{old} holds other authorities than {files.directory}: find out which are yours, and move the others away"
        )
    with storage_errors(old):
        for name in _KEYS:
            key_files.destroy(old / name)
        for path in old.iterdir():
            path.unlink()
        old.rmdir()
        sync_directory(ca_dir)
    return True


def _read(old: Path, now: int) -> Hierarchy:
    root, intermediate = (_certificate(old / f"{title}.pem") for title in ("root", "intermediate"))
    root_key, key = (_key(old / name) for name in _KEYS)
    try:
        found = Hierarchy.of([Root.of(root, root_key, since=now)], [Issuer.of(intermediate, key, since=now)])
        hierarchy.verify(found)
    except HierarchyMismatch as error:
        raise ConfigurationError(f"in {old}, {error}: {key_files.RESTORE}") from error
    return found


def _key(path: Path) -> SigningKey:
    return Keyring().opened(path, key_files.read(path, private=True))


def _certificate(path: Path) -> x509.Certificate:
    return key_files.certificates_in(path, key_files.read(path))[0]


def _is_held(old: Path, files: HierarchyFiles) -> bool:
    """Whether the certificates that are left in the old place are in the new one; keys may be destroyed already."""
    ours = {each.certificate for each in files.load().authorities}
    return all(_certificate(path) in ours for path in old.glob("*.pem"))
