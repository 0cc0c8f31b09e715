"""What is decided before anything runs: packages, announcement, log lines, the command's options."""

import base64
import hashlib
import io
import json
import os
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.loader import load
from config.topology import topology
from supervisor import cli
from supervisor.announcement import announcement, fingerprint
from supervisor.cli_run import given_options
from supervisor.errors import StartError
from supervisor.log import Log
from supervisor.output import Output
from supervisor.packages import PACKAGES, check_packages


def found_in(**homes: Path) -> dict[str, ModuleSpec]:
    return {name: ModuleSpec(name, None, origin=str(home / name / "__init__.py")) for name, home in homes.items()}


def test_packages_of_one_home_are_accepted(tmp_path: Path) -> None:
    check_packages(found_in(**dict.fromkeys(PACKAGES, tmp_path)).get, tmp_path)
    check_packages()


@pytest.mark.parametrize("foreign", PACKAGES)
def test_a_package_of_another_distribution_is_refused_with_78(tmp_path: Path, foreign: str) -> None:
    homes = {**dict.fromkeys(PACKAGES, tmp_path), foreign: tmp_path / "other"}
    where = tmp_path / "other" / foreign
    with pytest.raises(StartError, match=f"the package '{foreign}' comes from {where}") as raised:
        check_packages(found_in(**homes).get, tmp_path)
    assert raised.value.exit_code == 78


def test_a_missing_package_is_refused_with_78(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="'services' is missing") as raised:
        check_packages(lambda name: None if name == "services" else found_in(**{name: tmp_path})[name], tmp_path)
    assert raised.value.exit_code == 78


def test_the_command_refuses_foreign_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise StartError("not ours", 78)

    monkeypatch.setattr(cli, "check_packages", refuse)
    result = CliRunner().invoke(cli.main, ["status"])
    assert (result.exit_code, result.output) == (78, "trustchain: not ours\n")


@pytest.mark.parametrize("arguments", [["--bogus"], ["bogus"], ["status", "--bogus"], ["run", "x"]])
def test_a_wrong_command_line_is_a_configuration_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 78
    assert "Usage: " in result.output


def test_every_command_of_the_table_exists() -> None:
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in cli.COMMANDS)


def test_status_without_a_supervisor_says_where_it_looked(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["status", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"TrustChain is not running: no supervisor listens on {tmp_path}/run/control.sock" in result.output


def test_the_announcement_tells_urls_paths_and_commands_that_work_as_they_stand(tmp_path: Path) -> None:
    settings = load(None, None, tmp_path, ['api.addresses=["0.0.0.0"]'], {}).settings
    text = "\n".join(announcement(settings, topology(settings), "--data-dir 'a b'", "AA:BB"))
    assert "monitoring: http://127.0.0.1:9090/, http://[::1]:9090/" in text
    assert "api: https://127.0.0.1:8443/" in text
    assert f"root certificate: {tmp_path}/ca/root.pem" in text
    assert "SHA-256 fingerprint: AA:BB" in text
    assert "trustchain status --data-dir 'a b'\n" in text
    assert "curl http://127.0.0.1:9090/health\n" in text
    assert "trustchain issue --data-dir 'a b' --dns" in text


def test_the_fingerprint_is_that_of_the_first_certificate(tmp_path: Path) -> None:
    der = os.urandom(300)
    body = base64.encodebytes(der).decode()
    path = tmp_path / "root.pem"
    block = "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n"
    path.write_text("comment\n" + block.format(body) + block.format("AAAA\n"))
    assert fingerprint(path) == hashlib.sha256(der).digest().hex(":").upper()


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xff", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_has_no_fingerprint(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "root.pem"
    if content is not None:
        path.write_bytes(content)
    assert fingerprint(path) is None


def test_the_options_of_run_are_repeated_as_a_shell_reads_them() -> None:
    assert given_options(["trustchain", "run", "--data-dir", "/a b"]) == "--data-dir '/a b'"
    assert given_options(["trustchain-server", "--mode", "production"]) == "--mode production"
    assert given_options(["trustchain", "run"]) == ""


def logged(tmp_path: Path, log_format: str) -> str:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        log = Log(Output(file.fileno()), log_format, "info", lambda: datetime(2026, 1, 2, tzinfo=UTC))  # type: ignore[arg-type] # parametrized
        log.debug("not shown")
        log.info("ca is ready", seconds=0.5, detail=None, text="two words")
        log.failure("broken", ValueError("why"))
    return (tmp_path / "log").read_text()


def test_a_console_line_is_for_people(tmp_path: Path) -> None:
    first, *rest = logged(tmp_path, "console").splitlines()
    assert first.startswith("2026-01-02T00:00:00.000000Z [info     ] ca is ready ")
    assert first.endswith("service=supervisor seconds=0.5 text='two words'")
    assert rest[-1] == "ValueError: why"


def test_a_json_line_is_for_programs(tmp_path: Path) -> None:
    first, second = (json.loads(line) for line in io.StringIO(logged(tmp_path, "json")))
    assert first == {
        "event": "ca is ready", "seconds": 0.5, "text": "two words", "service": "supervisor", "pid": os.getpid(),
        "level": "info", "timestamp": "2026-01-02T00:00:00.000000Z",
    }  # fmt: skip
    assert "ValueError: why" in second["exception"]
