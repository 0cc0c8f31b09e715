"""Issuance as a client sees it: HTTPS with keep-alive, a running tree, fsync on; beside it `openssl x509 -req`.

The peer does less: it starts a process for each certificate, checks no name, keeps no record, and nothing it writes is
durable when it ends. Both sign with P-256 for a P-256 key. The clients send prepared octets, so that what is measured
is the server; `roots` is the same way without issuing.

    .venv/bin/python -m tests.bench.bench_api [SECONDS]
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.rig.peers import require_peer
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Tree, remove_directory, short_directory

CLIENTS = (1, 8)
_WARM_UP = 50

Request = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Figures:
    """How often something was done, and how long each time took (seconds)."""

    what: str
    clients: int
    per_second: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, what: str, clients: int, took: list[float], seconds: float) -> "Figures":
        cuts = statistics.quantiles(took, n=100)
        return cls(what, clients, len(took) / seconds, cuts[49], cuts[94], cuts[98])

    def row(self) -> str:
        times = "".join(f"{value * 1e3:9.2f}" for value in (self.p50, self.p95, self.p99))
        return f"{self.what:<22}{self.clients:>8}{self.per_second:>10.1f}{times}\n"


class Client:
    """One HTTPS connection; `send` writes prepared octets and waits for the whole answer."""

    def __init__(self, tree: Tree, request: bytes, expected: bytes) -> None:
        self._tree, self._request, self._expected = tree, request, expected
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Request:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._tree.api_port, ssl=self._tree.tls(), server_hostname="127.0.0.1"
        )
        return self.send

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self) -> None:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await self._reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 " + self._expected), head + body


async def measured(what: str, requests: list[Request], seconds: float) -> Figures:
    """Every client does its request again and again, each as soon as the one before is done."""
    took: list[float] = []

    async def run(request: Request, until: float) -> None:
        while (began := time.perf_counter()) < until:
            await request()
            took.append(time.perf_counter() - began)

    for request in requests:
        await request()
    began = time.perf_counter()
    await asyncio.gather(*(run(request, began + seconds) for request in requests))
    return Figures.of(what, len(requests), took, time.perf_counter() - began)


async def of_tree(tree: Tree, clients: int, seconds: float) -> list[Figures]:
    """Issuance and, for the share of everything around it, the root certificates."""
    body = json.dumps({"csr": signing_request("bench.example.test", key=new_key())}).encode()
    head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {tree.token}\r\n"
    issue = (
        f"POST /v1/certificates {head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    found = []
    for what, request, expected in (
        ("trustchain issue", issue + body, b"201"),
        ("trustchain roots", f"GET /v1/ca/roots {head}\r\n".encode(), b"200"),
    ):
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(Client(tree, request, expected)) for _ in range(clients)]
            for _ in range(_WARM_UP // clients):
                await asyncio.gather(*(send() for send in opened))
            found.append(await measured(what, opened, seconds))
    return found


async def of_openssl(openssl: str, directory: Path, clients: int, seconds: float) -> Figures:
    """One process for each certificate, as a shell script around openssl would do it."""
    (directory / "csr.pem").write_text(signing_request("bench.example.test", key=new_key()))
    authority = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=peer"]
    await _openssl(openssl, directory, *authority, "-keyout", "ca.key", "-out", "ca.pem")

    def signing(number: int) -> Request:
        sign = ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "1"]
        return lambda: _openssl(openssl, directory, *sign, "-copy_extensions", "copy", "-out", f"{number}.pem")

    return await measured("openssl x509 -req", [signing(number) for number in range(clients)], seconds)


async def _openssl(openssl: str, directory: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        openssl, *arguments, cwd=directory, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, told = await process.communicate()
    assert process.returncode == 0, told.decode()


def main(seconds: float = 5.0) -> None:
    """Print a row for each kind and number of clients, and the ratios to the peer."""
    openssl = require_peer("openssl")
    directory = short_directory()
    tree = Tree(directory / "d", settings={"api.rate_limit": 1e6, "api.rate_burst": 1_000_000})
    ratios = []
    try:
        tree.start_healthy()
        sys.stdout.write(f"{'':<22}{'clients':>8}{'/s':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}\n")
        for clients in CLIENTS:
            issue, roots = uvloop.run(of_tree(tree, clients, seconds))
            with tempfile.TemporaryDirectory() as peer:
                theirs = uvloop.run(of_openssl(openssl, Path(peer), clients, seconds))
            sys.stdout.write(issue.row() + roots.row() + theirs.row())
            ratios.append(
                f"{clients} client(s): {issue.per_second / theirs.per_second:.1f} times the certificates per second of "
                f"openssl, p50 {theirs.p50 / issue.p50:.1f} times shorter\n"
            )
        sys.stdout.write("".join(ratios))
        tree.stop()
    finally:
        tree.destroy()
        remove_directory(directory)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
