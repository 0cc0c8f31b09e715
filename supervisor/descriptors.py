"""What the loop waits for: descriptors with a callback each, and signals as one of them."""

import selectors
import signal
import socket
from collections.abc import Callable
from typing import Final

from supervisor.control import Callback

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Descriptors:
    """What the loop waits for: descriptors with their callbacks."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Call `callback` with the events that happened; replaces an earlier one."""
        # Not modified: the number may be one that was closed and given to something else meanwhile.
        self.forget(descriptor)
        self._selector.register(descriptor, events, callback)

    def forget(self, descriptor: int) -> None:
        """Watch it no more; before it is closed."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def wait(self, seconds: float) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what happened, at the latest after `seconds`."""
        return self._selector.select(seconds)

    def call(self, key: selectors.SelectorKey, events: int) -> None:
        """Run a callback, unless an earlier one of the same round took it away or put another in its place."""
        if self._selector.get_map().get(key.fd) is key:
            key.data(events)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._selector.close()


class Signals:
    """Signals as bytes on a descriptor, for as long as the block lasts."""

    def __init__(self, descriptors: Descriptors, take: Callable[[int], None]) -> None:
        self._descriptors = descriptors
        self._take = take
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def __enter__(self) -> None:
        # A handler, not SIG_IGN: what is ignored stays ignored in the fork server and in every worker.
        for number in _SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self._descriptors.watch(self._receiver.fileno(), selectors.EVENT_READ, self._receive)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        self._descriptors.forget(self._receiver.fileno())
        self._receiver.close()
        self._sender.close()

    def _receive(self, _events: int) -> None:
        for number in self._receiver.recv(4096):
            self._take(number)
