"""Calls to services that have no process and are not about to get one: taken and hung up on at once.

Rules:
- While a worker is replaced its callers wait in the backlog; that takes milliseconds. A service that failed or that the
  operator stopped would let them wait until their time is over, so that a worker which could say "unavailable" at once
  says "no answer in time" instead, and holds its own callers up.
- Only Unix sockets, by which the workers call each other: whoever connects to a port from outside may wait for the next
  `trustchain start`, and has a time limit of its own.
"""

import selectors
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from supervisor.control import Callback, Registry
from supervisor.sockets import Sockets

AT_ONCE: Final = 64
"""Connections ended in one turn of the loop, so that a flood of them does not hold up supervision."""


class Vacancies:
    """Which services are vacant. `sockets` are the listening ones by service."""

    def __init__(self, sockets: Mapping[str, Sockets], registry: Registry) -> None:
        self._registry = registry
        self._listeners = {
            name: tuple(each for several in mine.values() for each in several if each.family == socket.AF_UNIX)
            for name, mine in sockets.items()
        }
        self._vacant: set[str] = set()

    def show(self, name: str, *, vacant: bool) -> None:
        """Hang up on the callers of service `name` from now on, or leave them to its next process."""
        if vacant == (name in self._vacant):
            return
        for listener in self._listeners.get(name, ()):
            if vacant:
                listener.setblocking(False)  # a caller may be gone again by the time it is accepted
                self._registry.watch(listener.fileno(), selectors.EVENT_READ, _hanging_up(listener))
            else:
                self._registry.forget(listener.fileno())
        (self._vacant.add if vacant else self._vacant.discard)(name)


def _hanging_up(listener: socket.socket) -> Callback:
    def hang_up(_events: int) -> None:
        with suppress(OSError):
            for _ in range(AT_ONCE):
                listener.accept()[0].close()

    return hang_up
