"""The first start, later starts, and what is lost."""

import asyncio
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import mldsa

from config.schema import Ca, KeyType, Server, Settings
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.installation import EMPTY_RECORD_ACCEPTED, RECORD, open_installation, permitted_names
from services.ca.storage import MIGRATIONS
from services.database import Database
from services.errors import ConfigurationError
from tests.unit.ca.authorities import KEY_TYPES, NOW
from tests.unit.ca.records import issue, reservation


def settings_in(directory: Path, key_type: KeyType = "p256", **ca: Any) -> Settings:
    server = Server(data_dir=str(directory / "data"), runtime_dir=str(directory / "run"))
    return Settings(server=server, ca=Ca(key_type=key_type, **ca))


def lose_the_hierarchy(settings: Settings) -> None:
    shutil.rmtree(settings.paths.ca_dir / "authorities")
    (settings.paths.ca_dir / "hierarchy.json").unlink()


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
    assert settings.paths.root_certificate.read_bytes() == certificate_pem(first.root)
    assert stat.S_IMODE(settings.paths.ca_dir.stat().st_mode) == 0o700
    assert start(settings).issuer.certificate == first.issuer.certificate


def test_settings_of_another_hierarchy_do_not_replace_the_one_there_is(tmp_path: Path) -> None:
    first = start(settings_in(tmp_path))
    assert start(settings_in(tmp_path, "ed25519")).root == first.root


def test_a_first_start_that_got_as_far_as_the_record_goes_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    lose_the_hierarchy(settings)
    settings.paths.root_certificate.unlink()
    start(settings)


def test_a_first_start_that_did_not_get_to_the_clients_copy_goes_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = start(settings)
    settings.paths.root_certificate.unlink()
    start(settings)
    assert settings.paths.root_certificate.read_bytes() == certificate_pem(first.root)


async def made_empty(settings: Settings) -> None:
    await (await Database.open(settings.paths.ca_dir / RECORD, MIGRATIONS)).close()


def test_keys_lost_beside_a_record_are_told_and_not_made_anew(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings, issuing=True)
    lose_the_hierarchy(settings)
    told = trouble(settings)
    assert f"{settings.paths.ca_dir / 'hierarchy.json'} and {settings.paths.ca_dir / 'authorities'} are missing" in told


def test_a_document_lost_beside_its_keys_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    (settings.paths.ca_dir / "hierarchy.json").unlink()
    assert f"{settings.paths.ca_dir / 'hierarchy.json'} is missing" in trouble(settings)


def test_a_record_lost_beside_its_keys_is_told_and_begun_anew_only_by_consent(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = start(settings, issuing=True)
    (settings.paths.ca_dir / RECORD).unlink()
    consent = settings.paths.ca_dir / EMPTY_RECORD_ACCEPTED
    assert str(consent) in trouble(settings)
    consent.touch()
    assert start(settings).root == first.root
    assert not consent.exists(), "it holds once"
    with closing(sqlite3.connect(settings.paths.ca_dir / RECORD)) as connection:
        assert connection.execute("SELECT given_up_at, entries FROM record_given_up").fetchall() == [(NOW, None)]


def test_the_consent_to_an_empty_record_outlives_a_death_before_it_is_kept(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings, issuing=True)
    (settings.paths.ca_dir / RECORD).unlink()
    consent = settings.paths.ca_dir / EMPTY_RECORD_ACCEPTED
    consent.touch()
    # What a death between making the record and keeping the consent leaves.
    asyncio.run(made_empty(settings))
    start(settings)
    assert not consent.exists()
    with closing(sqlite3.connect(settings.paths.ca_dir / RECORD)) as connection:
        assert connection.execute("SELECT count(*) FROM record_given_up").fetchone() == (1,)


def test_a_consent_to_an_empty_record_is_taken_back_when_there_is_a_record(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings, issuing=True)
    consent = settings.paths.ca_dir / EMPTY_RECORD_ACCEPTED
    consent.touch()
    start(settings)
    assert not consent.exists(), "or it would count the next time the record is lost"
    with closing(sqlite3.connect(settings.paths.ca_dir / RECORD)) as connection:
        assert connection.execute("SELECT count(*) FROM record_given_up").fetchone() == (0,)


def test_one_lost_key_is_told_and_the_record_left_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    made = start(settings, issuing=True)
    key = settings.paths.ca_dir / "authorities" / made.issuer.id / "key.pem"
    key.unlink()
    assert f"{key} is missing" in trouble(settings)


def test_a_post_quantum_hierarchy_is_made_beside_the_other_when_it_is_first_asked_for(tmp_path: Path) -> None:
    first = start(settings_in(tmp_path))
    assert first.kinds == ("classical",)
    with_it = settings_in(tmp_path, post_quantum=True)
    second = start(with_it)
    assert second.kinds == ("classical", "post-quantum")
    assert second.issuer.certificate == first.issuer.certificate
    assert isinstance(second.active("post-quantum").private_key, mldsa.MLDSA65PrivateKey)
    assert start(with_it).active("post-quantum").id == second.active("post-quantum").id
    again = start(settings_in(tmp_path))
    assert again.active("post-quantum").id == second.active("post-quantum").id, "it stays"
    own_copy = with_it.paths.root_certificate.with_name("root-post-quantum.pem")
    assert own_copy.read_bytes() == certificate_pem(second.active_root("post-quantum").certificate)
    assert with_it.paths.root_certificate.read_bytes() == certificate_pem(first.root), (
        "most clients cannot read the other"
    )


def test_name_constraints_let_the_api_serve_and_restrict_only_the_kinds_that_were_named(tmp_path: Path) -> None:
    own = ("localhost", "127.0.0.1")
    assert permitted_names(Ca(), own) == ()
    assert permitted_names(Ca(permitted_names=("corp.example",)), own) == ("corp.example", "localhost")
    both = Ca(permitted_names=("corp.example", "10.0.0.0/8"))
    assert permitted_names(both, own) == ("corp.example", "localhost", "10.0.0.0/8", "127.0.0.1/32")
    made = start(settings_in(tmp_path, permitted_names=("corp.example",), excluded_names=("secret.corp.example",)))
    (constraints,) = made.issuer.constraints
    assert constraints.permitted.domains[0] == "corp.example"
    assert "trust.localhost" in constraints.permitted.domains
    assert constraints.excluded.domains == ("secret.corp.example",)
