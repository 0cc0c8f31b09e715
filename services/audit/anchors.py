"""What a verifier trusts, read from files: given ones, or those of the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from config.paths import Paths
from services.audit.databases import AuditImpossible, open_database
from services.audit.verification import Anchors
from services.ca.reconciliation import certified
from services.ct.storage import MIGRATIONS as LOG_MIGRATIONS
from services.rfc6962.verifier import LogVerifier

MAX_ANCHOR_OCTETS: Final = 1_048_576


def anchors(paths: Paths, root: Path | None = None, log_key: Path | None = None) -> Anchors:
    """Roots and the key of the log (both PEM), or those of the data directory. Raises AuditImpossible.

    Without `log_key` and without a log beside there is no key, and nothing about a log will be believed.
    """
    return Anchors(_roots(paths, root), _log_key(paths, log_key))


def read(path: Path, most: int) -> bytes:
    """What is in a file, up to one octet more than `most`. Raises AuditImpossible."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise AuditImpossible(f"{path} cannot be read: {error.strerror}") from error


def _roots(paths: Paths, given: Path | None) -> frozenset[bytes]:
    found = [given] if given is not None else sorted(paths.ca_dir.glob("root*.pem"))
    if not found:
        raise AuditImpossible(f"there is no root certificate in {paths.ca_dir}: give --root FILE")
    roots = []
    for path in found:
        try:
            roots += x509.load_pem_x509_certificates(read(path, MAX_ANCHOR_OCTETS))
        except certified.UNREADABLE as error:
            raise AuditImpossible(f"{path} holds no certificates in PEM: {error}") from error
    return frozenset(certified.der(one) for one in roots)


def _log_key(paths: Paths, given: Path | None) -> LogVerifier | None:
    """The key of the log as given, or as the record of the log beside has it; None when there is neither."""
    path = given if given is not None else paths.ct_dir / "log.db"
    if given is None and not path.exists():
        return None
    try:
        return LogVerifier.of(_stored_key(path) if given is None else _public_key(path))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuditImpossible(f"{path} holds no key of a log: {error}") from error


def _public_key(path: Path) -> bytes:
    key = serialization.load_pem_public_key(read(path, MAX_ANCHOR_OCTETS))
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _stored_key(path: Path) -> bytes:
    with open_database(path, len(LOG_MIGRATIONS)) as connection:
        row = connection.execute("SELECT public_key FROM log").fetchone()
    if row is None:
        raise AuditImpossible(f"{path} is the record of no log yet: give --log-key FILE")
    return bytes(row[0])
