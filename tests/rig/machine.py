"""A Debian 12 machine made with debootstrap and run by systemd-nspawn: booted with its own systemd, or per command.

Rules: the base system is made once per list of packages and cached as a tarball outside the repository; each machine
is a fresh copy of it. Network and its ports are the host's (`--register=no --keep-unit` needs no systemd on the host).
How the host reaches its package registries (pip configuration, proxies, certificate authorities) is read from it at
run time and handed in; no host name is written here. A machine that was started leaves no process and no mount.
"""

import hashlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from tests.rig.peers import missing, require_peer, require_root
from tests.rig.polling import eventually

SUITE = "bookworm"
FRESH = ("git", "python3", "python3-venv")
WITH_SYSTEMD = (*FRESH, "curl", "dbus", "systemd", "systemd-sysv")
_BOOT_WITHIN = 60.0
_POWER_OFF_WITHIN = 30.0
_PASSED_ON = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@contextmanager
def debian(packages: Sequence[str]) -> Iterator[Path]:
    """A directory that holds a fresh Debian 12 with exactly `packages` over the minimal base; removed afterwards."""
    require_root()
    for program in ("debootstrap", "systemd-nspawn", "nsenter", "tar"):
        require_peer(program)
    tarball = _base(tuple(sorted(packages)))
    # The name of the directory becomes that of the machine, which must be one of a host.
    directory = Path("/var/tmp") / f"tc-machine-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    try:
        root = directory / "root"  # nspawn keeps a lock beside it
        root.mkdir()
        _run(["tar", "--extract", "--gzip", "--file", str(tarball), "--directory", str(root)])
        yield root
    finally:
        _run(["rm", "--recursive", "--force", "--one-file-system", str(directory)])
        # nspawn does not remove this where /run is on a disk, as in a container.
        with suppress(FileNotFoundError):
            (Path("/run/systemd/nspawn/propagate") / directory.name).rmdir()


@dataclass
class BootedMachine:
    """A machine whose process 1 is systemd. `binds` maps paths of the host to paths in the machine, read-only."""

    root: Path
    binds: Mapping[Path, str] = field(default_factory=dict)
    _nspawn: subprocess.Popen[bytes] | None = None
    _leader: int = 0

    def __enter__(self) -> Self:
        host = registry_access()
        command = [*_nspawn(self.root, host, self.binds), "--boot", "--console=pipe"]
        log = self.console.open("wb")
        with log:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._leader = eventually("the machine's process 1 runs", self._find_leader, _BOOT_WITHIN)
            eventually("the machine has booted", self._has_booted, _BOOT_WITHIN, every=0.2)
        except BaseException:
            self._power_off()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._power_off()

    @property
    def console(self) -> Path:
        """What the machine wrote to its console."""
        return self.root.with_name(self.root.name + ".console")

    def run(self, *command: str, check: bool = True, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs `command` in the machine, as root, with its output captured."""
        inside = ["env", "-i", *_environment(registry_access()), *command]
        enter = ["nsenter", "--target", str(self._leader), "--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        done = subprocess.run([*enter, *inside], capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def commands(self) -> list[str]:
        """The command lines of all processes in the machine."""
        running = psutil.Process(self._leader).children(recursive=True)
        return [" ".join(process.cmdline()) for process in running]

    def _find_leader(self) -> int | None:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            missing(f"systemd-nspawn does not boot here: {self.console.read_text(errors='replace')[-500:]}")
        return _leader(self._nspawn.pid)

    def _has_booted(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _power_off(self) -> None:
        """Asks the machine's systemd to power off; kills its process 1, and so all its processes, if it does not."""
        assert self._nspawn is not None
        if self._nspawn.poll() is None:
            self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(_POWER_OFF_WITHIN)
        except subprocess.TimeoutExpired:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            self._nspawn.kill()
            self._nspawn.wait()
        self.console.unlink(missing_ok=True)


@dataclass
class CommandMachine:
    """A machine without a running systemd, in which single commands run one after the other in one root file system."""

    root: Path
    binds: Mapping[Path, str] = field(default_factory=dict)

    def start(self, shell_line: str, directory: str, log: Path) -> subprocess.Popen[bytes]:
        """Starts `shell_line` as a user would type it in `directory`; its output goes to `log`."""
        host = registry_access()
        command = [*_nspawn(self.root, host, self.binds), "--as-pid2", f"--chdir={directory}", "--console=pipe"]
        command += ["/bin/bash", "-c", shell_line]
        with log.open("wb") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def run(self, shell_line: str, directory: str, log: Path, timeout: float) -> int:
        """Runs `shell_line` to its end and returns its exit code."""
        process = self.start(shell_line, directory, log)
        try:
            return process.wait(timeout)
        finally:
            self.stop(process)

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        """Ends what `start` started: the kernel ends every process of the machine with its process 1."""
        if process.poll() is not None:
            return
        leader = eventually("the machine's process 1 is known", lambda: _leader(process.pid), 10.0)
        os.kill(leader, signal.SIGKILL)
        process.wait(_POWER_OFF_WITHIN)

    @staticmethod
    def interrupt(process: subprocess.Popen[bytes]) -> None:
        """Ctrl-C: SIGINT to the process group in which `start` runs its shell line."""
        leader = eventually("the machine's process 1 is known", lambda: _leader(process.pid), 10.0)
        for shell in psutil.Process(leader).children():
            os.killpg(os.getpgid(shell.pid), signal.SIGINT)


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """What of the host's configuration lets pip and git reach their registries."""

    variables: Mapping[str, str]
    files: Mapping[Path, str]


def registry_access() -> RegistryAccess:
    """Reads the host's pip configuration, proxy and certificate variables, and the local paths that they name."""
    variables = {
        name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON) or name.lower() in _PROXIES
    }
    configurations = {Path("/etc/pip.conf"): "/etc/pip.conf", _user_pip_conf(): "/root/.config/pip/pip.conf"}
    files = {place: inside for place, inside in configurations.items() if place.is_file()}
    words = [word for text in (*variables.values(), *(place.read_text() for place in files)) for word in text.split()]
    for word in words:
        # The pages of a local index point at files beside it.
        path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
        if path.is_absolute() and path.exists() and path not in files and path != Path("/"):
            files[path] = str(path)
    return RegistryAccess(variables, _outermost(files))


def snapshot_of_repository(repository: Path, to: Path) -> None:
    """A git repository at `to` with the state of the working tree: in CI this is the commit under test, unchanged."""
    _run(["git", "init", "--quiet", str(to)])
    listed = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout
    for name in {os.fsdecode(part) for part in listed.split(b"\0") if part}:
        source = repository / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)
    author = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    _run(["git", "-C", str(to), "add", "--all", "--force"])
    _run(["git", "-C", str(to), *author, "commit", "--quiet", "--message", "The working tree under test"])


def _leader(nspawn: int) -> int | None:
    """The pid, on the host, of process 1 of the machine that the process `nspawn` runs."""
    for process in psutil.Process(nspawn).children(recursive=True):
        status = Path(f"/proc/{process.pid}/status").read_text()
        if any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.splitlines()):
            return process.pid
    return None


def _user_pip_conf() -> Path:
    modern = Path.home() / ".config" / "pip" / "pip.conf"
    return modern if modern.is_file() else Path.home() / ".pip" / "pip.conf"


def _outermost(files: Mapping[Path, str]) -> dict[Path, str]:
    """Without paths that lie inside another path of the same mapping: binding the outer one brings them along."""
    return {
        path: inside
        for path, inside in files.items()
        if not any(outer in path.parents and files[outer] == str(outer) for outer in files)
    }


def _nspawn(root: Path, host: RegistryAccess, binds: Mapping[Path, str]) -> list[str]:
    command = [
        require_peer("systemd-nspawn"),
        *("--quiet", "--register=no", "--keep-unit", "--resolv-conf=copy-host", "--timezone=off"),
        f"--directory={root}",
        f"--machine={root.parent.name}",  # the name of a directory in /run, in which machines must not meet
        *(f"--setenv={variable}" for variable in _environment(host)),
    ]
    return command + [f"--bind-ro={source}:{inside}" for source, inside in {**host.files, **binds}.items()]


def _environment(host: RegistryAccess) -> list[str]:
    fixed = {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return [f"{name}={value}" for name, value in {**fixed, **host.variables}.items()]


def _base(packages: tuple[str, ...]) -> Path:
    """The tarball of a Debian with `packages`, made on the first call of this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trustchain-tests"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    tarball = cache / f"debian-{SUITE}-{name}.tar.gz"
    if tarball.exists():
        return tarball
    directory = Path(tempfile.mkdtemp(prefix="tc-debootstrap-", dir="/var/tmp"))
    directory.chmod(0o755)  # it becomes the machine's root directory, which every user of the machine must enter
    downloads = cache / "packages"
    downloads.mkdir(exist_ok=True)
    try:
        _debootstrap(packages, directory, downloads)
        # Without an identity of its own, each copy gets one at its first boot, as an installed machine does.
        (directory / "etc" / "machine-id").write_text("")
        partial = tarball.with_suffix(f".{os.getpid()}")
        pack = ["tar", "--create", "--use-compress-program=gzip -1", "--file", str(partial), "--one-file-system"]
        _run([*pack, "--exclude=./var/cache/apt/archives/*.deb", "--directory", str(directory), "."])
        partial.rename(tarball)
    finally:
        _run(["rm", "--recursive", "--force", "--one-file-system", str(directory)])
    return tarball


def _debootstrap(packages: tuple[str, ...], directory: Path, downloads: Path) -> None:
    command = [
        require_peer("debootstrap"),
        "--variant=minbase",
        f"--include={','.join(packages)}",
        f"--cache-dir={downloads}",
        SUITE,
        str(directory),
        _mirror(),
    ]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise AssertionError(
            f"{shlex.join(command)} fails after {time.monotonic() - began:.0f} s\n{done.stdout[-3000:]}"
        )


def _mirror() -> str:
    """The mirror that the host's apt uses for its own Debian; debootstrap's default where the host is not a Debian."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    uris = listed.stdout.split() if listed.returncode == 0 else []
    return uris[0] if uris else "http://deb.debian.org/debian"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (
        f"{shlex.join(command)} exits {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
