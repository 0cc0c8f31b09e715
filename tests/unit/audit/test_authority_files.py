"""Which authorities the auditor finds on the disk."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from services.audit.authority_files import authorities_in
from services.audit.databases import AuditImpossible
from services.ca.serials import serial_text
from tests.unit.ca.authorities import hierarchy_of


def _kept(ca_dir: Path, name: str, content: bytes) -> None:
    directory = ca_dir / "authorities" / name
    directory.mkdir(parents=True)
    (directory / "certificate.pem").write_bytes(content)


def test_an_authority_that_a_full_disk_left_half_written_does_not_stop_the_audit(tmp_path: Path) -> None:
    root = hierarchy_of().root
    _kept(tmp_path, "01", root.public_bytes(Encoding.PEM))
    _kept(tmp_path, ".02", b"")
    assert list(authorities_in(tmp_path)) == [serial_text(root.serial_number)]


def test_an_authority_that_was_made_and_not_named_yet_is_found(tmp_path: Path) -> None:
    root = hierarchy_of().root
    _kept(tmp_path, ".01", root.public_bytes(Encoding.PEM))
    assert list(authorities_in(tmp_path)) == [serial_text(root.serial_number)]


def test_a_damaged_authority_stops_the_audit_and_is_named(tmp_path: Path) -> None:
    _kept(tmp_path, "01", b"")
    with pytest.raises(AuditImpossible, match=r"authorities/01/certificate\.pem holds no certificate"):
        authorities_in(tmp_path)
