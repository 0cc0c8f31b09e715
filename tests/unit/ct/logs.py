"""A log on a host whose clock stands still, for tests: opened, asked, closed, opened again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from config.schema import Ct, Server, Settings
from monitoring.metrics import Metrics
from services.ct.installation import open_installation
from services.ct.messages import AcceptRoots, AddChain, EntryType, SignedCertificateTimestamp
from services.ct.metrics import FAMILIES, LogMetrics
from services.ct.server import TransparencyLog
from services.rpc_server import Call
from tests.unit.ct.chains import INTERMEDIATE, ROOT, certificate, names_of

NOW = 1_800_000_000_000
CALL = Call("a method", 2**63, "")


class Events:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    warning = critical = info


class Host:
    """One data directory; `log` is open inside `opened`."""

    def __init__(self, data_dir: Path, ct: Ct | None = None) -> None:
        self.settings = Settings(
            server=Server(data_dir=str(data_dir), runtime_dir=str(data_dir / "run")), ct=ct or Ct()
        )
        self.directory = self.settings.paths.ct_dir
        self.now = NOW
        self.events = Events()
        self.metrics = Metrics.in_memory(FAMILIES)
        self.log: TransparencyLog

    @asynccontextmanager
    async def opened(self, extra_roots: Sequence[bytes] = (ROOT,)) -> AsyncIterator[TransparencyLog]:
        installation = await open_installation(self.settings, lambda: self.now, self.events)
        self.log = TransparencyLog(installation, LogMetrics(self.metrics), self.events, lambda: self.now)
        try:
            await self.log.start(extra_roots)
            yield self.log
            await self.log.finish()
        finally:
            await self.log.finish()
            await self.log.close()

    def run(self, test: Callable[[TransparencyLog], Awaitable[Any]]) -> Any:
        """Open the log, do that with it, and close it."""

        async def whole() -> Any:
            async with self.opened() as log:
                return await test(log)

        return asyncio.run(whole())

    def count(self, name: str, **labels: str) -> int:
        return self.metrics.counter(name, **labels).value


@cache
def host_certificate(number: int) -> bytes:
    """Another certificate for each number, signed by the intermediate."""
    return certificate(
        f"host{number % 4}.example", "intermediate", extensions=[names_of("host.example")], serial=number + 1
    )


async def add(
    log: TransparencyLog, sent: bytes, entry_type: EntryType = "x509", *, above: Sequence[bytes] = (INTERMEDIATE, ROOT)
) -> SignedCertificateTimestamp:
    return await log.add(AddChain(chain=[sent, *above], entry_type=entry_type), CALL)


async def add_many(log: TransparencyLog, numbers: range) -> list[SignedCertificateTimestamp]:
    return await asyncio.gather(*(add(log, host_certificate(number)) for number in numbers))


async def accept(log: TransparencyLog, *roots: bytes) -> list[bytes]:
    return (await log.accept_roots(AcceptRoots(certificates=list(roots)), CALL)).certificates
