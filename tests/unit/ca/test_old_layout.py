"""Authorities of the time when there were exactly two, in four files of one directory."""

import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from services.ca.hierarchy.creation import Plan, create_intermediate, create_root
from services.ca.hierarchy.files import HierarchyFiles, certificate_pem
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.old_layout import take_over
from services.ca.keys import key_files
from services.errors import ConfigurationError
from services.whole_files import write_new
from tests.unit.ca.authorities import NOW, hierarchy_of

ROOT_KEY, KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def old_layout(ca_dir: Path) -> tuple[x509.Certificate, x509.Certificate]:
    """Four files as they were; the root and the intermediate."""
    plan = Plan("TrustChain", "00000000", 1_000_000, 100_000, 60)
    root = create_root(plan, ROOT_KEY, 1000, NOW)
    intermediate = create_intermediate(plan, root, ROOT_KEY, KEY, 2000, NOW)
    directory = ca_dir / "hierarchy"
    directory.mkdir(mode=0o700)
    for title, certificate, key in (("root", root, ROOT_KEY), ("intermediate", intermediate, KEY)):
        write_new(directory / f"{title}.key", key_files.pkcs8(key, None), 0o600)
        write_new(directory / f"{title}.pem", certificate_pem(certificate), 0o644)
    return root, intermediate


def files_in(ca_dir: Path, keyring: Keyring | None = None) -> HierarchyFiles:
    return HierarchyFiles(ca_dir, ca_dir / "root.pem", keyring)


def take(ca_dir: Path) -> bool:
    return take_over(ca_dir, files_in(ca_dir), lambda: NOW)


def test_it_is_taken_over_once_and_left_behind(tmp_path: Path) -> None:
    root, intermediate = old_layout(tmp_path)
    assert take(tmp_path)
    assert not take(tmp_path)
    loaded = files_in(tmp_path).load()
    assert (loaded.root, loaded.issuer.certificate) == (root, intermediate)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authorities", "hierarchy.json"]


def test_keys_are_encrypted_on_the_way_if_there_is_a_passphrase(tmp_path: Path) -> None:
    old_layout(tmp_path)
    assert take_over(tmp_path, files_in(tmp_path, Keyring(b"secret")), lambda: NOW)
    with pytest.raises(ConfigurationError, match="it is encrypted"):
        files_in(tmp_path).load()
    files_in(tmp_path, Keyring(b"secret")).load()


@pytest.mark.parametrize("name", ["root.key", "root.pem", "intermediate.key", "intermediate.pem"])
def test_damage_is_told_and_nothing_changed(tmp_path: Path, name: str) -> None:
    old_layout(tmp_path)
    path = tmp_path / "hierarchy" / name
    path.write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match=str(path)):
        take(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_key_that_does_not_belong_to_its_certificate_is_told(tmp_path: Path) -> None:
    old_layout(tmp_path)
    directory = tmp_path / "hierarchy"
    shutil.copy(directory / "root.key", directory / "intermediate.key")
    with pytest.raises(ConfigurationError, match="do not belong together"):
        take(tmp_path)


def test_a_removal_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    old_layout(tmp_path)
    kept = tmp_path.parent / f"{tmp_path.name}-old"
    shutil.copytree(tmp_path / "hierarchy", kept)
    take(tmp_path)
    shutil.copytree(kept, tmp_path / "hierarchy")
    (tmp_path / "hierarchy" / "root.key").write_bytes(bytes(200))
    assert take(tmp_path)
    assert not (tmp_path / "hierarchy").exists()


def test_other_authorities_in_the_old_place_are_told_and_kept(tmp_path: Path) -> None:
    files_in(tmp_path).commit(hierarchy_of())
    old_layout(tmp_path)
    with pytest.raises(ConfigurationError, match="holds other authorities than"):
        take(tmp_path)
    assert len(list((tmp_path / "hierarchy").iterdir())) == 4
