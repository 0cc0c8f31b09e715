"""What the supervisor tells systemd (sd_notify): datagrams to the socket named in the environment.

Rules: no socket named means that nobody listens, and nothing is sent. A message that cannot be sent at once is dropped:
systemd being slow must not stop supervision. The variables are taken out of the environment, so that no worker can
speak for us. Debian 12 has systemd 252: nothing newer is used.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Speaks to systemd, or to nobody. `watchdog_ns`: how often `watchdog` is due (half of what systemd allows)."""

    def __init__(self, address: str | None, watchdog_ns: int | None = None) -> None:
        """`address`: a path, or `@` and the name of an abstract socket. Raises OSError if there is no such socket."""
        self.watchdog_ns = watchdog_ns
        self._status = ""
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
            except OSError:
                self._socket.close()
                raise

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> "Notifier":
        """Read and remove systemd's variables. Raises OSError for a socket that is not there."""
        address, usec, watched = (environ.pop(name, "") for name in _VARIABLES)
        watchdog = None
        if usec.isdecimal() and int(usec) > 0 and watched in ("", str(pid)):
            watchdog = int(usec) * 1000 // 2
        # `vsock:` and the like belong to containers and virtual machines, whose own manager is meant.
        return cls(address if address.startswith(("/", "@")) else None, watchdog)

    def ready(self) -> None:
        """Every required worker is ready."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The supervising loop lives."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Start or stop takes longer: allow `seconds` from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def status(self, line: str) -> None:
        """Show `line` in `systemctl status`; an unchanged one is not sent again."""
        line = " ".join(line.split())
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def close(self) -> None:
        """Nothing more will be said."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(message.encode("utf-8", "replace"))
        except OSError:
            return False
        return True


def from_process_environment() -> Notifier:
    """Return the notifier of this process."""
    return Notifier.from_environment(os.environ, os.getpid())
