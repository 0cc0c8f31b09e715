"""Opening the authority's parts: what fails leaves nothing behind, so that it can be tried again."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from config.schema import Server, Settings
from monitoring.metrics import Metrics
from services.ca import assembly, service
from services.ca.messages import CertificatePage, ListCertificates
from services.ca.metrics import families
from services.errors import RemoteError, StorageUnavailable
from services.rpc_client import Client
from services.worker import Worker
from tests.rig.event_log import EventLog


def worker_in(directory: Path, listener: socket.socket) -> Worker:
    settings = Settings(server=Server(data_dir=str(directory / "data"), runtime_dir=str(directory / "run")))
    metrics = Metrics.in_memory(families(assembly.rules_of(settings).profiles))
    return Worker(service="ca", settings=settings, metrics=metrics, sockets={"rpc": (listener,)}, log=EventLog())


def running() -> list[str]:
    """What runs beside the test; a connection to the log is the worker's, and stays."""
    told = [repr(task.get_coro()) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return [each for each in told if "Client._connect" not in each]


async def ask_for_status(directory: Path) -> None:
    """A caller who does not wait for the worker to be ready."""
    client = Client(directory / "ca.sock")
    with suppress(RemoteError):
        await client.call("list", ListCertificates(), CertificatePage, timeout=5.0)
    await client.close()


@pytest.mark.parametrize("part", ["open_status", "open_reconciler"])
def test_a_part_that_cannot_be_opened_leaves_nothing_running(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def fails(*_: Any) -> Any:
        if part == "open_reconciler":
            await ask_for_status(short_path)  # so that the other part is open
        raise StorageUnavailable("the disk is full")

    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short_path / "ca.sock"))
            listener.listen()
            worker = worker_in(short_path, listener)
            opens = getattr(assembly, part)
            monkeypatch.setattr(assembly, part, fails)
            for _ in range(2):
                with pytest.raises(StorageUnavailable, match="the disk is full"):
                    await service.build(worker)
                await asyncio.sleep(0)
                assert not running()
            monkeypatch.setattr(assembly, part, opens)
            opened = await service.build(worker)
            await opened.drain()
            await opened.close()
            await worker.close_peers()

    asyncio.run(test())
