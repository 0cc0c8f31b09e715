"""A certificate authority that ends by SIGKILL at a step of a revocation: `-m tests.fault.status_process`.

DIRECTORY FD STEP COUNT     answers calls on the listening socket FD; dies when STEP is reached for the COUNTth time
                            since the first revocation was asked for (`never`: not at all)
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop

from monitoring.metrics import Metrics
from services import whole_files
from services.ca.assembly import rules_of
from services.ca.metrics import families
from services.ca.service import build
from services.ca.status import crl
from services.ca.status.crl import Published
from services.ca.status.revocation import Revocation
from services.ca.status.storage import ListKey, StatusStorage
from services.worker import Worker
from tests.fault.ca_process import Fate, settings_in

STEPS = (
    "before-revoke",
    "after-revoke",
    "after-sign",
    "after-store",
    "after-write",
    "after-rename",
    "after-directory-sync",
)


class RevocationFate(Fate):
    """Does not look at what is published before anything is revoked."""

    begun = False

    def reached(self, step: str) -> None:
        self.begun = self.begun or step == "before-revoke"
        if self.begun:
            super().reached(step)


def watch(fate: RevocationFate) -> None:
    """Put the fate around the steps of a revocation and of the publication of its list."""
    revoke, store = StatusStorage.revoke, StatusStorage.store_crl

    async def watched_revoke(self: StatusStorage, revocation: Revocation) -> Revocation:
        fate.reached("before-revoke")
        counts = await revoke(self, revocation)
        fate.reached("after-revoke")
        return counts

    async def watched_store(self: StatusStorage, key: ListKey, published: Published) -> None:
        await store(self, key, published)
        fate.reached("after-store")

    StatusStorage.revoke, StatusStorage.store_crl = watched_revoke, watched_store  # type: ignore[method-assign]
    crl.sign = _followed(crl.sign, fate, "after-sign")
    whole_files.write_new = _followed(whole_files.write_new, fate, "after-write", of_list)
    setattr(whole_files, "os", _Renaming(fate))  # noqa: B010 - os, with one function watched
    whole_files.sync_directory = _followed(whole_files.sync_directory, fate, "after-directory-sync", of_list)


class _Renaming:
    """The module os as files are written with it."""

    def __init__(self, fate: RevocationFate) -> None:
        self.rename = _followed(os.rename, fate, "after-rename", of_list)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def of_list(path: Path, *_: object) -> bool:
    """Whether a file that is written belongs to a list, or is the directory of lists."""
    return "crl" in path.name


def _followed(
    call: Callable[..., Any], fate: RevocationFate, step: str, counts: Callable[..., bool] = lambda *_: True
) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        result = call(*arguments)
        if counts(*arguments):
            fate.reached(step)
        return result

    return watched


async def serve(directory: Path, listener: socket.socket, fate: RevocationFate) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = settings_in(directory)
    worker = Worker(
        service="ca",
        settings=settings,
        metrics=Metrics.in_memory(families(rules_of(settings).profiles)),
        sockets={"rpc": (listener,)},
        log=structlog.stdlib.get_logger(),
    )
    watch(fate)
    service = await build(worker)
    await stop.wait()
    await service.drain()
    await service.close()
    await worker.close_peers()


def main(directory: str, descriptor: str, step: str, count: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(directory), socket.socket(fileno=int(descriptor)), RevocationFate(step, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
