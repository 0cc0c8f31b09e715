"""The Certificate Transparency log as a worker's service: opened, answering calls, probed, drained."""

from __future__ import annotations

import time
from typing import Final

from services.ct import messages
from services.ct.installation import open_installation, read_roots
from services.ct.messages import Refusal
from services.ct.metrics import LogMetrics
from services.ct.server import TransparencyLog
from services.errors import ConfigurationError
from services.rpc_server import Handler, Server
from services.worker import Worker

LISTENER: Final = "rpc"


class CtService:
    """What the worker runs."""

    def __init__(self, log: TransparencyLog, server: Server) -> None:
        self._log = log
        self._server = server

    async def probe(self) -> None:
        """Do all that logging needs. Raises ProbeFailed, StorageUnavailable or ConfigurationError."""
        await self._log.probe()

    async def drain(self) -> None:
        """Accept no more calls, answer those in flight, and finish the batch that was begun."""
        await self._server.drain()
        await self._log.finish()

    async def close(self) -> None:
        """Close the record."""
        self._server.close()
        await self._log.close()


async def build(worker: Worker) -> CtService:
    """Open the log, or create it, and answer calls. Raises ConfigurationError and StorageUnavailable."""
    extra_roots = read_roots(worker.settings.ct.extra_roots)
    installation = await open_installation(worker.settings, unix_milliseconds, worker.log)
    log = TransparencyLog(installation, LogMetrics(worker.metrics), worker.log, unix_milliseconds)
    try:
        await log.start(extra_roots)
    except BaseException as error:
        await log.close()
        if isinstance(error, Refusal):
            raise ConfigurationError(f"ct.extra_roots: {error.detail}") from error
        raise
    handlers: dict[str, Handler] = {name: getattr(log, name) for name in messages.METHODS}
    methods = {name: (request, handlers[name]) for name, (request, _) in messages.METHODS.items()}
    server = Server(worker.sockets[LISTENER], methods)
    server.start()
    return CtService(log, server)


def unix_milliseconds() -> int:
    """The clock of the log: the wall clock of the host in milliseconds since the Unix epoch, whole seconds.

    OpenSSL compares a timestamp with a clock of whole seconds: what was logged in the present second would be rejected
    as logged in the future.
    """
    return int(time.time()) * 1000
