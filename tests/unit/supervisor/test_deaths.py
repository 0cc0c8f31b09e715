"""The record of deaths, in memory and in its file."""

import json
import os
from pathlib import Path

from supervisor.child import SECOND, Cause, Death, Exit
from supervisor.deaths import DeathLog


def death(**fields: object) -> Death:
    usual: dict[str, object] = {
        "service": "ca", "index": 0, "generation": 2, "exit": Exit(signal=9), "cause": Cause.CRASH, "detail": "",
        "drain_timed_out": False, "uptime_ns": 5 * SECOND, "heartbeat_age_ns": SECOND // 4,
    }  # fmt: skip
    return Death(**{**usual, **fields})  # type: ignore[arg-type] # tests name real fields


def log(path: Path, keep: int = 3, file_bytes: int = 10_000) -> tuple[DeathLog, list[str]]:
    warnings: list[str] = []
    return DeathLog(path, keep, warnings.append, file_bytes), warnings


def test_a_record_says_how_and_why(tmp_path: Path) -> None:
    deaths, _ = log(tmp_path / "deaths.jsonl")
    record = deaths.add(death(), 42, "last words")
    assert (record.pid, record.exit_code, record.signal, record.reason) == (42, None, "SIGKILL", "crash")
    assert (record.heartbeat_age_ms, record.uptime_seconds, record.log_tail) == (250.0, 5.0, "last words")
    late = deaths.add(death(drain_timed_out=True, cause=Cause.SHUTDOWN), 42, "")
    assert late.reason == "drain timeout (shutdown)"
    assert deaths.add(death(exit=Exit()), 42, "").signal is None


def test_the_file_is_for_the_owner_and_read_again_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "deaths.jsonl"
    deaths, _ = log(path)
    for generation in range(5):
        deaths.add(death(generation=generation), 42, "")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["generation"] for line in path.read_text().splitlines()] == [0, 1, 2, 3, 4]
    assert [record.generation for record in log(path)[0].records] == [2, 3, 4]
    assert [record.generation for record in deaths.records] == [2, 3, 4]


def test_a_damaged_line_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "deaths.jsonl"
    deaths, _ = log(path)
    deaths.add(death(), 42, "")
    with path.open("ab") as file:
        file.write(b'{"cut": \n\xff\xff\n')
    deaths.add(death(generation=9), 42, "")
    assert [record.generation for record in log(path, keep=10)[0].records] == [2, 9]


def test_the_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "deaths.jsonl"
    deaths, _ = log(path, file_bytes=5_000)
    for _ in range(200):
        deaths.add(death(), 42, "x" * 500)
    assert {file.name for file in tmp_path.iterdir()} == {"deaths.jsonl", "deaths.jsonl.1"}
    assert all(file.stat().st_size < 6_000 for file in tmp_path.iterdir())


def test_a_disk_that_takes_nothing_is_told_once_and_the_records_stay_in_memory(tmp_path: Path) -> None:
    deaths, warnings = log(tmp_path / "missing" / "deaths.jsonl")
    for _ in range(3):
        deaths.add(death(), 42, "")
    assert len(deaths.records) == 3
    assert len(warnings) == 1
    assert "No such file or directory" in warnings[0]


def test_a_symbolic_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "deaths.jsonl").symlink_to(tmp_path / "elsewhere")
    deaths, warnings = log(tmp_path / "deaths.jsonl")
    deaths.add(death(), 42, "")
    assert not os.path.exists(tmp_path / "elsewhere")
    assert len(warnings) == 1
