"""The survey of the host, and that nobody waits for one that hangs."""

import asyncio
import errno
import os
import threading
from collections.abc import Iterable
from typing import cast

import psutil
import pytest
import structlog
from structlog.testing import capture_logs

from monitoring.alerts import Alert, Changes
from monitoring.child import log_changes
from monitoring.facts import Facts
from monitoring.processes import Survey, disk
from monitoring.surveyor import Surveyor
from monitoring.system import Clock, MonitoringSystem
from tests.unit.monitoring.snapshots import SECOND, START, facts

GONE = 4_194_303  # above the largest pid that Linux gives out


def test_a_survey_measures_what_lives_and_leaves_out_what_does_not() -> None:
    found = Survey("/").take((os.getpid(), GONE, 0), deep=True)
    assert set(found.processes) == {os.getpid()}
    stats = found.processes[os.getpid()]
    assert stats.resident_bytes > 1_000_000
    assert stats.open_fds >= 3
    assert stats.threads >= 1
    assert 0 < (stats.proportional_bytes or 0) <= stats.resident_bytes
    assert 0 <= found.data.free <= found.data.total


def test_proportional_memory_is_kept_between_deep_surveys() -> None:
    survey = Survey("/")
    first = survey.take((os.getpid(),), deep=True).processes[os.getpid()].proportional_bytes
    assert survey.take((os.getpid(),), deep=False).processes[os.getpid()].proportional_bytes == first


def test_a_process_that_cannot_be_looked_at_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor_left(_: int) -> psutil.Process:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "Process", no_descriptor_left)
    assert Survey("/").take((os.getpid(),), deep=True).processes == {}


def test_a_file_system_that_cannot_be_read_has_no_size() -> None:
    assert disk("/no/such/directory").total == 0


class Listener:
    """In the place of a MonitoringSystem: keeps what it is told."""

    def __init__(self) -> None:
        self.pids: tuple[int, ...] = (1,)
        self.told: list[Facts] = []

    def observe(self, found: Facts) -> None:
        self.told.append(found)


class Source:
    """In the place of a Survey: counts, and hangs while told to."""

    def __init__(self) -> None:
        self.taken: list[bool] = []
        self.failure: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def take(self, _: Iterable[int], *, deep: bool) -> Facts:
        self.taken.append(deep)
        self.go_on.wait(10)
        if self.failure is not None:
            raise self.failure
        return facts(START)


class Bench:
    """A Surveyor between the two, and a clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = START
        self.listener, self.source = Listener(), Source()
        self.surveyor = Surveyor(
            cast(MonitoringSystem, self.listener), cast(Survey, self.source), 30.0, Clock(lambda: self.now)
        )


def test_a_survey_is_taken_when_the_last_is_too_old_or_saw_other_processes() -> None:
    bench = Bench()

    async def work() -> None:
        for seconds, pids in ((0.0, (1,)), (0.9, (1,)), (1.0, (1,)), (1.1, (1, 2)), (31.2, (1, 2))):
            bench.now = START + int(seconds * SECOND)
            bench.listener.pids = pids
            await bench.surveyor.refresh()

    asyncio.run(work())
    assert bench.source.taken == [True, False, False, True]  # deep: once in 30 s
    assert len(bench.listener.told) == 4


def test_nobody_waits_for_a_survey_that_hangs_and_no_second_one_is_started() -> None:
    bench = Bench()
    bench.source.go_on.clear()

    async def work() -> None:
        for _ in range(2):
            bench.now += 10 * SECOND
            await bench.surveyor.refresh()
            assert bench.surveyor.busy
        bench.source.go_on.set()
        bench.now += 10 * SECOND
        await bench.surveyor.refresh()
        assert not bench.surveyor.busy

    asyncio.run(work())
    assert bench.source.taken == [True]
    assert len(bench.listener.told) == 1


def test_a_survey_that_fails_fails_nobody_else_is_told_once_and_is_tried_again() -> None:
    bench = Bench()

    async def refreshed(failure: Exception | None) -> None:
        bench.source.failure = failure
        bench.now += 2 * SECOND
        await bench.surveyor.refresh()

    async def work() -> None:
        await refreshed(OSError(errno.EMFILE, "Too many open files"))
        await refreshed(OSError(errno.EMFILE, "Too many open files"))
        assert not bench.listener.told
        await refreshed(None)
        await refreshed(OSError(errno.EMFILE, "Too many open files"))

    with capture_logs() as lines:
        asyncio.run(work())
    assert len(bench.source.taken) == 4
    assert len(bench.listener.told) == 1
    assert [line["event"] for line in lines] == ["the survey of the host failed; it is tried again"] * 2


def test_an_alert_is_logged_when_it_fires_and_when_it_resolves() -> None:
    alert = Alert("memory_high", "warning", "ca", START, 5000.0, 4096.0, "MB", "ca: memory is high", {})
    over = Alert(*("component_down", "critical", "ca"), START, 0.0, 0.7, "", "ca: down", {}, START + 42 * SECOND)
    with capture_logs() as lines:
        log_changes(structlog.get_logger(), Changes(fired=(alert,), resolved=(over,)))
    assert [(line["log_level"], line["event"], line["alert"]) for line in lines] == [
        ("warning", "alert fires", "memory_high"),
        ("info", "alert resolved", "component_down"),
    ]
    assert lines[0]["summary"] == "ca: memory is high"
    assert lines[1]["lasted_seconds"] == 42
