"""What the two HELLOs of a connection agree on. Pure.

Rules:
- A HELLO names the newest version that its sender speaks; it speaks the ones before, down to its `oldest`. Agreed is
  the newest that both speak, what both can do, and the smaller of each limit.
- The server answers with what is agreed. A client takes no answer that goes beyond its own HELLO.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.stoq.frames import FrameError, Hello
from services.stoq.messages import VERSION, ErrorKind


class UnsupportedVersion(FrameError):
    """No version is spoken by both ends."""

    kind: ErrorKind = "unsupported-version"


@dataclass(frozen=True, slots=True)
class Agreed:
    """What holds on a connection: the HELLO with which its server answers."""

    hello: Hello

    @property
    def version(self) -> int:
        """The version that is spoken."""
        return self.hello.version

    @property
    def max_body(self) -> int:
        """Octets of the largest body or chunk, in both directions."""
        return self.hello.max_body

    @property
    def max_streams(self) -> int:
        """How many streams the client has open at once."""
        return self.hello.max_streams

    @property
    def idle_s(self) -> int:
        """After how many seconds of silence either end may close."""
        return self.hello.idle_s

    def can(self, capability: str) -> bool:
        """Whether both ends can do this."""
        return capability in self.hello.capabilities


def negotiate(client: Hello, server: Hello, oldest: int = VERSION) -> Agreed:
    """What a server that says `server` agrees on with a client that said `client`. Raises UnsupportedVersion."""
    version = min(client.version, server.version)
    if version < oldest:
        raise UnsupportedVersion(f"version {version} is not spoken any more, but {oldest} to {server.version}")
    return Agreed(
        Hello(
            version,
            tuple(each for each in server.capabilities if each in client.capabilities),
            min(client.max_body, server.max_body),
            min(client.max_streams, server.max_streams),
            min(client.idle_s, server.idle_s),
        )
    )


def accept(offered: Hello, answer: Hello, oldest: int = VERSION) -> Agreed:
    """What a client that said `offered` takes from its server's answer. Raises FrameError if it goes beyond."""
    agreed = negotiate(offered, answer, oldest)
    if agreed.hello != answer:
        raise FrameError("the server's HELLO goes beyond the client's")
    return agreed
