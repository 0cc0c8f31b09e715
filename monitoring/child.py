"""The life of the monitoring worker: start, beat, tick, probe itself, drain, leave.

It keeps the same promises to the supervisor as every worker: a heartbeat from the event loop that does the work,
readiness said once over the leash, exit at the end of the leash, drain on SIGTERM. It cannot share their code, because
monitoring imports nothing of the services. It has no configuration of its own to be wrong, so it never exits with 78.
"""

import asyncio
import ctypes
import faulthandler
import gc
import logging
import os
import platform
import signal
import socket
import sys
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn

import structlog
import uvloop
from setproctitle import setproctitle

from config.inheritance import READY, Inheritance
from config.schema import Log
from monitoring import server
from monitoring.alerts import Changes
from monitoring.block import BlockError, BlockReader, BoardWriter, ProbeState, RawBlock, SlotWriter
from monitoring.connections import Connections
from monitoring.export import MetricsExporter
from monitoring.hosts import OwnNames
from monitoring.metrics import WORKER_FAMILIES, Metrics
from monitoring.processes import Survey
from monitoring.scoring import SECOND
from monitoring.surveyor import Surveyor
from monitoring.system import Build, Clock, MonitoringSystem

DRAIN_SHARE: Final = 0.8
NOTED_LOOKS: Final = 50
NOTED_LOOK_SECONDS: Final = 0.01
FORMATS: Final = MetricsExporter().formats
"""Looked up here already, so that the fork server imports the exporters once for all monitoring workers to come."""
_PR_SET_PDEATHSIG: Final = 1


class BlockSource:
    """Reads the block by name. After damage it is opened anew each time, in case it was rebuilt."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reader: BlockReader | None = None

    def read(self) -> RawBlock:
        """Return a copy of the block. Raises BlockError."""
        if self._reader is None:
            self._reader = BlockReader.open(self._name)
        try:
            return self._reader.read()
        except BlockError:
            self._reader.close()
            self._reader = None
            raise


def run(inheritance: Inheritance) -> None:
    """Serve until SIGTERM. Raises SystemExit(1) when monitoring cannot go on; the supervisor restarts it."""
    _adopt(inheritance)
    log = structlog.stdlib.get_logger()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Life(inheritance, log).live())
    except Exception as error:
        log.critical("monitoring ends because of an error", exc_info=error)
        raise SystemExit(1) from error


def _adopt(inheritance: Inheritance) -> None:
    for ignored in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    # A blocked event loop does not notice the end of the leash: then the kernel ends this process with its parent.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    faulthandler.enable()
    setproctitle("trustchain: monitoring")
    configure_log(inheritance.settings.log)


def configure_log(settings: Log) -> None:
    """Write events to standard error, one a line, as the workers of the services do."""
    renderers: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if settings.format == "console":
        # The default shows the local variables of each frame, and with them whatever secret they hold.
        plain = structlog.dev.plain_traceback
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    identity = {"service": "monitoring", "pid": os.getpid()}
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _, __, event: {**event, **identity},
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def installed_version() -> str:
    """Return the version of the installed distribution; from a bare checkout there is none to tell."""
    try:
        return version("trustchain")
    except PackageNotFoundError:
        return "0+unknown"


def log_changes(log: Any, changes: Changes) -> None:
    """Write one event for each alert that fires, and one when it resolves."""
    for alert in changes.fired:
        write = log.error if alert.severity == "critical" else log.warning
        write("alert fires", alert=alert.name, component=alert.component, summary=alert.summary)
    for alert in changes.resolved:
        lasted = ((alert.resolved_ns or alert.since_ns) - alert.since_ns) / SECOND
        log.info("alert resolved", alert=alert.name, component=alert.component, lasted_seconds=round(lasted))


class _Life:
    """One monitoring worker from its first heartbeat to its exit. Raises BlockError when there is no block."""

    def __init__(self, inheritance: Inheritance, log: Any) -> None:
        settings = inheritance.settings
        self._inheritance, self._settings, self._log = inheritance, settings, log
        self._slot = SlotWriter.attach(inheritance.block, inheritance.slot, inheritance.generation)
        self._metrics = Metrics(self._slot, (*WORKER_FAMILIES, *server.FAMILIES))
        self._lag = self._metrics.histogram("trustchain_worker_event_loop_lag_seconds")
        self._probe_seconds = self._metrics.histogram("trustchain_worker_probe_seconds")
        clock = Clock()
        build = Build(installed_version(), platform.python_version(), socket.gethostname())
        publish = BoardWriter.attach(inheritance.block).publish
        source = BlockSource(inheritance.block)
        self._system = MonitoringSystem(settings, build, source.read, publish, partial(log_changes, log), clock)
        survey = Survey(settings.server.data_dir)
        self._surveyor = Surveyor(self._system, survey, settings.monitoring.health_check_interval, clock)
        self._exporter = MetricsExporter(settings.monitoring.export_format)
        self._stop = asyncio.Event()
        self._due_ns = 0
        self._drilled = False

    async def live(self) -> None:
        self._watch()
        self._beat()
        await self._surveyor.refresh()
        self._probe()
        tick = asyncio.create_task(self._keep_ticking())
        probing = asyncio.create_task(self._keep_probing())
        stop = asyncio.create_task(self._stop.wait())
        gc.freeze()  # what was loaded to start is never garbage: collections need not look at it again
        await self._become_ready()
        connections = self._serve()
        done, _ = await asyncio.wait((tick, probing, stop), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # an error of tick or probe ends this process: its parent knows what to do
        await self._leave(connections, (tick, probing))

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._inheritance.leash.setblocking(False)
        loop.add_reader(self._inheritance.leash, self._leash_pulled)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        if self._settings.supervisor.drills:
            loop.add_signal_handler(signal.SIGUSR1, _block_for_ever)
            loop.add_signal_handler(signal.SIGUSR2, self._fail_probes)

    def _beat(self) -> None:
        now = time.monotonic_ns()
        self._slot.beat(now)
        if self._due_ns:
            self._lag.record(max(0, now - self._due_ns))
        interval = self._settings.supervisor.heartbeat_interval
        self._due_ns = now + int(interval * SECOND)
        asyncio.get_running_loop().call_later(interval, self._beat)

    def _serve(self) -> Connections:
        endpoints = server.Endpoints(self._system, self._exporter, self._surveyor.refresh)
        names = OwnNames(self._settings.server.domain, (socket.gethostname(), *self._settings.api.names))
        answers = server.Server(endpoints, self._metrics, names)
        connections = Connections(self._inheritance.sockets["http"], answers.answer, answers.bad_http)
        connections.start()
        return connections

    async def _become_ready(self) -> None:
        """Say it. What is asked before the supervisor has noted it waits in the backlog: the answer would be that
        monitoring, and so everything, is not healthy because it starts."""
        try:
            self._inheritance.leash.send(READY)
        except OSError:
            _orphaned()
        self._log.info("ready")
        for _ in range(NOTED_LOOKS):
            if self._system.serves(self._inheritance.slot):
                break
            await asyncio.sleep(NOTED_LOOK_SECONDS)

    async def _keep_ticking(self) -> NoReturn:
        age_ns = int(self._settings.monitoring.collection_interval * SECOND * 0.9)
        while True:
            await self._surveyor.refresh(age_ns)
            await asyncio.sleep(self._system.tick())

    async def _keep_probing(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.monitoring.probe_interval)
            self._probe()

    def _probe(self) -> None:
        """Do the whole work once: read, judge, publish, render."""
        started = time.monotonic_ns()
        state, note = ProbeState.PASS, ""
        status = self._system.evaluate()
        self._exporter.export(self._system.exposition(), "prometheus")
        if status.blind:
            state, note = ProbeState.FAIL_ENVIRONMENT, status.blind
        if self._drilled:
            state, note = ProbeState.FAIL_OWN, "failing as told by SIGUSR2 (supervisor.drills)"
        now = time.monotonic_ns()
        self._probe_seconds.record(now - started)
        self._slot.probe(state, now, note)
        self._metrics.counter("trustchain_worker_probes_total", result=state.name.lower()).inc()

    async def _leave(self, connections: Connections, tasks: tuple[asyncio.Task[NoReturn], ...]) -> None:
        self._log.info("draining")
        for task in tasks:
            task.cancel()
        await connections.drain(self._settings.supervisor.drain_timeout * DRAIN_SHARE)
        self._log.info("stopped")
        if self._surveyor.busy:
            os._exit(0)  # a thread that hangs in a file system would hold up a normal exit

    def _terminate(self) -> None:
        if self._stop.is_set():
            self._log.warning("told twice to stop: leaving at once")
            os._exit(1)
        self._stop.set()

    def _fail_probes(self) -> None:
        self._drilled = True

    def _leash_pulled(self) -> None:
        try:
            if self._inheritance.leash.recv(64):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        _orphaned()


def _orphaned() -> NoReturn:
    """The supervisor is gone: nobody restarts, watches or stops this process any more."""
    os._exit(1)


def _block_for_ever() -> NoReturn:
    while True:
        time.sleep(1.0)
