"""One authority with its record, its log and a clock that stands still, for tests of its methods."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from monitoring.metrics import Metrics
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.issuance.rules import Rules
from services.ca.metrics import families
from services.ca.storage import Storage
from services.errors import (
    StorageUnavailable,
)
from services.rpc_server import Call
from tests.rig.event_log import EventLog
from tests.rig.fake_log import FakeLog, LogPeer
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, authority_over, hierarchy_of, rules
from tests.unit.ca.records import opened

CALL = Call("a method", 2**63, "")
CSR = pem(request(dns("host.example")))


class Host:
    """One authority with a clock that stands still, and its log with the same clock."""

    def __init__(self, storage: Storage, made: Hierarchy, ruled: Rules) -> None:
        self.now = NOW
        self.storage = storage
        self.log = EventLog()
        self.metrics = Metrics.in_memory(families(ruled.profiles))
        self.transparency = FakeLog(now=lambda: self.now * 1000)
        self.peer = LogPeer(self.transparency)
        self.authority = authority_over(
            storage, made, self.peer, ruled=ruled, metrics=self.metrics, log=self.log, now=lambda: self.now
        )

    def requests(self, result: str) -> int:
        return self.metrics.counter("trustchain_ca_requests_total", result=result).value

    def refusals(self, kind: str) -> int:
        return self.metrics.counter("trustchain_ca_refusals_total", kind=kind).value


def on_host(
    directory: Path,
    test: Callable[[Host], Awaitable[None]],
    made: Hierarchy | None = None,
    ruled: Rules | None = None,
) -> None:
    async def run() -> None:
        async with opened(directory) as storage:
            host = Host(storage, made or hierarchy_of(), ruled or rules())
            host.authority.start()
            await test(host)
            await host.authority.finish()
            await host.authority.close()

    asyncio.run(run())


def failing(detail: str) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: object) -> Any:
        raise StorageUnavailable(detail)

    return fail
