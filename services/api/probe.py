"""The API's test of itself: real requests to its own listening sockets, through to the certificate authority.

Rules:
- Each probe opens new connections, one over TLS and one over plain HTTP, because accepting and the handshake are what
  clients need first. The listening addresses take turns. Both run at once: each has the time of a whole probe.
- Over TLS the certificate presented is verified against the root, as a client would. Over plain HTTP it is fetched who
  issued that certificate, as a client would that was not sent the chain.
- What the authority causes is blamed on it: the answer says so (502, 503, 504; 404 when it does not know who issued),
  and the request is given less time than the probe. Everything else is this worker's fault.
- The probe is known by a token that only this process has, over plain HTTP by its connection; limits do not count it,
  so nobody else can make it fail by them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from itertools import cycle
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from services.api.callers import ProbePlaces
from services.api.identity import IdentityError
from services.api.problems import ProblemDocument
from services.ca.messages import Roots
from services.errors import ProbeFailed

T = TypeVar("T")

_PATH: Final = "/v1/ca/roots"
_SERVER_NAME: Final = "localhost"
_MAX_RESPONSE_BYTES: Final = 1_048_576
_BLAMED_ON_AUTHORITY: Final = frozenset((502, 503, 504))
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised here, not bound to

Issuer = Callable[[], tuple[str, bytes]]
"""The serial number and the certificate (DER) of who issued the API's own certificate."""


class TlsProbe:
    """Probes the listening `sockets` with `token`, trusting the certificate in the file `root`."""

    def __init__(self, sockets: Sequence[socket.socket], root: Path, token: str) -> None:
        self._places = cycle([_reachable(listener) for listener in sockets])
        self._context = ssl.create_default_context(cafile=str(root))
        self._request = _request_for(_PATH, f"Authorization: Bearer {token}\r\n")

    async def run(self) -> None:
        """Raises ProbeFailed."""
        host, port = next(self._places)
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=self._context, server_hostname=_SERVER_NAME)
            response = await _exchange(reader, writer, self._request)
        except OSError as error:
            raise ProbeFailed("own", f"https://{host}:{port} does not answer: {error}") from error
        if not _decoded(_content(response), Roots).certificates:
            raise ProbeFailed("dependency", "the certificate authority names no root")


class PlainProbe:
    """Probes the listening `sockets` of plain HTTP. Its requests are known by `places`."""

    def __init__(self, sockets: Sequence[socket.socket], issuer: Issuer, places: ProbePlaces) -> None:
        self._addresses = cycle([_reachable(listener) for listener in sockets])
        self._issuer = issuer
        self._places = places

    async def run(self) -> None:
        """Raises ProbeFailed."""
        host, port = next(self._addresses)
        try:
            serial, certificate = self._issuer()
        except IdentityError as error:
            raise ProbeFailed("dependency", f"the certificate authority gave no chain: {error}") from error
        try:
            reader, writer = await asyncio.open_connection(host, port)
            with self._places.occupied(writer.get_extra_info("sockname")[:2]):
                response = await _exchange(reader, writer, _request_for(f"/issuer/{serial}.cer"))
        except OSError as error:
            raise ProbeFailed("own", f"http://{host}:{port} does not answer: {error}") from error
        if _content(response, {*_BLAMED_ON_AUTHORITY, 404}) != certificate:
            raise ProbeFailed("dependency", f"the certificate authority gives another certificate as issuer {serial}")


class Probe:
    """Both of them."""

    def __init__(self, tls: TlsProbe, plain: PlainProbe) -> None:
        self._both = (tls, plain)

    async def run(self) -> None:
        """Raises ProbeFailed: of two failures the one that a replacement of this worker may mend."""
        ends = await asyncio.gather(*(each.run() for each in self._both), return_exceptions=True)
        failures = [end for end in ends if end is not None]
        for failure in sorted(failures, key=_is_anothers_fault):
            raise failure


def _is_anothers_fault(failure: BaseException) -> bool:
    return isinstance(failure, ProbeFailed) and failure.cause != "own"


def _request_for(path: str, fields: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {_SERVER_NAME}\r\n{fields}Connection: close\r\n\r\n".encode("ascii")


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    try:
        writer.write(request)
        response = bytearray()
        while len(response) < _MAX_RESPONSE_BYTES and (octets := await reader.read(_MAX_RESPONSE_BYTES)):
            response += octets
        return bytes(response)
    finally:
        writer.transport.abort()  # both ends are ours, and the response has been read


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return _LOOPBACK_OF.get(host, host), port


def _content(response: bytes, blamed: Collection[int] = _BLAMED_ON_AUTHORITY) -> bytes:
    """The body of an answer with status 200. `blamed` are the statuses that the authority causes."""
    head, _, content = response.partition(b"\r\n\r\n")
    fields = head.split(b"\r\n", 1)[0].split(b" ")
    if len(fields) < 2 or not fields[1].isdigit():
        raise ProbeFailed("own", "the answer is not HTTP")
    status = int(fields[1])
    if status == 200:
        return content
    detail = _decoded(content, ProblemDocument).detail
    raise ProbeFailed("dependency" if status in blamed else "own", f"status {status}: {detail}")


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProbeFailed("own", f"the answer cannot be read: {error}") from error
