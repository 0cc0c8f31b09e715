"""What a worker promises without a process: whose fault a failed probe is, what a log line holds, what it shares."""

import asyncio
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from config.schema import Log, Monitoring, Server, Settings
from monitoring.block import ProbeState
from monitoring.metrics import PROBE_RESULTS, WORKER_FAMILIES, Metrics
from services import logs
from services.errors import (
    DeadlineExceeded,
    Internal,
    Overloaded,
    PeerGone,
    ProbeFailed,
    Refused,
    StorageUnavailable,
    Unavailable,
)
from services.probing import finding_of, passed
from services.worker import Worker

OWN, DEPENDENCY, ENVIRONMENT = ProbeState.FAIL_OWN, ProbeState.FAIL_DEPENDENCY, ProbeState.FAIL_ENVIRONMENT


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ProbeFailed("own", "x"), OWN),
        (ProbeFailed("dependency", "x"), DEPENDENCY),
        (ProbeFailed("environment", "x"), ENVIRONMENT),
        (StorageUnavailable("x"), ENVIRONMENT),
        (OSError(errno.ENOSPC, "x"), ENVIRONMENT),
        (OSError(errno.EDQUOT, "x"), ENVIRONMENT),
        (OSError(errno.EROFS, "x"), ENVIRONMENT),
        (OSError(errno.EMFILE, "x"), OWN),
        (MemoryError(), ENVIRONMENT),
        (PeerGone("x"), DEPENDENCY),
        (DeadlineExceeded("x"), DEPENDENCY),
        (Unavailable("x"), DEPENDENCY),
        (Overloaded("x"), DEPENDENCY),
        (Internal("x"), DEPENDENCY),
        (Refused("bad-key", None, "x"), OWN),
        (TimeoutError(), OWN),
        (ValueError("x"), OWN),
        (AssertionError(), OWN),
    ],
)
def test_each_failure_is_laid_at_the_right_door(error: Exception, state: ProbeState) -> None:
    finding = finding_of(error)
    assert finding.state is state
    assert finding.result in PROBE_RESULTS
    assert finding.note


def test_only_an_own_fault_keeps_its_traceback() -> None:
    assert finding_of(ValueError("x")).error is not None
    assert finding_of(StorageUnavailable("x")).error is None


def test_a_passed_probe_has_its_label() -> None:
    assert passed().result == PROBE_RESULTS[0]


def worker(probe_interval: float = 5.0, data_dir: Path = Path("/nowhere")) -> Worker:
    server = Server(data_dir=str(data_dir), runtime_dir=str(data_dir / "run"))
    settings = Settings(server=server, monitoring=Monitoring(probe_interval=probe_interval))
    return Worker(service="api", settings=settings, metrics=Metrics.in_memory(WORKER_FAMILIES), sockets={})


@pytest.mark.parametrize(("interval", "timeout"), [(0.05, 1.0), (3.0, 3.0), (3600.0, 5.0)])
def test_a_probe_may_take_as_long_as_its_interval_within_bounds(interval: float, timeout: float) -> None:
    assert worker(interval).probe_timeout == timeout


def test_there_is_one_connection_to_each_peer(tmp_path: Path) -> None:
    async def scenario() -> None:
        own = worker(data_dir=tmp_path)
        assert own.peer("ca") is own.peer("ca")
        assert own.peer("ca") is not own.peer("ct")
        await own.close_peers()
        with pytest.raises(Unavailable, match="closed"):
            await own.peer("ca").call("get", {}, dict, timeout=1.0)

    asyncio.run(scenario())


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_json_line_says_who_and_in_which_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log(format="json"), "ca", 2)
    token = logs.TRACE.set(f"00-{'ab' * 16}-{'cd' * 8}-01")
    structlog.stdlib.get_logger().warning("something happened", serial="0a")
    logs.TRACE.reset(token)
    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert captured.out == ""
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "something happened",
        "level": "warning",
        "service": "ca",
        "index": 2,
        "pid": os.getpid(),
        "trace_id": "ab" * 16,
        "serial": "0a",
    }


def test_a_level_below_the_setting_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log(level="warning"), "ca", 0)
    structlog.stdlib.get_logger().info("not this")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_variables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log(format="json" if form == "json" else "console"), "ca", 0)
    secret = "5ec" + "2e7"

    def fail(_token: str) -> None:
        raise ValueError("no")

    try:
        fail(secret)
    except ValueError as error:
        structlog.stdlib.get_logger().error("failed", exc_info=error)
    text = capsys.readouterr().err
    assert "in fail" in text
    assert secret not in text
