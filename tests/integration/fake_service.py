"""A service for tests of those who call it: real calls on a real socket, faults on demand."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from services.rpc_server import Call, Server

Answer = Callable[[Any], object]


class FakeService:
    """Serves the socket `path`. `fault` is raised, or called and awaited, before every answer."""

    def __init__(self, path: Path, methods: Mapping[str, tuple[type[Struct], Answer]]) -> None:
        self.requests: list[object] = []
        self.traces: list[str] = []
        self.fault: Any = None
        self._methods = {name: (kind, self._answering(answer)) for name, (kind, answer) in methods.items()}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._server: Server | None = None

    async def start(self) -> None:
        """Answer; also the calls that have waited in the backlog since `kill`."""
        self._server = Server([self._listener], self._methods)
        self._server.start()

    async def kill(self) -> None:
        """What a SIGKILL does: calls in flight are lost, the listening socket stays with its owner."""
        assert self._server is not None
        self._server.close()
        self._server = None

    async def stop(self) -> None:
        if self._server is not None:
            await self.kill()
        await asyncio.sleep(0)
        self._listener.close()

    def _answering(self, answer: Answer) -> Any:
        async def handler(request: Any, call: Call) -> object:
            self.requests.append(request)
            self.traces.append(call.trace)
            if isinstance(self.fault, Exception):
                raise self.fault
            if self.fault is not None:
                await self.fault(call)
            return answer(request)

        return handler
