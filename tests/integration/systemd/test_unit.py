"""The unit as it is shipped, under a real systemd 252: a Debian 12 booted for this test, with the project installed.

One machine serves all tests of this file, in the order in which they stand: what one leaves is a running unit.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.machine import WITH_SYSTEMD, BootedMachine, CommandMachine, debian, snapshot_of_repository
from tests.rig.polling import eventually
from tests.rig.ports import free_port, is_free
from tests.rig.tree import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.needs_root]

_UNIT = "trustchain.service"
_SOURCE = "/src/trustchain"
_INSTALL = (
    "python3 -m venv /opt/trustchain/.venv && /opt/trustchain/.venv/bin/pip install --quiet /opt/trustchain/source"
    " && useradd --system --home-dir /var/lib/trustchain --shell /usr/sbin/nologin trustchain"
)


@dataclass(frozen=True)
class Installed:
    """The booted machine, and the ports that the unit was given."""

    machine: BootedMachine
    monitoring_port: int
    api_port: int

    def health(self) -> int:
        """The status code of /health, asked from the host."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring_port}/health", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as answer:
            return answer.code

    def wait_healthy(self) -> None:
        """Until /health answers 200; the journal says why not."""
        try:
            eventually("/health answers 200", lambda: self.health() == 200, within=60, every=0.1)
        except AssertionError as reason:
            raise AssertionError(f"{reason}\n{self.journal()[-6000:]}") from None

    def shown(self, name: str) -> str:
        """A property of the unit."""
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", _UNIT).stdout.strip()

    def main_pid(self) -> int:
        """The supervisor's pid in the machine."""
        return int(self.shown("MainPID"))

    def send(self, signal_name: str, pid: int) -> None:
        """A signal to a process of the machine."""
        self.machine.run("sh", "-c", f"kill -{signal_name} {pid}")

    def journal(self) -> str:
        """What the journal has about the unit."""
        return self.machine.run("journalctl", "--no-pager", "--output=short", f"--unit={_UNIT}").stdout

    def workers(self) -> dict[str, int]:
        """The workers' pids in the machine, by service: asked as the operator asks."""
        command = ["/opt/trustchain/.venv/bin/trustchain", "status", "--json"]
        config = ["--mode", "production", "--config", "/etc/trustchain/trustchain.toml"]
        rows = json.loads(self.machine.run(*command, *config).stdout)["workers"]
        return {row["service"]: row["pid"] for row in rows}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The machine with the project in /opt/trustchain and the unit in /etc/systemd/system, booted, nothing started."""
    source = tmp_path_factory.mktemp("source") / "repository"
    monitoring_port, api_port = free_port(), free_port()
    with debian(WITH_SYSTEMD) as root:
        snapshot_of_repository(REPOSITORY, source)
        log = root.with_name("install.log")
        # pip builds in the source folder, so it gets one of its own.
        copied = f"mkdir -p /opt/trustchain && cp -r {_SOURCE} /opt/trustchain/source && {_INSTALL}"
        assert CommandMachine(root, {source: _SOURCE}).run(copied, "/root", log, 600) == 0, log.read_text()[-4000:]
        _install_unit(root, monitoring_port, api_port)
        with BootedMachine(root) as machine:
            yield Installed(machine, monitoring_port, api_port)


def _install_unit(root: Path, monitoring_port: int, api_port: int) -> None:
    """The shipped files, and a drop-in that only adds free ports: the machine shares the host's network."""
    shipped = root / "opt/trustchain/source/config"
    etc = root / "etc/trustchain"
    etc.mkdir(mode=0o755)
    (etc / "trustchain.toml").write_text((shipped / "production.toml").read_text())
    unit = (shipped / "systemd" / _UNIT).read_text()
    (root / "etc/systemd/system" / _UNIT).write_text(unit)
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert command is not None
    # One that only the capability of the unit lets it have, as port 80 in production.
    http_port = next(port for port in range(1023, 600, -1) if is_free(port))
    ports = f"--set monitoring.port={monitoring_port} --set api.port={api_port} --set api.http_port={http_port}"
    drop_in = root / "etc/systemd/system" / f"{_UNIT}.d"
    drop_in.mkdir()
    (drop_in / "ports.conf").write_text(f"[Service]\nExecStart=\nExecStart={command[1]} {ports}\n")


def test_the_unit_starts_and_shows_the_health_line(installed: Installed) -> None:
    installed.machine.run("systemctl", "start", _UNIT)
    assert installed.shown("ActiveState") == "active"
    installed.wait_healthy()
    eventually(
        "systemctl status shows the health line",
        lambda: re.search(r'Status: ".*health.*"', installed.machine.run("systemctl", "status", _UNIT).stdout),
        within=40,
        every=0.5,
    )
    inside = installed.machine.run("curl", "-sS", f"http://127.0.0.1:{installed.monitoring_port}/health").stdout
    assert json.loads(inside)["is_healthy"] is True
    assert installed.shown("User") == "trustchain"


def test_a_killed_worker_is_back_while_the_unit_goes_on(installed: Installed) -> None:
    supervisor, before = installed.main_pid(), installed.workers()
    installed.send("KILL", before["ca"])
    eventually("ca has another process", lambda: installed.workers()["ca"] not in (None, before["ca"]), within=30)
    installed.wait_healthy()
    assert installed.main_pid() == supervisor
    assert installed.workers()["api"] == before["api"]
    assert installed.shown("NRestarts") == "0"


def test_a_killed_supervisor_is_started_again_by_systemd(installed: Installed) -> None:
    supervisor = installed.main_pid()
    installed.send("KILL", supervisor)
    eventually(
        "systemd has started another supervisor",
        lambda: installed.main_pid() not in (0, supervisor) and installed.shown("ActiveState") == "active",
        within=60,
        every=0.1,
    )
    installed.wait_healthy()
    assert installed.shown("NRestarts") == "1"


def test_a_frozen_supervisor_is_found_by_the_watchdog(installed: Installed) -> None:
    """WatchdogSec is half a minute; here it is shortened, which is all that the drop-in does."""
    drop_in = installed.machine.root / "etc/systemd/system" / f"{_UNIT}.d" / "watchdog.conf"
    drop_in.write_text("[Service]\nWatchdogSec=3\n")
    installed.machine.run("systemctl", "daemon-reload")
    installed.machine.run("systemctl", "restart", _UNIT)
    installed.wait_healthy()
    supervisor = installed.main_pid()
    installed.send("STOP", supervisor)
    eventually(
        "systemd has replaced the frozen supervisor",
        lambda: installed.main_pid() not in (0, supervisor) and installed.shown("ActiveState") == "active",
        within=60,
        every=0.1,
    )
    installed.wait_healthy()
    drop_in.unlink()
    installed.machine.run("systemctl", "daemon-reload")


def test_stop_is_clean(installed: Installed) -> None:
    installed.machine.run("systemctl", "restart", _UNIT)
    installed.wait_healthy()
    installed.machine.run("systemctl", "stop", _UNIT)
    assert installed.shown("ActiveState") == "inactive"
    assert installed.shown("Result") == "success"
    assert installed.shown("ExecMainStatus") == "0"
    assert not [command for command in installed.machine.commands() if "trustchain" in command]
    assert installed.machine.run("ls", "/dev/shm").stdout.strip() == ""
    assert not (installed.machine.root / "run/trustchain").exists()


def test_the_journal_tells_the_story(installed: Installed) -> None:
    journal = installed.journal()
    for told in ("Started trustchain.service", "SIGKILL", "Stopped trustchain.service", "Watchdog timeout"):
        assert told in journal, f"{told!r} is not in the journal:\n{journal[-6000:]}"
    assert "Traceback" not in journal
    assert "status=78" not in journal


def test_systemd_has_nothing_to_say_about_the_unit(installed: Installed) -> None:
    verified = installed.machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{_UNIT}", check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
