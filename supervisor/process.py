"""Processes: the fork server, and the workers that it forks for us.

Rules:
- Nobody is ever waited for but by `multiprocessing`: `waitpid(-1)` would steal its exit codes for ever.
- A worker is signalled through a pidfd, never by number: the fork server reaps it before we know, and the number may
  belong to somebody else by then.
- The fork server is asked with a time limit, and sent SIGCONT first: it may have been stopped, and we have one thread.
- Nothing of this package's internals is used except the fork server's process id, to watch it and to end it.
"""

import multiprocessing
import os
import select
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from socket import socket
from typing import Final

from config.inheritance import Inheritance
from supervisor.child import Exit
from supervisor.entry import enter
from supervisor.preload import PRELOAD

FIRST_LAUNCH_LIMIT: Final = 20.0
"""Seconds for a launch that has to start a fork server, which imports all that it preloads first."""

LAUNCH_LIMIT: Final = 5.0
"""Seconds for a launch by a running fork server (it takes milliseconds)."""

_LOST: Final = 255
"""What `multiprocessing` gives as exit code when the fork server died without reporting one."""

_DYING_MS: Final = 20
"""The fork server's pipes close a little before its process counts as dead."""


class LaunchError(Exception):
    """The process was not started; it may work later."""


@dataclass(slots=True)
class ChildProcess:
    """One worker process. `pidfd` turns readable when it dies, `sentinel` when the fork server has said how."""

    name: str
    generation: int
    pid: int
    pidfd: int
    leash: socket
    log: "Connection[bytes, bytes]"
    process: ForkServerProcess

    @property
    def sentinel(self) -> int:
        """Descriptor to watch for the exit code."""
        return self.process.sentinel

    @property
    def dead(self) -> bool:
        """Whether the process has ended, reported or not."""
        return _readable(self.pidfd, 0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended already gets none."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, number)

    def exit(self) -> Exit | None:
        """Return how it ended, None if the fork server has not said so yet."""
        code = self.process.exitcode
        return None if code is None else Exit.from_exitcode(code)

    def close(self) -> None:
        """Give its descriptors back. Only after its end was reported."""
        self.leash.close()
        self.log.close()
        os.close(self.pidfd)
        self.process.close()


class ForkServer:
    """Starts workers. There is one at a time; a dead one is replaced by the next launch."""

    def __init__(self, preload: Sequence[str], temporary: str) -> None:
        """`preload`: modules that workers need. `temporary`: directory for the fork server's own socket, if it fits."""
        # A worker must not import the command line. Multiprocessing re-imports the parent's main module in every child,
        # unless it is a package's __main__ (multiprocessing.spawn, _fixup_main_from_name); a console script is not.
        sys.modules["__main__"].__spec__ = ModuleSpec("supervisor.__main__", None)
        # The fork server resolves modules as we do, and does not look in the current directory, as `python -c` would.
        os.environ["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        os.environ["PYTHONSAFEPATH"] = "1"
        os.environ[PRELOAD] = ":".join(preload)
        _place_socket(temporary)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["supervisor.preload"])
        self._pid = 0
        self.pidfd = -1

    def launch(self, module: str, inheritance: Inheritance, leash: socket) -> ChildProcess:
        """Start a worker that runs `MODULE.__main__`; `leash` is our end of `inheritance.leash`. Raises LaunchError."""
        try:
            reader, writer = self._context.Pipe(duplex=False)
        except OSError as error:
            raise LaunchError(f"no pipe for its output: {error.strerror}") from error
        process = self._context.Process(
            target=enter, args=(module, inheritance, writer), name=f"trustchain-{inheritance.service}", daemon=True
        )
        try:
            with writer:
                self._start(process)
            pidfd = _watch(process.pid or 0)
        except (OSError, EOFError, LaunchError) as error:
            reader.close()
            if process.pid is not None:
                process.kill()
            raise LaunchError(f"the fork server did not start it: {str(error) or type(error).__name__}") from error
        return ChildProcess(
            name=inheritance.service,
            generation=inheritance.generation,
            pid=process.pid or 0,
            pidfd=pidfd,
            leash=leash,
            log=reader,
            process=process,
        )

    def _start(self, process: ForkServerProcess) -> None:
        self.resume()
        limit = LAUNCH_LIMIT if self.alive() else FIRST_LAUNCH_LIMIT
        try:
            with _time_limit(limit):
                process.start()
        except LaunchError:
            # It may be a new one, which nobody knows yet.
            self._follow()
            self.kill()
            raise
        finally:
            self._follow()

    def _follow(self) -> None:
        """Watch the present fork server."""
        # There is no public way to learn its process id, in any version.
        pid = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None) or 0
        if pid == self._pid:
            return
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self._pid, self.pidfd = pid, os.pidfd_open(pid) if pid else -1

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first launch."""
        return self._pid

    def alive(self) -> bool:
        """Whether a fork server runs now."""
        return self.pidfd >= 0 and not _readable(self.pidfd, 0)

    def lost(self, exit_code: int | None) -> bool:
        """Whether a worker's exit code was made up because the fork server is gone."""
        return exit_code == _LOST and (self.pidfd < 0 or _readable(self.pidfd, _DYING_MS))

    def resume(self) -> None:
        """Wake the fork server if somebody stopped it; it could neither fork nor report deaths."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End the fork server and with it every worker; the next launch starts another one."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """End the fork server and the resource tracker, which multiprocessing would leave to end after us."""
        self.kill()
        for owner in (getattr(forkserver, "_forkserver", None), getattr(resource_tracker, "_resource_tracker", None)):
            stop = getattr(owner, "_stop", None)
            if stop is not None:
                with suppress(OSError):
                    stop()

    def _send(self, number: signal.Signals) -> None:
        if self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)


def _place_socket(directory: str) -> None:
    """Have the fork server's socket made below `directory`, which the next start cleans, if its path may be so long."""
    if len(os.path.join(directory, "pymp-01234567", "listener-01234567")) <= 107:
        tempfile.tempdir = directory


def _watch(pid: int) -> int:
    """Return a pidfd; for a process that was reaped already, a descriptor that is readable as a pidfd would be."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return os.eventfd(1, os.EFD_CLOEXEC)


def _readable(descriptor: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(milliseconds))


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise LaunchError in the block after `seconds`: system calls that wait are interrupted."""

    def expire(_number: int, _frame: object) -> None:
        raise LaunchError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
