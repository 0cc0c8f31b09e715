"""The API in this process, on real sockets and free ports, with a fake authority and a fake log behind it."""

import asyncio
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
import uvloop

from config.schema import Api, Ca, Log, Server, Settings
from monitoring.metrics import WORKER_FAMILIES, Metrics
from services import logs
from services.api.metrics import FAMILIES
from services.api.service import ApiService, build
from services.worker import Worker
from tests.integration.fake_authority import FakeAuthority
from tests.integration.fake_log import FakeLog

T = TypeVar("T")
_TIMEOUT = 20.0


@dataclass(frozen=True)
class Answer:
    """One HTTP response, read whole. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningApi:
    """`with RunningApi(directory) as api:` serves until the block ends. `api` are settings of its section."""

    def __init__(self, directory: Path, *, server: Mapping[str, str] | None = None, **api: Any) -> None:
        self.settings = Settings(
            server=Server(data_dir=str(directory), runtime_dir=str(directory), **(server or {})),
            ca=Ca(),
            api=Api(**api),
        )
        self.paths = self.settings.paths
        self.paths.ca_dir.mkdir(parents=True, exist_ok=True)
        self.sockets = tuple(_listening(family, host) for family, host in _LOOPBACK)
        self.plain_sockets = tuple(_listening(family, host) for family, host in _LOOPBACK)
        self.port = self.sockets[0].getsockname()[1]
        self.plain_port = self.plain_sockets[0].getsockname()[1]
        self.metrics = Metrics.in_memory((*WORKER_FAMILIES, *FAMILIES))
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._thread.start()
        self.authority = FakeAuthority(self.paths.rpc_socket("ca"))
        self.log = FakeLog(self.paths.rpc_socket("ct"), self.authority.root)
        self.paths.root_certificate.write_text(self.authority.root_pem)
        self.service: ApiService | None = None
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        # The worker's logging is for its whole process, which here is that of all tests: it is given back at the end.
        self._logging = structlog.get_config()
        logs.configure(Log(level="warning"), "api", 0)
        self.run(self.authority.start())
        self.run(self.log.start())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.run(self.authority.stop())
        self.run(self.log.stop())
        self.run(_settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()
        for listener in (*self.sockets, *self.plain_sockets):
            listener.close()
        structlog.configure(**self._logging)

    def start(self) -> None:
        """Serve, as a new worker on the same sockets and data directory."""
        self.run(self._start())

    async def _start(self) -> None:
        sockets = {"https": self.sockets, "http": self.plain_sockets}
        self._worker = Worker(service="api", settings=self.settings, metrics=self.metrics, sockets=sockets)
        self.service = await build(self._worker)

    def stop(self) -> None:
        if self.service is not None:
            self.run(self._stop())
            self.service = None

    async def _stop(self) -> None:
        assert self.service is not None
        assert self._worker is not None
        await self.service.close()
        await self._worker.close_peers()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop that serves."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT)

    def begin(self, work: Coroutine[Any, Any, T]) -> Any:
        """Start `work` in the loop that serves; `.result(timeout)` of what is returned waits for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def token(self) -> str:
        return self.paths.admin_token.read_text().strip()

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.root_pem)

    def connect(self, timeout: float = _TIMEOUT) -> ssl.SSLSocket:
        """A raw connection, after its handshake."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return self.tls().wrap_socket(plain, server_hostname="localhost")

    def client(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_TIMEOUT, context=self.tls())

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = "",
    ) -> Answer:
        """One request on a connection of its own. `token`: "" is the administrator's, None is none at all."""
        fields = {"Content-Type": "application/json"} if body is not None else {}
        if token is not None:
            fields["Authorization"] = f"Bearer {token or self.token}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return _exchanged(self.client(), method, path, content, {**fields, **(headers or {})})

    def ask_plain(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request over plain HTTP on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=_TIMEOUT)
        return _exchanged(connection, method, path, body, headers or {})

    def connect_plain(self, timeout: float = _TIMEOUT) -> socket.socket:
        """A raw connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.plain_port), timeout=timeout)

    def raw(self, sent: bytes, timeout: float = _TIMEOUT, *, plain: bool = False) -> bytes:
        """All that the server sends, until it closes, for these bytes."""
        received = bytearray()
        with self.connect_plain(timeout) if plain else self.connect(timeout) as connection:
            try:
                connection.sendall(sent)
                while chunk := connection.recv(65536):
                    received += chunk
            except (ConnectionError, ssl.SSLEOFError):
                pass
        return bytes(received)

    def count(self, name: str, **labels: str) -> int:
        return self.metrics.counter(name, **labels).value


async def _settled() -> None:
    """Let what was ended come to its end."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=_TIMEOUT)


def _exchanged(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> Answer:
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def _listening(family: socket.AddressFamily, host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(256)
    return listener


_LOOPBACK = (
    ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")) if socket.has_ipv6 else ((socket.AF_INET, "127.0.0.1"),)
)
