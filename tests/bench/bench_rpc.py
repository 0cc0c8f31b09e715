"""What one call between two workers costs, beside HTTP and JSON over a Unix socket (aiohttp) in the same run.

    python -m tests.bench.bench_rpc

The body is of the size of a certificate request (1.5 kB), the reply of a certificate with its chain (3 kB). CPU is that
of both processes together, user and system; each answers for its own. Rounds of the two take turns; the best counts.
"""

import asyncio
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from services.rpc_client import Client
from services.rpc_server import Call, Server

ROUNDS = 5
CALLS = 4_000
PIPELINED = (1, 8, 64)


class Issue(msgspec.Struct):
    csr: bytes
    profile: str | None = None
    validity_seconds: int | None = None
    requester: str = "bench"


class Certificate(msgspec.Struct):
    serial: str
    certificate: str
    names: list[str]


REQUEST = Issue(bytes(range(256)) * 6)
REPLY = Certificate("0a" * 16, "x" * 3000, ["a.example", "b.example"])
TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


async def issue(_request: Issue, _call: Call) -> Certificate:
    return REPLY


async def cpu(_request: None, _call: Call) -> int:
    return time.process_time_ns()


def serve_calls(listener: socket.socket) -> None:
    async def serve() -> None:
        Server((listener,), {"issue": (Issue, issue), "cpu": (None, cpu)}).start()
        await asyncio.get_running_loop().create_future()

    uvloop.run(serve())


def serve_http(listener: socket.socket) -> None:
    async def post(request: web.Request) -> web.Response:
        msgspec.json.decode(await request.read(), type=Issue)
        return web.Response(body=msgspec.json.encode(REPLY), content_type="application/json")

    async def spent(_request: web.Request) -> web.Response:
        return web.Response(text=str(time.process_time_ns()))

    async def serve() -> None:
        application = web.Application()
        application.add_routes([web.post("/issue", post), web.get("/cpu", spent)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        await asyncio.get_running_loop().create_future()

    uvloop.run(serve())


@dataclass
class Measured:
    """The best of all rounds with so many calls at once."""

    cpu_us: float = float("inf")
    wall_us: float = float("inf")
    latencies_us: list[float] = field(default_factory=list)


@dataclass
class Way:
    """One way to ask the other process."""

    name: str
    ask: Callable[[], Awaitable[object]]
    peer_cpu_ns: Callable[[], Awaitable[int]]
    measured: dict[int, Measured] = field(default_factory=lambda: {count: Measured() for count in PIPELINED})


async def measure(way: Way, pipelined: int) -> None:
    latencies: list[float] = []

    async def lane() -> None:
        for _ in range(CALLS // pipelined):
            started = time.perf_counter_ns()
            await way.ask()
            latencies.append((time.perf_counter_ns() - started) / 1e3)

    cpu_before = time.process_time_ns() + await way.peer_cpu_ns()
    started = time.perf_counter_ns()
    await asyncio.gather(*(lane() for _ in range(pipelined)))
    wall = time.perf_counter_ns() - started
    spent = time.process_time_ns() + await way.peer_cpu_ns() - cpu_before
    best = way.measured[pipelined]
    best.cpu_us = min(best.cpu_us, spent / CALLS / 1e3)
    best.wall_us = min(best.wall_us, wall / CALLS / 1e3)
    best.latencies_us += latencies


def table(ways: list[Way]) -> str:
    head = f"{'calls at once':<16}{'way':<24}{'CPU both ends':>14}{'per second':>12}{'p50':>10}{'p99':>10}"
    lines = [head]
    for pipelined in PIPELINED:
        for way in ways:
            best = way.measured[pipelined]
            ordered = sorted(best.latencies_us)
            p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
            figures = f"{best.cpu_us:>11.1f} µs{1e6 / best.wall_us:>12.0f}{p50:>7.0f} µs{p99:>7.0f} µs"
            lines.append(f"{pipelined:<16}{way.name:<24}{figures}")
    return "\n".join(lines) + "\n"


async def compare(directory: Path, write: Callable[[str], object]) -> None:
    async with AsyncExitStack() as stack:
        client = Client(directory / "calls.sock")
        stack.push_async_callback(client.close)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                "http://peer", connector=aiohttp.UnixConnector(str(directory / "http.sock"), limit=64)
            )
        )

        async def post() -> Certificate:
            async with http.post("/issue", data=msgspec.json.encode(REQUEST)) as response:
                return msgspec.json.decode(await response.read(), type=Certificate)

        async def http_cpu() -> int:
            async with http.get("/cpu") as response:
                return int(await response.text())

        ways = [
            Way(
                "calls between workers",
                lambda: client.call("issue", REQUEST, Certificate, timeout=10, trace=TRACE),
                lambda: client.call("cpu", None, int, timeout=10),
            ),
            Way("aiohttp, JSON", post, http_cpu),
        ]
        for _ in range(ROUNDS):
            for pipelined in PIPELINED:
                for way in ways:
                    await measure(way, pipelined)
        write(table(ways))


def run(write: Callable[[str], object]) -> None:
    """Start both peers, measure, print, end them."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        processes: list[Any] = []
        for name, serve in (("calls", serve_calls), ("http", serve_http)):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(f"{directory}/{name}.sock")
                listener.listen(128)
                process = context.Process(target=serve, args=(listener,), daemon=True)
                process.start()
                processes.append(process)
        try:
            uvloop.run(compare(Path(directory), write))
        finally:
            for process in processes:
                process.kill()
                process.join()


if __name__ == "__main__":
    run(sys.stdout.write)
