"""The sockets on which services listen: bound here, before anything starts, and kept open as long as the tree runs.

Rules:
- A worker gets its sockets ready to use. While it is replaced they stay open here: the backlog, or the receive buffer
  of a UDP socket, waits for the replacement, and no connection is refused.
- Several addresses under one name: an address this host does not have (IPv6 switched off) is skipped with a warning, as
  long as another one is left. Every other failure ends the start with a text that says what to do.
- Unix sockets have mode 0600. The caller holds the lock of their directory, so one that is there already is debris.
"""

import errno
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from config.topology import Listener, Service
from supervisor.errors import StartError

BACKLOG: Final = 1024

_MISSING: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

Sockets = Mapping[str, tuple[socket.socket, ...]]


def open_listeners(services: Iterable[Service], warn: Callable[[str], None]) -> dict[str, Sockets]:
    """Return the sockets of each service by the name of their listener. Raises StartError, with none left open."""
    opened: dict[str, dict[str, tuple[socket.socket, ...]]] = {}
    try:
        for service in services:
            mine = opened.setdefault(service.name, {})
            for listener in service.listeners:
                mine[listener.name] = (*mine.get(listener.name, ()), *_open_or_skip(service, listener, warn))
            for listener in (each for each in service.listeners if not mine[each.name]):
                raise StartError(
                    f"none of the addresses of {service.name} ({listener.name}) exists on this host: "
                    f"correct {service.name}.{listener.prefix}addresses"
                )
    except BaseException:
        close_listeners(opened)
        raise
    return dict(opened)


def close_listeners(opened: Mapping[str, Sockets]) -> None:
    """Close every socket and remove what Unix sockets leave in the file system."""
    for sockets in opened.values():
        for each in (each for several in sockets.values() for each in several):
            path = each.getsockname() if each.family == socket.AF_UNIX else ""
            each.close()
            if path:
                Path(path).unlink(missing_ok=True)


def open_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket of mode 0600 at `path`. Raises OSError; FileExistsError if no socket is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is in the way and not a socket", str(path))
        path.unlink()
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(str(path))
        path.chmod(0o600)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_or_skip(service: Service, listener: Listener, warn: Callable[[str], None]) -> tuple[socket.socket, ...]:
    try:
        return (open_unix(Path(listener.path)) if listener.kind == "unix" else _open_inet(listener),)
    except OSError as error:
        if error.errno in _MISSING:
            warn(f"{service.name} does not listen on {listener.address}: this host has no such address")
            return ()
        raise StartError(_advice(service, listener, error)) from error


def _open_inet(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    stream = listener.kind == "tcp"
    opened = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        if stream:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise [::] takes the IPv4 port too, and 0.0.0.0 beside it finds it in use.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((listener.address, listener.port))
        if stream:
            opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _advice(service: Service, listener: Listener, error: OSError) -> str:
    if listener.kind == "unix":
        return f"cannot listen on {listener.path} for {service.name}: {error.strerror}"
    port, setting = listener.port, f"{service.name}.{listener.prefix}port"
    where = f"[{listener.address}]:{port}" if ":" in listener.address else f"{listener.address}:{port}"
    if error.errno == errno.EADDRINUSE:
        option = "t" if listener.kind == "tcp" else "u"
        return (
            f"port {port} ({setting}, {listener.kind} {where}) is in use: `ss -ln{option}p 'sport = :{port}'` "
            f"shows by whom; stop that program, or choose another port with --set {setting}=PORT"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"not permitted to listen on {where} ({setting}): ports below 1024 need CAP_NET_BIND_SERVICE (systemd: "
            f"AmbientCapabilities=CAP_NET_BIND_SERVICE); or choose a higher port with --set {setting}=PORT"
        )
    return f"cannot listen on {where} ({setting}, {service.name}.{listener.prefix}addresses): {error.strerror}"
