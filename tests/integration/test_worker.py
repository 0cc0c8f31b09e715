"""A worker's whole life, in a real process with a real block, leash and socket."""

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import uvloop

from config.inheritance import READY, Inheritance
from config.schema import Log, Monitoring, Server, Settings, Supervisor
from monitoring.block import Block, BlockReader, ProbeState
from monitoring.snapshot import Decoder, SlotSnapshot
from services.rpc_client import Client
from tests.integration import worker_child
from tests.integration.worker_child import Echo
from tests.rig.polling import eventually

SLOT = 3


class Running:
    """One worker, and what its supervisor would hold of it."""

    def __init__(self, directory: Path, **supervisor: Any) -> None:
        self.directory = directory
        self.path = directory / "ca.sock"
        self.log = directory / "log"
        self.block = Block.create(f"trustchain-test-{os.getpid()}")
        self.block.assign(SLOT, "ca", 0)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.leash, self._childs_leash = socket.socketpair()
        self.leash.settimeout(20)
        settings = Settings(
            server=Server(data_dir=str(directory), runtime_dir=str(directory)),
            supervisor=Supervisor(heartbeat_interval=0.05, **supervisor),
            monitoring=Monitoring(probe_interval=0.1),
            log=Log(format="json"),
        )
        inheritance = Inheritance(
            "ca", 0, settings, {"rpc": (self.listener,)}, self._childs_leash, self.block.name, SLOT, 1
        )
        context = multiprocessing.get_context("spawn")
        self.process: BaseProcess = context.Process(target=worker_child.main, args=(inheritance, str(self.log)))
        self.process.start()
        pid = self.process.pid
        assert pid is not None
        self.pid = pid
        self.block.record_start(SLOT, pid, 1, time.monotonic_ns())
        self._childs_leash.close()

    def ready(self) -> "Running":
        assert self.leash.recv(64) == READY, self.log_text()
        return self

    def slot(self) -> SlotSnapshot:
        reader = BlockReader.open(self.block.name)
        try:
            snapshot = Decoder().decode(reader.read())
        finally:
            reader.close()
        return next(slot for slot in snapshot.slots if slot.slot == SLOT)

    def probe_is(self, state: ProbeState) -> SlotSnapshot:
        return eventually(f"the probe says {state.name}", lambda: self._with(state), within=10)

    def beats(self) -> bool:
        before = self.slot().heartbeat_ns
        time.sleep(0.3)
        return self.slot().heartbeat_ns > before

    def told(self, name: str, text: str = "") -> None:
        (self.directory / name).write_text(text)

    def exit_code(self, within: float = 10.0) -> int | None:
        self.process.join(within)
        return self.process.exitcode

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.leash.close()
        self.listener.close()
        self.block.close()

    def _with(self, state: ProbeState) -> SlotSnapshot | None:
        slot = self.slot()
        return slot if slot.probe_state is state else None


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    running: list[Running] = []

    def start(**supervisor: Any) -> Running:
        running.append(Running(tmp_path, **supervisor))
        return running[-1]

    yield start
    for one in running:
        one.close()


def echo(running: Running, text: str, seconds: float = 0.0) -> Echo:
    async def ask() -> Echo:
        client = Client(running.path)
        try:
            return await client.call("echo", Echo(text, seconds), Echo, timeout=10)
        finally:
            await client.close()

    return uvloop.run(ask())


def test_ready_comes_after_the_service_serves_and_the_first_probe_ran(started: Any) -> None:
    running = started().ready()
    assert running.slot().probe_state is ProbeState.PASS
    assert echo(running, "x").text == "x"
    assert running.beats()


def test_its_metrics_are_in_its_slot(started: Any) -> None:
    running = started().ready()
    echo(running, "x")
    running.beats()
    values = {(series.name, series.labels): series.value for series in running.slot().series}
    assert values["trustchain_echo_requests_total", (("result", "ok"),)] == 1
    passed = values["trustchain_worker_probes_total", (("result", "pass"),)]
    assert isinstance(passed, int)
    assert passed >= 1
    for histogram in ("trustchain_worker_event_loop_lag_seconds", "trustchain_worker_probe_seconds"):
        value = values[histogram, ()]
        assert not isinstance(value, int | float)
        assert value.count >= 1


def test_sigterm_finishes_what_is_in_flight_and_exits_cleanly(started: Any) -> None:
    running = started().ready()

    async def scenario() -> None:
        client = Client(running.path)
        calls = [asyncio.ensure_future(client.call("echo", Echo("x", 0.5), Echo, timeout=10)) for _ in range(5)]
        await asyncio.sleep(0.2)
        os.kill(running.pid, signal.SIGTERM)
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["x"] * 5
        await client.close()

    uvloop.run(scenario())
    assert running.exit_code() == 0
    assert (running.directory / "closed").exists()
    assert '"stopped"' in running.log_text()


def test_a_drain_is_bounded_and_beats_meanwhile(started: Any) -> None:
    running = started(drain_timeout=1.0).ready()

    async def scenario() -> None:
        client = Client(running.path)
        call = asyncio.ensure_future(client.call("echo", Echo("x", 60), Echo, timeout=60))
        await asyncio.sleep(0.2)
        os.kill(running.pid, signal.SIGTERM)
        assert await asyncio.to_thread(running.beats)
        await asyncio.wait((call,))
        assert call.exception() is not None
        await client.close()

    started_at = time.monotonic()
    uvloop.run(scenario())
    assert running.exit_code() == 0
    assert time.monotonic() - started_at < 2.5
    assert "not everything in flight was finished in time" in running.log_text()


def test_a_second_sigterm_ends_it_at_once(started: Any) -> None:
    running = started(drain_timeout=60.0).ready()

    async def scenario() -> None:
        client = Client(running.path)
        call = asyncio.ensure_future(client.call("echo", Echo("x", 60), Echo, timeout=60))
        await asyncio.sleep(0.2)
        for _ in range(2):
            os.kill(running.pid, signal.SIGTERM)
            await asyncio.sleep(0.1)
        await asyncio.wait((call,))
        assert call.exception() is not None
        await client.close()

    uvloop.run(scenario())
    assert running.exit_code(1.0) == 1


def test_sigint_is_not_its_business(started: Any) -> None:
    running = started().ready()
    os.kill(running.pid, signal.SIGINT)
    assert running.beats()


def test_without_its_supervisor_it_is_gone_within_a_second(started: Any) -> None:
    running = started().ready()
    running.leash.close()
    assert running.exit_code(1.0) == 1


@pytest.mark.parametrize(
    ("mistake", "code", "line"),
    [
        ("config", 78, "chown it"),
        ("families", 78, "this label value is none: correct it"),
        ("bug", 1, "ZeroDivisionError: by zero"),
    ],
)
def test_an_error_at_start_has_its_exit_code_and_its_line(
    started: Any, tmp_path: Path, mistake: str, code: int, line: str
) -> None:
    (tmp_path / "build").write_text(mistake)
    running = started()
    assert running.exit_code() == code
    assert line in running.log_text()


@pytest.mark.parametrize(
    ("fault", "state", "note"),
    [
        ("own", ProbeState.FAIL_OWN, "own fault"),
        ("dependency", ProbeState.FAIL_DEPENDENCY, "ca ended"),
        ("environment", ProbeState.FAIL_ENVIRONMENT, "the disk is full"),
        ("unforeseen", ProbeState.FAIL_OWN, "ZeroDivisionError: by zero"),
    ],
)
def test_a_failing_probe_shows_cause_and_note_and_recovery_shows(
    started: Any, fault: str, state: ProbeState, note: str
) -> None:
    running = started().ready()
    running.told("probe", fault)
    assert note in running.probe_is(state).note
    running.told("probe")
    assert running.probe_is(ProbeState.PASS).note == ""
    assert "the probe passes again" in running.log_text()


def test_a_probe_that_hangs_is_a_fault_of_its_own(started: Any) -> None:
    running = started().ready()
    running.told("probe", "hang")
    assert "did not finish in time" in running.probe_is(ProbeState.FAIL_OWN).note


def test_a_worker_whose_first_probe_fails_is_ready_all_the_same(started: Any, tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("environment")
    running = started().ready()
    assert running.slot().probe_state is ProbeState.FAIL_ENVIRONMENT
    assert echo(running, "x").text == "x"


def test_damage_found_by_the_probe_ends_it_for_an_operator_to_act(started: Any) -> None:
    running = started().ready()
    running.told("probe", "corrupt")
    assert running.exit_code() == 78
    assert "move it aside" in running.log_text()


def test_without_storage_it_waits_beating_and_starts_when_there_is_some(started: Any, tmp_path: Path) -> None:
    (tmp_path / "no-storage").touch()
    running = started()
    assert "the disk is full" in running.probe_is(ProbeState.FAIL_ENVIRONMENT).note
    assert running.beats()
    (tmp_path / "no-storage").unlink()
    running.ready()
    assert running.slot().probe_state is ProbeState.PASS


def test_told_to_stop_while_it_waits_for_storage_it_exits_cleanly(started: Any, tmp_path: Path) -> None:
    (tmp_path / "no-storage").touch()
    running = started()
    running.probe_is(ProbeState.FAIL_ENVIRONMENT)
    os.kill(running.pid, signal.SIGTERM)
    assert running.exit_code() == 0


def test_a_drill_blocks_its_event_loop_and_the_heartbeat_stops(started: Any) -> None:
    running = started(drills=True).ready()
    os.kill(running.pid, signal.SIGUSR1)
    eventually("the heartbeat stops", lambda: not running.beats(), within=5)
    assert running.process.is_alive()


def test_a_drill_makes_its_probe_fail_for_its_own_cause(started: Any) -> None:
    running = started(drills=True).ready()
    os.kill(running.pid, signal.SIGUSR2)
    assert "SIGUSR2" in running.probe_is(ProbeState.FAIL_OWN).note
    assert running.beats()


def test_without_drills_their_signals_do_nothing(started: Any) -> None:
    running = started().ready()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(running.pid, number)
    assert running.beats()
    assert running.slot().probe_state is ProbeState.PASS
