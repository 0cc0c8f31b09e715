"""The process of a worker under test: a service that answers `echo`, with switches that a test sets by files.

In its directory: `probe` holds the name of the exception that the probe raises; `no-storage` keeps it from being built.
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from config.inheritance import Inheritance
from config.schema import Settings
from monitoring.metrics import Family, operation
from services import worker
from services.errors import ConfigurationError, DatabaseCorrupt, PeerGone, ProbeFailed, StorageUnavailable
from services.rpc_server import Call, Server
from services.worker import Worker

FAULTS: dict[str, Exception] = {
    "own": ProbeFailed("own", "own fault"),
    "dependency": PeerGone("ca ended"),
    "environment": StorageUnavailable("the disk is full"),
    "corrupt": DatabaseCorrupt("x.db is damaged: move it aside"),
    "unforeseen": ZeroDivisionError("by zero"),
}


class Echo(msgspec.Struct):
    text: str
    seconds: float = 0.0


@dataclass
class EchoService:
    worker: Worker
    server: Server
    directory: Path

    async def echo(self, request: Echo, _call: Call) -> Echo:
        with self.worker.metrics.operation("trustchain_echo_requests"):
            await asyncio.sleep(request.seconds)
            return request

    async def probe(self) -> None:
        told = _told(self.directory / "probe")
        if told == "hang":
            await asyncio.get_running_loop().create_future()
        if told:
            raise FAULTS[told]

    async def drain(self) -> None:
        await self.server.drain()

    async def close(self) -> None:
        (self.directory / "closed").touch()


def _told(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def families(settings: Settings) -> tuple[Family, ...]:
    """They may depend on settings, and on files that settings name."""
    if _told(Path(settings.server.data_dir) / "build") == "families":
        raise ConfigurationError("this label value is none: correct it")
    return operation("trustchain_echo_requests", "Echoes.")


async def build(own: Worker) -> EchoService:
    directory = Path(own.settings.server.data_dir)
    if _told(directory / "build") == "config":
        raise ConfigurationError("the key file is not yours: chown it")
    if _told(directory / "build") == "bug":
        raise ZeroDivisionError("by zero")
    if (directory / "no-storage").exists():
        raise StorageUnavailable("the disk is full")
    service = EchoService(own, Server((), {}), directory)
    service.server = Server(own.sockets["rpc"], {"echo": (Echo, service.echo)})
    service.server.start()
    return service


def main(inheritance: Inheritance, log: str) -> None:
    """What the supervisor's entry does before it gets here is not of interest, save the log."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stderr.fileno())
    worker.run(inheritance, build, families)
