"""What a worker inherits from the supervisor: all that it gets to know at start.

Rules: picklable, because the fork server receives it as a message and the sockets travel beside it as descriptors. A
secret travels in the same way, as the descriptor of a sealed file in memory: its content is in no message, in no
environment, and in nothing that is shown or logged.
The only thing a worker ever sends over its leash is `READY`; end of file there means that the supervisor is gone, and
the worker leaves at once with `os._exit(1)`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import context, reduction
from socket import socket
from typing import Any, Final

from config.schema import Settings

READY: Final = b"ready\n"
"""Sent once over the leash, as soon as the worker serves."""

EXIT_CONFIG: Final = 78
"""Exit code for a configuration error (EX_CONFIG of sysexits.h): the supervisor does not restart."""


class SealedSecret:
    """One secret in a file that is only in memory and that nobody can change any more."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of such a file."""
        self._descriptor = descriptor

    @classmethod
    def of(cls, content: bytes) -> SealedSecret:
        """Put a secret into such a file. Raises OSError."""
        descriptor = os.memfd_create("trustchain-secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return cls(descriptor)

    def read(self) -> bytes:
        """The secret, as often as it is asked for. Raises OSError."""
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def close(self) -> None:
        """Let go of it; the file ends with its last descriptor."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[[Any], SealedSecret], tuple[Any]]:
        """Only on the way to a process that is being started, as a descriptor."""
        if context.get_spawning_popen() is None:
            raise TypeError("a secret is given to a new process, and not written anywhere")
        return _received, (reduction.DupFd(self._descriptor),)


_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _received(duplicate: Any) -> SealedSecret:
    return SealedSecret(duplicate.detach())


@dataclass(frozen=True, slots=True)
class Inheritance:
    """One worker's share: `sockets` are bound and listening, keyed by listener name of the topology; `secrets` too."""

    service: str
    index: int
    settings: Settings
    sockets: Mapping[str, tuple[socket, ...]]
    leash: socket
    block: str
    slot: int
    generation: int
    secrets: Mapping[str, SealedSecret] = field(default_factory=dict)
