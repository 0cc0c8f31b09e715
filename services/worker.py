"""What every worker does, whatever its service: start, beat, probe itself, drain, leave.

Rules:
- The heartbeat is written by the event loop that does the work, by a timer of that loop and never by a thread: a loop
  that is blocked stops beating, and the supervisor replaces the worker. The same timer measures how late the loop is.
- Ready is said once, over the leash, after the service serves and its first probe has run (whatever it found: a worker
  with a full disk must be there to say so).
- End of file on the leash means that the supervisor is gone: the worker leaves at once.
- SIGTERM: drain, close, exit 0, all within `drain_timeout`. A second SIGTERM: exit at once. SIGINT is the supervisor's.
- Exit codes: 0 stopped as asked; 78 (ConfigurationError) an operator has to act, a restart would not help; 1 otherwise.
- While there is no room to open the storage the worker waits for it, unready and beating: dying would help nobody.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

import structlog
import uvloop

from config.inheritance import EXIT_CONFIG, READY, Inheritance, SealedSecret
from config.schema import Settings
from monitoring.block import ProbeState, SlotWriter
from monitoring.metrics import WORKER_FAMILIES, Family, Metrics
from services import logs
from services.errors import ConfigurationError, ProbeFailed, StorageUnavailable
from services.probing import Finding, finding_of, passed
from services.rpc_client import Client

STORAGE_RETRY_SECONDS: Final = 1.0
FAILED_PROBE_RETRY_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = (1.0, 5.0)
DRAIN_SHARE: Final = 0.8  # of drain_timeout; what is left is for closing


class Service(Protocol):
    """What `build` returns: something that serves already."""

    async def probe(self) -> None:
        """Do the service's work once, for real. Returns when it is well; raises ProbeFailed, or anything else."""
        ...

    async def drain(self) -> None:
        """Stop accepting, finish what is in flight."""
        ...

    async def close(self) -> None:
        """Let go of files and connections. Called after `drain`, also when that ran out of time."""
        ...


@dataclass(kw_only=True)
class Worker:
    """All that a service is built from. `sockets` are bound and listening; `probe_timeout` is in seconds."""

    service: str
    settings: Settings
    metrics: Metrics
    sockets: Mapping[str, tuple[socket.socket, ...]]
    secrets: Mapping[str, SealedSecret] = field(default_factory=dict)
    index: int = 0
    log: Any = field(default_factory=structlog.stdlib.get_logger)
    _peers: dict[str, Client] = field(default_factory=dict)

    @property
    def probe_timeout(self) -> float:
        """How long a probe may take. A probe that asks a peer gives it less, so that the blame falls on the peer."""
        shortest, longest = PROBE_TIMEOUT_SECONDS
        return min(longest, max(shortest, self.settings.monitoring.probe_interval))

    def secret(self, name: str) -> bytes | None:
        """The secret of that name, as the topology names them; None if settings give none."""
        sealed = self.secrets.get(name)
        return None if sealed is None else sealed.read()

    def peer(self, service: str) -> Client:
        """The one connection to `service`; it is closed after the service."""
        client = self._peers.get(service)
        if client is None:
            client = self._peers[service] = Client(self.settings.paths.rpc_socket(service))
        return client

    async def close_peers(self) -> None:
        for client in self._peers.values():
            await client.close()


Build = Callable[[Worker], Awaitable[Service]]
Families = Iterable[Family] | Callable[[Settings], Iterable[Family]]


def run(inheritance: Inheritance, build: Build, families: Families = ()) -> None:
    """Live as the worker of `inheritance` until SIGTERM; `build` makes the service. Raises SystemExit (78 or 1).

    `families` may depend on settings; what finds fault with them raises ConfigurationError.
    """
    settings = inheritance.settings
    for ignored in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    logs.configure(settings.log, inheritance.service, inheritance.index)
    log = structlog.stdlib.get_logger()
    try:
        declared = families(settings) if callable(families) else families
        slot = SlotWriter.attach(inheritance.block, inheritance.slot, inheritance.generation)
        worker = Worker(
            service=inheritance.service,
            index=inheritance.index,
            settings=settings,
            metrics=Metrics(slot, (*WORKER_FAMILIES, *declared)),
            sockets=inheritance.sockets,
            secrets=inheritance.secrets,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Life(worker, slot, inheritance.leash).live(build))
    except ConfigurationError as error:
        log.critical("cannot run until the operator acts", error=str(error))
        raise SystemExit(EXIT_CONFIG) from error
    except Exception as error:
        log.critical("the worker ends because of an error", exc_info=error)
        raise SystemExit(1) from error


class _Life:
    """One worker from its first heartbeat to its exit."""

    def __init__(self, worker: Worker, slot: SlotWriter, leash: socket.socket) -> None:
        self._worker = worker
        self._slot = slot
        self._leash = leash
        self._log = worker.log
        self._stop = asyncio.Event()
        self._due_ns = 0
        self._lag = worker.metrics.histogram("trustchain_worker_event_loop_lag_seconds")
        self._probe_seconds = worker.metrics.histogram("trustchain_worker_probe_seconds")
        self._last = ProbeState.UNKNOWN
        self._drilled = False

    async def live(self, build: Build) -> None:
        self._watch()
        self._beat()
        stop = asyncio.ensure_future(self._stop.wait())
        start = asyncio.ensure_future(self._start(build))
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            await asyncio.wait((start,))
            return
        service = start.result()
        probing = asyncio.ensure_future(self._keep_probing(service))
        await asyncio.wait((probing, stop), return_when=asyncio.FIRST_COMPLETED)
        if probing.done():
            probing.result()  # ends only by an error that no restart would help against
        probing.cancel()
        await self._leave(service)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._leash.setblocking(False)
        loop.add_reader(self._leash, self._leash_pulled)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        if self._worker.settings.supervisor.drills:
            loop.add_signal_handler(signal.SIGUSR1, _block_for_ever)
            loop.add_signal_handler(signal.SIGUSR2, self._fail_probes)

    def _beat(self) -> None:
        now = time.monotonic_ns()
        self._slot.beat(now)
        if self._due_ns:
            self._lag.record(max(0, now - self._due_ns))
        interval = self._worker.settings.supervisor.heartbeat_interval
        self._due_ns = now + int(interval * 1e9)
        asyncio.get_running_loop().call_later(interval, self._beat)

    async def _start(self, build: Build) -> Service:
        service = await self._built(build)
        await self._probe(service)
        try:
            self._leash.send(READY)
        except OSError:
            _orphaned()
        self._log.info("ready")
        return service

    async def _built(self, build: Build) -> Service:
        while True:
            try:
                return await build(self._worker)
            except StorageUnavailable as error:
                self._publish(finding_of(error))
                await asyncio.sleep(STORAGE_RETRY_SECONDS)

    async def _keep_probing(self, service: Service) -> NoReturn:
        interval = self._worker.settings.monitoring.probe_interval
        while True:
            well = self._last is ProbeState.PASS
            await asyncio.sleep(interval if well else min(interval, FAILED_PROBE_RETRY_SECONDS))
            await self._probe(service)

    async def _probe(self, service: Service) -> None:
        """Probe once. Raises ConfigurationError when the probe found what only an operator can mend."""
        started = time.monotonic_ns()
        try:
            if self._drilled:
                raise ProbeFailed("own", "failing as told by SIGUSR2 (supervisor.drills)")
            async with asyncio.timeout(self._worker.probe_timeout):
                await service.probe()
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure is a finding, and says whose fault it is
            finding = finding_of(error)
        else:
            finding = passed()
        self._probe_seconds.record(time.monotonic_ns() - started)
        self._publish(finding)

    def _publish(self, finding: Finding) -> None:
        self._slot.probe(finding.state, time.monotonic_ns(), finding.note)
        self._worker.metrics.counter("trustchain_worker_probes_total", result=finding.result).inc()
        if finding.state is not self._last:
            if finding.state is not ProbeState.PASS:
                self._log.warning("the probe fails", cause=finding.result, note=finding.note, exc_info=finding.error)
            elif self._last is not ProbeState.UNKNOWN:
                self._log.info("the probe passes again")
            self._last = finding.state

    async def _leave(self, service: Service) -> None:
        allowed = self._worker.settings.supervisor.drain_timeout
        started = time.monotonic()
        self._log.info("draining")
        try:
            async with asyncio.timeout(allowed * DRAIN_SHARE):
                await service.drain()
        except TimeoutError:
            self._log.warning("not everything in flight was finished in time", seconds=allowed * DRAIN_SHARE)
        try:
            async with asyncio.timeout(max(0.0, allowed - (time.monotonic() - started))):
                await service.close()
                await self._worker.close_peers()
        except TimeoutError:
            self._log.warning("not everything was closed in time")
            os._exit(0)  # a thread that hangs, on a disk perhaps, would hold up a normal exit
        self._log.info("stopped")

    def _terminate(self) -> None:
        if self._stop.is_set():
            self._log.warning("told twice to stop: leaving at once")
            os._exit(1)
        self._stop.set()

    def _leash_pulled(self) -> None:
        try:
            if self._leash.recv(64):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        _orphaned()

    def _fail_probes(self) -> None:
        self._drilled = True


def _orphaned() -> NoReturn:
    """The supervisor is gone: nobody restarts, watches or stops this process any more."""
    os._exit(1)


def _block_for_ever() -> NoReturn:
    while True:
        time.sleep(1.0)
