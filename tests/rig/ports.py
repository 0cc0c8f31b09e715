"""Ports for the servers that tests start: free on every loopback address, and never handed out twice in one run.

They are taken below the range from which the kernel numbers outgoing connections, so that the load of one test cannot
occupy the port of the next between the choice and the bind.
"""

import random
import socket
from contextlib import ExitStack

_BELOW_EPHEMERAL = range(20_000, 32_000)
_TRIES = 200
_taken: set[int] = set()


def free_port() -> int:
    """A TCP and UDP port free on 127.0.0.1 and ::1."""
    for _ in range(_TRIES):
        port = random.choice(_BELOW_EPHEMERAL)
        if port not in _taken and is_free(port):
            _taken.add(port)
            return port
    raise RuntimeError(f"no free port found between {_BELOW_EPHEMERAL.start} and {_BELOW_EPHEMERAL.stop}")


def is_free(port: int) -> bool:
    """Whether nothing is bound to `port`, over TCP or UDP, on either loopback address."""
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if socket.has_ipv6 and _has_ipv6_loopback():
        addresses.append((socket.AF_INET6, "::1"))
    with ExitStack() as sockets:
        try:
            for family, address in addresses:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = sockets.enter_context(socket.socket(family, kind))
                    # As a server does: connections that were closed a moment ago do not occupy the port.
                    if kind == socket.SOCK_STREAM:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            return False
    return True


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
