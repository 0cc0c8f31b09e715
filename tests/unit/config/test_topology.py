"""The tree, its listeners and its files, as they follow from settings."""

import dataclasses
import pickle
from pathlib import Path
from socket import socketpair
from typing import Any

import pytest

from config.inheritance import Inheritance
from config.loader import load
from config.paths import Paths
from config.schema import Settings
from config.topology import Listener, topology


def settings(*overrides: str) -> Settings:
    return load(None, None, Path("/srv/tree"), overrides, {}).settings


def test_dependencies_come_before_their_dependents() -> None:
    seen: set[str] = set()
    for service in topology(settings()):
        assert set(service.depends_on) <= seen
        seen.add(service.name)
    assert seen == {"monitoring", "ct", "ca", "api"}


def test_every_address_gets_a_listener_of_the_same_name() -> None:
    listeners = {service.name: service.listeners for service in topology(settings("api.port=9443"))}
    assert listeners == {
        "monitoring": tuple(Listener(name="http", kind="tcp", address=a, port=9090) for a in ("127.0.0.1", "::1")),
        "ct": (Listener(name="rpc", kind="unix", path="/srv/tree/run/ct.sock"),),
        "ca": (Listener(name="rpc", kind="unix", path="/srv/tree/run/ca.sock"),),
        "api": (
            *(Listener(name="https", kind="tcp", address=a, port=9443) for a in ("127.0.0.1", "::1")),
            *(Listener(name="http", kind="tcp", address=a, port=8080, prefix="http_") for a in ("127.0.0.1", "::1")),
        ),
    }


def test_production_answers_for_its_certificates_on_port_80_of_every_address() -> None:
    production = load(None, "production", Path("/srv/tree"), (), {}).settings
    (api,) = [service for service in topology(production) if service.name == "api"]
    places = [(one.address, one.port) for one in api.listeners if one.name == "http"]
    assert places == [("0.0.0.0", 80), ("::", 80)]


def test_monitoring_can_be_switched_off() -> None:
    assert [service.name for service in topology(settings("monitoring.enabled=false"))] == ["ct", "ca", "api"]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "tcp"},
        {"kind": "tcp", "address": "::1"},
        {"kind": "udp", "port": 53},
        {"kind": "tcp", "address": "::1", "port": 1, "path": "/x"},
        {"kind": "unix"},
        {"kind": "unix", "path": "/x", "port": 1},
        {"kind": "unix", "path": "/x", "address": "::1"},
    ],
)
def test_a_listener_in_no_place_or_in_two_does_not_construct(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="listener needs"):
        Listener(name="x", **fields)


def test_only_the_authority_gets_secrets_and_only_those_that_settings_name() -> None:
    assert not any(service.secrets for service in topology(settings()))
    named = topology(settings("ca.key_passphrase=prompt", "ca.pkcs11_pin=fd:9"))
    assert {service.name: [each.name for each in service.secrets] for service in named if service.secrets} == {
        "ca": ["key_passphrase", "pkcs11_pin"]
    }


def test_paths_follow_from_the_two_directories() -> None:
    paths = settings("server.runtime_dir=/run/tree").paths
    assert {
        "hierarchy": paths.hierarchy,
        "root_certificate": paths.root_certificate,
        "ca_dir": paths.ca_dir,
        "ct_dir": paths.ct_dir,
        "api_dir": paths.api_dir,
        "admin_token": paths.admin_token,
        "lock": paths.lock,
        "deaths": paths.deaths,
        "control_socket": paths.control_socket,
        "rpc_socket": paths.rpc_socket("ca"),
    } == {
        "hierarchy": Path("/srv/tree/ca/hierarchy.json"),
        "root_certificate": Path("/srv/tree/ca/root.pem"),
        "ca_dir": Path("/srv/tree/ca"),
        "ct_dir": Path("/srv/tree/ct"),
        "api_dir": Path("/srv/tree/api"),
        "admin_token": Path("/srv/tree/admin.token"),
        "lock": Path("/srv/tree/supervisor.lock"),
        "deaths": Path("/srv/tree/supervisor/deaths.jsonl"),
        "control_socket": Path("/run/tree/control.sock"),
        "rpc_socket": Path("/run/tree/ca.sock"),
    }


def test_the_block_is_named_after_the_data_directory_alone() -> None:
    name = Paths(Path("/srv/tree"), Path("/run/a")).block_name
    assert name == Paths(Path("/srv/tree"), Path("/run/b")).block_name
    assert name != Paths(Path("/srv/other"), Path("/run/a")).block_name
    assert name == "trustchain-1e4ff37cc02e"


def test_relative_directories_do_not_construct() -> None:
    with pytest.raises(ValueError, match="not an absolute path: 'run'"):
        Paths(Path("/srv/tree"), Path("run"))


def test_settings_survive_the_way_to_a_worker_and_cannot_be_changed() -> None:
    ours = settings("api.names=['a.example']")
    assert pickle.loads(pickle.dumps(ours)) == ours
    with pytest.raises(AttributeError):
        ours.api.port = 1  # type: ignore[misc]  # what is tested


def test_an_inheritance_cannot_be_changed() -> None:
    ours, theirs = socketpair()
    with ours, theirs:
        share = Inheritance("ca", 0, settings(), {}, ours, "block", 0, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            share.generation = 2  # type: ignore[misc]  # what is tested
