"""The API's test of itself: a real request over TLS to its own listening socket, through to the certificate authority.

Rules:
- Each probe opens a new connection, because accepting and the handshake are what clients need first. The listening
  addresses take turns.
- The certificate presented is verified against the root, as a client would.
- What the authority causes is blamed on it: the answer says so (502, 503, 504), and the request is given less time than
  the probe. Everything else is this worker's fault.
- The probe's token is known to this process only; limits do not count it, so nobody else can make it fail by them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec

from services.api.problems import ProblemDocument
from services.ca.messages import Roots
from services.errors import ProbeFailed

_PATH: Final = "/v1/ca/roots"
_SERVER_NAME: Final = "localhost"
_MAX_RESPONSE_BYTES: Final = 1_048_576
_BLAMED_ON_AUTHORITY: Final = frozenset((502, 503, 504))
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised here, not bound to


class Probe:
    """Probes the listening `sockets` with `token`, trusting the certificate in the file `root`."""

    def __init__(self, sockets: Sequence[socket.socket], root: Path, token: str) -> None:
        self._places = cycle([_reachable(listener) for listener in sockets])
        self._context = ssl.create_default_context(cafile=str(root))
        self._request = (
            f"GET {_PATH} HTTP/1.1\r\nHost: {_SERVER_NAME}\r\n"
            f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ).encode("ascii")

    async def run(self) -> None:
        """Raises ProbeFailed."""
        host, port = next(self._places)
        try:
            response = await self._exchange(host, port)
        except OSError as error:
            raise ProbeFailed("own", f"https://{host}:{port} does not answer: {error}") from error
        _judge(response)

    async def _exchange(self, host: str, port: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, port, ssl=self._context, server_hostname=_SERVER_NAME)
        try:
            writer.write(self._request)
            response = bytearray()
            while len(response) < _MAX_RESPONSE_BYTES and (octets := await reader.read(_MAX_RESPONSE_BYTES)):
                response += octets
            return bytes(response)
        finally:
            writer.transport.abort()  # both ends are ours, and the response has been read


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return _LOOPBACK_OF.get(host, host), port


def _judge(response: bytes) -> None:
    head, _, content = response.partition(b"\r\n\r\n")
    fields = head.split(b"\r\n", 1)[0].split(b" ")
    if len(fields) < 2 or not fields[1].isdigit():
        raise ProbeFailed("own", "the answer is not HTTP")
    status = int(fields[1])
    try:
        if status == 200:
            if msgspec.json.decode(content, type=Roots).certificates:
                return
            raise ProbeFailed("dependency", "the certificate authority names no root")
        detail = msgspec.json.decode(content, type=ProblemDocument).detail
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProbeFailed("own", f"the answer with status {status} cannot be read: {error}") from error
    raise ProbeFailed("dependency" if status in _BLAMED_ON_AUTHORITY else "own", f"status {status}: {detail}")
