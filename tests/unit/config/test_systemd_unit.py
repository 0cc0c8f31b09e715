"""The unit promises what the supervisor and the settings keep."""

import configparser
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import config
from config.inheritance import EXIT_CONFIG
from config.loader import load
from config.topology import topology

UNIT = Path(config.__file__).parent / "systemd" / "trustchain.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), inline_comment_prefixes=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep upper case
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_it_runs_under_the_contract_of_the_supervisor(service: configparser.SectionProxy) -> None:
    assert {
        "Type": "notify",
        "NotifyAccess": "main",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "Restart": "on-failure",
        "RestartPreventExitStatus": str(EXIT_CONFIG),
        "WatchdogSec": "30",
    }.items() <= dict(service).items()


def test_its_directories_are_those_of_production(service: configparser.SectionProxy) -> None:
    production = load(None, "production", environ={}).settings.server
    assert production.data_dir == f"/var/lib/{service['StateDirectory']}"
    assert production.runtime_dir == f"/run/{service['RuntimeDirectory']}"
    assert (service["StateDirectoryMode"], service["RuntimeDirectoryMode"], service["UMask"]) == (
        "0700",
        "0700",
        "0077",
    )


def test_it_waits_longer_for_a_stop_than_draining_one_worker_after_another_takes(
    service: configparser.SectionProxy,
) -> None:
    production = load(None, "production", environ={}).settings
    assert int(service["TimeoutStopSec"]) > len(topology(production)) * production.supervisor.drain_timeout


def test_it_has_the_capability_that_the_ports_of_production_need_and_no_other(
    service: configparser.SectionProxy,
) -> None:
    listeners = [one for each in topology(load(None, "production", environ={}).settings) for one in each.listeners]
    assert {listener.port for listener in listeners if listener.kind != "unix" and listener.port < 1024} == {80}
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"


def test_systemd_finds_nothing_to_say(require_peer: Callable[[str], str], tmp_path: Path) -> None:
    program = tmp_path / "trustchain"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/trustchain/.venv/bin/trustchain", str(program)))
    command = [require_peer("systemd-analyze"), "verify", "--man=no", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_its_exposure_is_at_most_1_5(require_peer: Callable[[str], str]) -> None:
    command = [require_peer("systemd-analyze"), "security", "--offline=true", "--threshold=15", str(UNIT)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout[-200:]
