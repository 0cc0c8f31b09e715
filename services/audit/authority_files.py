"""The certificates of the authorities as they are on the disk: everything in PEM that is one, and no key.

Rules: whatever is found is an authority of this place only if it may sign certificates; the files are the same ones
that the authority starts from, so that a certificate put there by somebody else is one that it would use. An authority
that is being made has a directory whose name begins with a dot (services/ca/keys.py); a full disk or a crash leaves it
half written: what cannot be read there has signed nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from services.audit.databases import AuditImpossible
from services.ca import certified

DIRECTORIES: Final = ("hierarchy", "authorities")
MAX_FILES: Final = 4096
MAX_FILE_OCTETS: Final = 262_144


def authorities_in(ca_dir: Path) -> dict[str, x509.Certificate]:
    """The authorities by the serial numbers of their certificates. Raises AuditImpossible."""
    found: dict[str, x509.Certificate] = {}
    for path in _files(ca_dir):
        for certificate in _certificates(path):
            if _is_authority(certificate):
                found.setdefault(certified.serial_of(certificate), certificate)
    if not found:
        raise AuditImpossible(f"there are no certificates of an authority in {ca_dir}: is this the data directory?")
    return found


def _files(ca_dir: Path) -> Iterator[Path]:
    count = 0
    for directory in DIRECTORIES:
        for path in sorted((ca_dir / directory).rglob("*.pem")):
            if path.name == "key.pem":
                continue
            count += 1
            if count > MAX_FILES:
                raise AuditImpossible(f"there are more than {MAX_FILES} certificates in {ca_dir}")
            yield path


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_OCTETS)
        return x509.load_pem_x509_certificates(content)
    except OSError as error:
        raise AuditImpossible(
            f"{path} cannot be read: {error.strerror}; run this as the user of the service"
        ) from error
    except certified.UNREADABLE as error:
        if path.parent.name.startswith("."):
            return []
        raise AuditImpossible(f"{path} holds no certificate: {error}") from error


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except certified.UNREADABLE:
        return False
