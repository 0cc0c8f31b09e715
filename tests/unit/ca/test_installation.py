"""The first start, later starts, and what is lost."""

import asyncio
import shutil
import stat
from pathlib import Path

import pytest
import structlog

from config.schema import Ca, KeyType, Server, Settings
from services.ca import keys
from services.ca.hierarchy import Hierarchy
from services.ca.installation import EMPTY_RECORD_ACCEPTED, RECORD, open_installation
from services.errors import ConfigurationError
from tests.unit.ca.authorities import KEY_TYPES, NOW
from tests.unit.ca.records import issue, reservation


def settings_in(directory: Path, key_type: KeyType = "p256") -> Settings:
    server = Server(data_dir=str(directory / "data"), runtime_dir=str(directory / "run"))
    return Settings(server=server, ca=Ca(key_type=key_type))


def start(settings: Settings, *, issuing: bool = False) -> Hierarchy:
    """Open and close; in between, put one certificate on record if `issuing`."""

    async def run() -> Hierarchy:
        log = structlog.stdlib.get_logger()
        with structlog.testing.capture_logs():
            installation = await open_installation(settings, lambda: NOW, log)
        if issuing:
            await issue(installation.storage, reservation(1))
        await installation.storage.close()
        return installation.hierarchy

    return asyncio.run(run())


def trouble(settings: Settings) -> str:
    """What a start that must fail says; it may leave nothing behind."""
    before = sorted(settings.paths.ca_dir.rglob("*"))
    with pytest.raises(ConfigurationError) as caught:
        start(settings)
    assert sorted(settings.paths.ca_dir.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_first_start_creates_and_later_ones_find_it(tmp_path: Path, key_type: KeyType) -> None:
    settings = settings_in(tmp_path, key_type)
    first = start(settings)
    assert settings.paths.root_certificate.read_bytes() == keys.pem(first.root)
    assert stat.S_IMODE(settings.paths.ca_dir.stat().st_mode) == 0o700
    assert start(settings).issuer.certificate == first.issuer.certificate


def test_settings_of_another_hierarchy_do_not_replace_the_one_there_is(tmp_path: Path) -> None:
    first = start(settings_in(tmp_path))
    assert start(settings_in(tmp_path, "ed25519")).root == first.root


def test_a_first_start_that_got_as_far_as_the_record_goes_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    shutil.rmtree(settings.paths.ca_dir / "hierarchy")
    settings.paths.root_certificate.unlink()
    start(settings)


def test_a_first_start_that_did_not_get_to_the_clients_copy_goes_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = start(settings)
    settings.paths.root_certificate.unlink()
    start(settings)
    assert settings.paths.root_certificate.read_bytes() == keys.pem(first.root)


def test_keys_lost_beside_a_record_are_told_and_not_made_anew(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings, issuing=True)
    shutil.rmtree(settings.paths.ca_dir / "hierarchy")
    assert f"{settings.paths.ca_dir / 'hierarchy'} is missing" in trouble(settings)


def test_a_record_lost_beside_its_keys_is_told_and_begun_anew_only_by_consent(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = start(settings, issuing=True)
    (settings.paths.ca_dir / RECORD).unlink()
    consent = settings.paths.ca_dir / EMPTY_RECORD_ACCEPTED
    assert str(consent) in trouble(settings)
    consent.touch()
    assert start(settings).root == first.root
    assert not consent.exists(), "it holds once"


def test_one_lost_key_is_told_and_the_record_left_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings, issuing=True)
    (settings.paths.ca_dir / "hierarchy" / "intermediate.key").unlink()
    assert "intermediate.key is missing" in trouble(settings)
