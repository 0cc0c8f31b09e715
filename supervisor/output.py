"""Standard error, written without ever waiting for whoever reads it.

Rules:
- What cannot be written now waits in a bounded buffer; what does not fit is dropped and counted, and the count is
  written when there is room again. A log that nobody reads must not stop supervision.
- The descriptor is not set to non-blocking: it is shared with the terminal's shell or the parent. A pipe or a terminal
  is opened once more instead, a socket (journald) is told so with each send. A regular file does not block.
"""

import os
import select
import socket
import stat
from collections import deque
from typing import Final

BUFFER_BYTES: Final = 256 * 1024

_ATOMIC: Final = select.PIPE_BUF


class Output:
    """A writer of whole lines to one descriptor."""

    def __init__(self, descriptor: int = 2, limit: int = BUFFER_BYTES) -> None:
        """`limit`: bytes that may wait."""
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._socket: socket.socket | None = None
        self._polled = False
        self._given = descriptor
        self.descriptor = self._own(descriptor)

    def _own(self, given: int) -> int:
        kind = os.fstat(given).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(given))
            return self._socket.fileno()
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            try:
                return os.open(f"/proc/self/fd/{given}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                # Somebody else's pipe. If poll finds room in it there is enough for one write of PIPE_BUF bytes.
                self._polled = True
        return given

    @property
    def waiting(self) -> bool:
        """Whether something waits for the descriptor to become writable."""
        return bool(self._waiting)

    @property
    def dropped(self) -> int:
        """Lines dropped and not yet told of."""
        return self._dropped

    def write(self, line: bytes) -> None:
        """Write one line, or let it wait."""
        if self._bytes + len(line) > self._limit:
            self._dropped += 1
            return
        self._append(line)
        if len(self._waiting) == 1:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as far as there is room."""
        while self._waiting:
            line = self._waiting[0]
            written = self._send(line)
            if written is None:
                return
            self._bytes -= written
            if written < len(line):
                self._waiting[0] = line[written:]
                continue
            self._waiting.popleft()
            if self._dropped and not self._waiting:
                count, self._dropped = self._dropped, 0
                self._append(b"supervisor: %d log lines were dropped: standard error was not read\n" % count)

    def close(self) -> None:
        """Write what can be written and give the descriptor back."""
        self.flush()
        if self._socket is not None:
            self._socket.close()
        elif self.descriptor != self._given:
            os.close(self.descriptor)

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._bytes += len(line)

    def _send(self, data: bytes) -> int | None:
        """Return how many bytes were taken, None for none at present. A reader that is gone takes everything."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if self._polled:
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                return os.write(self.descriptor, data[:_ATOMIC]) if poll.poll(0) else None
            return os.write(self.descriptor, data)
        except BlockingIOError:
            return None
        except OSError:
            return len(data)
