"""A certificate authority in a process of its own that ends by SIGKILL where a test says: `-m tests.fault.ca_process`.

serve DIRECTORY FD STEP COUNT   answers calls on the listening socket FD; dies when STEP is reached for the COUNTth
                                time (`never`: not at all); appends each serial number and form (`precertificate`,
                                `certificate`) that was signed to DIRECTORY/signed
starts DIRECTORY                first starts, each in a fork: the Nth dies before the Nth call that touches the disk;
                                after each death the next start must go on; prints a line for each, then `done N`
"""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import structlog
import uvloop
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from config.schema import Server, Settings
from monitoring.metrics import Metrics
from services.ca.assembly import rules_of, unix_seconds
from services.ca.hierarchy.files import certificate_pem
from services.ca.installation import open_installation
from services.ca.issuance import signing
from services.ca.issuance.certification import Logged
from services.ca.issuance.transparency import TransparencyLog
from services.ca.keys.signing_keys import SigningKey
from services.ca.metrics import families
from services.ca.serials import serial_text
from services.ca.service import build
from services.ca.storage import Reservation, Storage
from services.ct.messages import SignedCertificateTimestamp
from services.errors import ConfigurationError
from services.worker import Service, Worker

STEPS = ("before-reserve", "after-reserve", "after-precertificate", "after-log", "after-certificate", "after-store")
POISON = ExtensionOID.PRECERT_POISON
# Every call by which the first start changes something, or makes a change durable, outside SQLite's own code.
TOUCHING = ("open", "mkdir", "fchmod", "fsync", "rename", "replace", "link", "unlink", "rmdir", "ftruncate", "pwrite")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def settings_in(directory: Path) -> Settings:
    return Settings(server=Server(data_dir=str(directory / "data"), runtime_dir=str(directory / "run")))


class Fate:
    """Ends the process at one step of issuance."""

    def __init__(self, step: str, count: int) -> None:
        self.step = step
        self.left = count

    def reached(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                die()


def watch_issuance(fate: Fate, signed: Path) -> None:
    """Put the fate, and the list of what was signed, around the steps of issuance."""
    journal = os.open(signed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    reserve, sign, add, store = Storage.reserve, signing.certificate, TransparencyLog.add, Storage.store

    async def watched_reserve(self: Storage, reservation: Reservation) -> int:
        fate.reached("before-reserve")
        row = await reserve(self, reservation)
        fate.reached("after-reserve")
        return row

    def watched_sign(tbs: bytes, private_key: SigningKey) -> bytes:
        signed = sign(tbs, private_key)
        made = x509.load_der_x509_certificate(signed)
        form = "precertificate" if any(e.oid == POISON for e in made.extensions) else "certificate"
        os.write(journal, f"{serial_text(made.serial_number)} {form}\n".encode())
        fate.reached(f"after-{form}")
        return signed

    async def watched_add(
        self: TransparencyLog, chain: Sequence[bytes], issuer_key_hash: bytes, logged: bytes, trace: str = ""
    ) -> SignedCertificateTimestamp:
        promise = await add(self, chain, issuer_key_hash, logged, trace)
        fate.reached("after-log")
        return promise

    async def watched_store(
        self: Storage, row: int, certificate: bytes, issued_at: int, logged: Logged | None = None
    ) -> None:
        await store(self, row, certificate, issued_at, logged)
        fate.reached("after-store")

    Storage.reserve, Storage.store = watched_reserve, watched_store  # type: ignore[method-assign]
    TransparencyLog.add = watched_add  # type: ignore[method-assign]
    signing.certificate = watched_sign


async def serve(directory: Path, listener: socket.socket, fate: Fate) -> None:
    watch_issuance(fate, directory / "signed")
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
    service = await build(worker)
    await probe(service)
    await stop.wait()
    await service.drain()
    await service.close()
    await worker.close_peers()


async def probe(service: Service) -> None:
    """Probe as a worker does: what does not pass ends nothing, unless only an operator can mend it."""
    try:
        await service.probe()
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - as in services/worker.py
        structlog.stdlib.get_logger().warning("the probe fails", error=str(error))


def first_starts(directory: Path) -> None:
    number = 0
    died = True
    while died:
        number += 1
        shutil.rmtree(directory / "data", ignore_errors=True)
        died = in_a_fork(partial(_start, directory, dying_at=number)) == -signal.SIGKILL
        before = _hierarchy(directory)
        _demand(in_a_fork(partial(_start, directory)) == 0, f"the start after death {number} failed")
        after = _hierarchy(directory)
        _demand(len(after) == 6, f"after death {number} the hierarchy has {sorted(after)}")
        _demand(before in ({}, after), f"after death {number} the next start changed the hierarchy")
        root = settings_in(directory).paths.root_certificate.read_bytes()
        _demand(root in after.values(), f"after death {number} the clients' root is another one")
        left = [path.name for path in (directory / "data" / "ca").rglob(".*")]
        _demand(not left, f"after death {number} {left} are left")
        _say(f"{number} {'kept' if before else 'began anew'}")
    _say(f"done {number - 1}")


def _start(directory: Path, dying_at: int | None = None) -> None:
    if dying_at is not None:
        die_at_call(dying_at)

    async def opened() -> None:
        installation = await open_installation(settings_in(directory), unix_seconds, structlog.stdlib.get_logger())
        certificate_pem(installation.hierarchy.root)
        await installation.storage.close()

    asyncio.run(opened())


def die_at_call(number: int) -> None:
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


def _hierarchy(directory: Path) -> dict[str, bytes]:
    """What is committed: the document and the authorities that it names, under whichever names they are yet."""
    ca_dir = directory / "data" / "ca"
    document = ca_dir / "hierarchy.json"
    if not document.exists():
        return {}
    files = (path for path in (ca_dir / "authorities").rglob("*.pem"))
    found = {f"{path.parent.name.removeprefix('.')}/{path.name}": path.read_bytes() for path in files}
    return {"hierarchy.json": document.read_bytes(), **found}


def in_a_fork(run: Callable[[], None]) -> int:
    """The exit status, negative for a signal. This process has no threads."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            run()
            status = 0
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _demand(held: bool, otherwise: str) -> None:
    if not held:
        sys.exit(otherwise)


def main(mode: str, directory: str, *rest: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    if mode == "starts":
        first_starts(Path(directory))
    else:
        descriptor, step, count = rest
        run: Awaitable[None] = serve(Path(directory), socket.socket(fileno=int(descriptor)), Fate(step, int(count)))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run)  # type: ignore[arg-type] # a coroutine


if __name__ == "__main__":
    main(*sys.argv[1:])
