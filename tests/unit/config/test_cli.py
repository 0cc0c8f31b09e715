"""`config check` and `config show`, as an operator sees them."""

import json
from pathlib import Path

import click
import pytest
import tomli
from click.testing import CliRunner, Result

from config.cli import config, settings_options
from config.keys import KEYS
from config.loader import Loaded, load


def run(*arguments: str) -> Result:
    return CliRunner(env={"HOME": "/home/operator", "XDG_STATE_HOME": None}).invoke(config, arguments)


def test_check_says_ok_and_what_it_read(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('mode = "production"')
    result = run("check", "--config", str(file))
    assert (result.exit_code, result.output) == (
        0,
        f"OK: {file}, mode production, data directory /var/lib/trustchain\n",
    )
    assert run("check", "--data-dir", "/srv/x").output == (
        "OK: no configuration file, mode development, data directory /srv/x\n"
    )


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_wrong_configuration_exits_78_with_every_problem_on_standard_error(command: str) -> None:
    result = run(command, "--mode", "prod", "--set", "api.prt=1")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "trustchain: 2 configuration problems",
        "  --set: api.prt: found an unknown key, expected a key of [api]; did you mean api.port?",
        '  --mode: mode: found "prod", expected one of "development", "production"',
    ]


def test_show_prints_every_value_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[api]\nrate_limit = 7")
    lines = run("show", "--mode", "production", "--config", str(file), "--set", "ca.name=X").stdout.splitlines()
    said = {line.partition(" =")[0]: line.rpartition("#")[2].strip() for line in lines if " = " in line}
    assert len([line for line in lines if " = " in line]) == len(KEYS)
    assert said["mode"] == "--mode"
    assert said["collection_interval"] == "mode production"
    assert said["rate_limit"] == f"{file}:2"
    assert said["name"] == "--set"
    assert said["heartbeat_timeout"] == "default"
    assert said["data_dir"] == "mode production"


def test_what_show_prints_is_a_configuration_with_the_same_effect(tmp_path: Path) -> None:
    overrides = [
        'ca.name=A "quoted" \\ näme',
        "supervisor.backoff_initial=0.0123",
        'ca.denied_names=["a.b", "10.0.0.0/8"]',
    ]
    options = [part for override in overrides for part in ("--set", override)]
    file = tmp_path / "shown.toml"
    file.write_text(run("show", "--mode", "production", *options).stdout)
    assert load(file, environ={}).settings == load(None, "production", None, overrides, {}).settings


def test_an_origin_cannot_break_out_of_its_comment(tmp_path: Path) -> None:
    file = tmp_path / "a\n[api]\nport = 1"
    file.write_text("api.rate_burst = 7")
    assert tomli.loads(run("show", "--config", str(file)).stdout)["api"]["rate_burst"] == 7


def test_show_as_json_holds_every_value_with_its_origin() -> None:
    document = json.loads(run("show", "--json", "--set", "api.names=['a.example']").stdout)
    assert list(document) == list(KEYS)
    assert document["api.names"] == {"value": ["a.example"], "origin": "--set"}
    assert document["server.data_dir"] == {"value": "/home/operator/.local/state/trustchain", "origin": "default"}


def test_another_command_gets_settings_and_its_own_options() -> None:
    @click.command()
    @click.option("--times", type=int, default=1)
    @settings_options
    def ports(loaded: Loaded, times: int) -> None:
        """Prints a port."""
        click.echo(loaded.settings.api.port * times)

    assert ports.help == "Prints a port."
    assert CliRunner().invoke(ports, ["--set", "api.port=1000", "--times", "3"]).output == "3000\n"


def test_check_tells_what_is_wrong_with_certificate_profiles(tmp_path: Path) -> None:
    profiles = tmp_path / "ca" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "mine.toml").write_text('description = "x"\nextended_key_usage = ["serverAuth"]\n')
    result = CliRunner().invoke(config, ["check", "--data-dir", str(tmp_path)])
    assert result.exit_code == 78
    assert "mine.toml:2: extended_key_usage: found an unknown key" in result.stderr
    assert "did you mean extended_key_usages?" in result.stderr
