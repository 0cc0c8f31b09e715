"""A log in a process of its own that ends by SIGKILL where a test says: `-m tests.fault.ct_process`.

serve DIRECTORY FD STEP COUNT   answers calls on the listening socket FD; dies when STEP is reached for the COUNTth time
                                (`never`: not at all)
starts DIRECTORY                first starts, each in a fork: the Nth dies before the Nth call that touches the disk;
                                after each death the next start must go on; prints a line for each, then `done N`
one-by-one DIRECTORY N          N entries one after the other; prints `stored I` or `failed I` for each
full-disk DIRECTORY             on a file system of 4 MiB mounted at DIRECTORY; prints one line for each promise kept
"""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import structlog
import uvloop

from config.schema import Server, Settings
from monitoring.metrics import Metrics
from services.ct import tile_files
from services.ct.files import open_log
from services.ct.installation import open_installation
from services.ct.messages import GetTreeHead
from services.ct.metrics import FAMILIES
from services.ct.sequencing import Batch
from services.ct.server import TransparencyLog
from services.ct.service import build, unix_milliseconds
from services.ct.storage import LogStorage
from services.errors import StorageUnavailable
from services.rfc6962.verifier import SignedHead
from services.worker import Worker
from tests.unit.ct.logs import CALL, Host, add, host_certificate

# What each batch does, in its order. A file is named by its rename: before that it is whole, under another name.
STEPS = (
    "issuer-unnamed",
    "issuer-named",
    "before-commit",
    "after-commit",
    "tile-unnamed",
    "tile-named",
    "checkpoint-unnamed",
    "checkpoint-named",
    "after-publish",
)
# Every call by which the first start changes something, or makes a change durable, outside SQLite's own code.
TOUCHING = ("open", "mkdir", "fchmod", "fsync", "rename", "unlink")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def settings_in(directory: Path) -> Settings:
    return Settings(server=Server(data_dir=str(directory / "data"), runtime_dir=str(directory / "run")))


class Fate:
    """Ends the process at one step of sequencing."""

    def __init__(self, step: str, count: int) -> None:
        self.step = step
        self.left = count

    def reached(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                die()


def watch_sequencing(fate: Fate) -> None:
    """Put the fate around the steps of a batch."""
    commit, publish, rename = LogStorage.commit, LogStorage.publish, os.rename

    async def watched_commit(self: LogStorage, batch: Batch, signed: SignedHead) -> None:
        fate.reached("before-commit")
        await commit(self, batch, signed)
        fate.reached("after-commit")

    async def watched_publish(self: LogStorage) -> None:
        await publish(self)
        if self.published.head.size:
            fate.reached("after-publish")

    def watched_rename(source: Path, target: Path) -> None:
        what = next((name for name in ("issuer", "tile", "checkpoint") if f"/{name}" in str(target)), "")
        fate.reached(f"{what}-unnamed")
        rename(source, target)
        fate.reached(f"{what}-named")

    LogStorage.commit, LogStorage.publish = watched_commit, watched_publish  # type: ignore[method-assign]
    tile_files.os.rename = watched_rename  # type: ignore[attr-defined]


async def serve(directory: Path, listener: socket.socket, fate: Fate) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = Worker(
        service="ct",
        settings=settings_in(directory),
        metrics=Metrics.in_memory(FAMILIES),
        sockets={"rpc": (listener,)},
        log=structlog.stdlib.get_logger(),
    )
    service = await build(worker)
    await service.probe()
    watch_sequencing(fate)
    await stop.wait()
    await service.drain()
    await service.probe()
    await service.close()


def first_starts(directory: Path) -> None:
    number = 0
    died = True
    while died:
        number += 1
        shutil.rmtree(directory / "data", ignore_errors=True)
        died = _in_a_fork(partial(_start, directory, dying_at=number)) == -signal.SIGKILL
        before = _key(directory)
        _demand(_in_a_fork(partial(_start, directory)) == 0, f"the start after death {number} failed")
        after = _key(directory)
        _demand(after != b"", f"after death {number} there is no key")
        _demand(before in (b"", after), f"after death {number} the next start made another key")
        left = [path.name for path in (directory / "data" / "ct").rglob("*") if path.name.startswith(".")]
        _demand(not left, f"after death {number} {left} are left")
        _say(f"{number} {'kept' if before else 'began anew'}")
    _say(f"done {number - 1}")


def _start(directory: Path, dying_at: int | None = None) -> None:
    if dying_at is not None:
        _die_at_call(dying_at)

    async def opened() -> None:
        installation = await open_installation(settings_in(directory), unix_milliseconds, structlog.stdlib.get_logger())
        await installation.storage.close()

    asyncio.run(opened())


def _die_at_call(number: int) -> None:
    left = number

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                die()
            return call(*arguments, **named)

        return counted

    for name in TOUCHING:
        setattr(os, name, watched(getattr(os, name)))


def _key(directory: Path) -> bytes:
    path = directory / "data" / "ct" / "log.key"
    return path.read_bytes() if path.exists() else b""


def _in_a_fork(run: Callable[[], None]) -> int:
    """The exit status, negative for a signal. This process has no threads."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            run()
            status = 0
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def store_one_by_one(directory: Path, entries: int) -> None:
    async with Host(directory).opened() as log:
        for number in range(entries):
            try:
                sct = await add(log, host_certificate(number))
            except StorageUnavailable:
                _say(f"failed {number}")
            else:
                _say(f"stored {number} {sct.leaf_index}")


async def fill_disk(directory: Path) -> None:
    host, ballast = Host(directory), directory / "ballast"
    async with host.opened() as log:
        stored = await _store(log, range(300))
        _fill(ballast)
        full = await _until_full(log, stored)
        before = (await log.tree_head(GetTreeHead(), CALL)).tree_size
        _demand(before == len(stored), "the tree told while full is not that of the stored entries")
        await log._prove_tree(log._storage.published.head)
        _say("read while full")
        ballast.unlink()
        await log.probe()
        stored += await _store(log, range(full, full + 300))
        _say("recovered without reopening")
    _fill(ballast)
    with contextlib.suppress(StorageUnavailable):
        async with host.opened() as log:
            await log.probe()
            _demand(False, "a full disk is not told")
    _say("opening tells")
    ballast.unlink()
    async with host.opened() as log:
        stored += await _store(log, range(full + 300, full + 310))
        await log.probe()
    with open_log(host.directory) as read:
        _demand(read.recomputed_root() == read.signed.head.root, "the entries do not lead to the root")
        _demand(read.size == len(stored) == len(set(stored)), "an entry is lost, or has two places")
    _say("all kept")


async def _store(log: TransparencyLog, numbers: range) -> list[int]:
    scts = await asyncio.gather(*(add(log, host_certificate(number)) for number in numbers))
    return [sct.leaf_index for sct in scts]


async def _until_full(log: TransparencyLog, stored: list[int]) -> int:
    """The number of the first entry that found no room."""
    for number in range(300, 10_000):
        try:
            stored += await _store(log, range(number, number + 1))
        except StorageUnavailable:
            _say("full")
            return number
    sys.exit("the disk did not become full")


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _demand(held: bool, otherwise: str) -> None:
    if not held:
        sys.exit(otherwise)


def main(mode: str, directory: str, *rest: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    place = Path(directory)
    if mode == "starts":
        first_starts(place)
    elif mode == "one-by-one":
        uvloop.run(store_one_by_one(place, int(rest[0])))
    elif mode == "full-disk":
        uvloop.run(fill_disk(place))
    else:
        descriptor, step, count = rest
        uvloop.run(serve(place, socket.socket(fileno=int(descriptor)), Fate(step, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
