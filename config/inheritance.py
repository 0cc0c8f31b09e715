"""What a worker inherits from the supervisor: all that it gets to know at start.

Rules: picklable, because the fork server receives it as a message and the sockets travel beside it as descriptors.
The only thing a worker ever sends over its leash is `READY`; end of file there means that the supervisor is gone, and
the worker leaves at once with `os._exit(1)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from socket import socket
from typing import Final

from config.schema import Settings

READY: Final = b"ready\n"
"""Sent once over the leash, as soon as the worker serves."""

EXIT_CONFIG: Final = 78
"""Exit code for a configuration error (EX_CONFIG of sysexits.h): the supervisor does not restart."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """One worker's share: `sockets` are bound and listening, keyed by listener name of the topology."""

    service: str
    index: int
    settings: Settings
    sockets: Mapping[str, tuple[socket, ...]]
    leash: socket
    block: str
    slot: int
    generation: int
