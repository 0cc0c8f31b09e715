"""Issuance through the whole tree: HTTPS, token, checks, serial row durable, signing, certificate durable, answer.

Each client keeps its connection and has one request under way. fsync is on. Beside it, in the same run, what the same
clients get for the root certificates: the share of HTTPS, the call and this client in the figures of issuance.

    .venv/bin/python -m tests.bench.bench_tree_issuance [SECONDS]
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import uvloop

from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Tree, running_tree

_CLIENTS = (1, 8)
_WARM_UP = 20


def main(seconds: float = 5.0) -> None:
    """Prints a row for each number of clients and each kind of request."""
    with running_tree(settings={"api.rate_limit": 1e6, "api.rate_burst": 1_000_000}) as tree:
        for clients in _CLIENTS:
            for kind in ("issue", "roots"):
                took = uvloop.run(_measure(tree, kind, clients, seconds))
                sys.stdout.write(_row(kind, clients, took, seconds))


async def _measure(tree: Tree, kind: str, clients: int, seconds: float) -> list[float]:
    headers = {"Authorization": f"Bearer {tree.token}"}
    connector = aiohttp.TCPConnector(ssl=tree.tls(), limit=clients)
    async with aiohttp.ClientSession(f"https://127.0.0.1:{tree.api_port}", connector=connector, headers=headers) as to:
        request = _issue(to) if kind == "issue" else _roots(to)
        for _ in range(_WARM_UP):
            await request()
        took: list[float] = []
        until = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_client(request, until, took))
        return took


async def _client(request: Callable[[], Awaitable[None]], until: float, took: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        await request()
        took.append(time.perf_counter() - began)


def _issue(to: aiohttp.ClientSession) -> Callable[[], Awaitable[None]]:
    body = {"csr": signing_request("bench.example.test", key=new_key())}

    async def request() -> None:
        async with to.post("/v1/certificates", json=body) as answer:
            assert answer.status == 201, await answer.text()
            await answer.read()

    return request


def _roots(to: aiohttp.ClientSession) -> Callable[[], Awaitable[None]]:
    async def request() -> None:
        async with to.get("/v1/ca/roots") as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    return request


def _row(kind: str, clients: int, took: list[float], seconds: float) -> str:
    cuts = statistics.quantiles(took, n=100)
    return (
        f"{kind:<8} {clients} client(s)   {len(took) / seconds:8.1f} /s   p50 {cuts[49] * 1e3:6.2f} ms   "
        f"p95 {cuts[94] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms\n"
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
