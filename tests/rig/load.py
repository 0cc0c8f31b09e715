"""A constant load of issuance and health requests on a tree, and what became of every request.

Rules: a connection that is refused is counted and never retried away. A connection that broke because its worker died
is counted and the same request is sent again, as a client of a service that is restarted does. 503 (what a worker needs
is being replaced) is counted and tried again. Anything else is kept in `unexpected`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp

from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Tree

_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10)
_PAUSE_AFTER_FAILURE = 0.01


@dataclass
class Outcome:
    """Counts of one load."""

    acknowledged: set[str] = field(default_factory=set)
    healths: int = 0
    refused: int = 0
    broken: int = 0
    unavailable: int = 0
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.acknowledged)} certificates acknowledged, {self.healths} health answers, "
            f"{self.refused} refused, {self.broken} broken and sent again, {self.unavailable} times 503, "
            f"{len(self.unexpected)} unexpected"
        )


class Load:
    """`with Load(tree) as load:` keeps the load up; `load.outcome` tells how it went, complete after the block."""

    def __init__(self, tree: Tree, issuers: int = 2, watchers: int = 2, pause: float = 0.02) -> None:
        """`issuers` and `watchers` clients send a request, wait `pause` seconds, send the next."""
        self.outcome = Outcome()
        self._tree = tree
        self._issuers, self._watchers, self._pause = issuers, watchers, pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for number in range(self._issuers):
                clients.create_task(self._client(self._issue, keep_alive=number % 2 == 1))
            for number in range(self._watchers):
                clients.create_task(self._client(self._watch, keep_alive=number % 2 == 1))

    async def _client(self, send: Callable[[aiohttp.ClientSession], Awaitable[None]], keep_alive: bool) -> None:
        # Without keep-alive every request connects anew: that is what could be refused.
        connector = aiohttp.TCPConnector(force_close=not keep_alive, ssl=self._tree.tls())
        async with aiohttp.ClientSession(connector=connector, timeout=_REQUEST_TIMEOUT) as session:
            while not self._ending.is_set():
                await send(session)
                await asyncio.sleep(self._pause)

    async def _issue(self, session: aiohttp.ClientSession) -> None:
        url = f"https://127.0.0.1:{self._tree.api_port}/v1/certificates"
        body = {"csr": signing_request("load.example.test", key=_KEY)}
        headers = {"Authorization": f"Bearer {self._tree.token}"}

        async def post() -> int:
            async with session.post(url, json=body, headers=headers) as answer:
                document = await answer.json(content_type=None)
                if answer.status == 201:
                    self.outcome.acknowledged.add(document["serial"])
                elif answer.status != 503:
                    self.outcome.unexpected.append(f"POST certificates: {answer.status} {document}")
                return answer.status

        await self._until_answered(post)

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        url = f"http://127.0.0.1:{self._tree.monitoring_port}/health"

        async def get() -> int:
            async with session.get(url) as answer:
                document = await answer.json()
                if answer.status not in (200, 503) or "health_score" not in document:
                    self.outcome.unexpected.append(f"GET health: {answer.status} {document}")
                self.outcome.healths += 1
                return 200  # 503 is an answer here, not a reason to ask again

        await self._until_answered(get)

    async def _until_answered(self, request: Callable[[], Awaitable[int]]) -> None:
        while not self._ending.is_set():
            try:
                if await request() != 503:
                    return
                self.outcome.unavailable += 1
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, ConnectionRefusedError):
                    self.outcome.refused += 1
                else:
                    self.outcome.broken += 1
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                self.outcome.broken += 1
            except TimeoutError:
                self.outcome.unexpected.append("no answer within 10 s")
            await asyncio.sleep(_PAUSE_AFTER_FAILURE)


_KEY = new_key()
