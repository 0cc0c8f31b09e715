"""`block dump` prints any block, and says in one line what it cannot read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from monitoring.block import Block, Board, BoardWriter, ProbeState, SlotVerdict, SlotWriter, Verdict, block_path
from monitoring.block_cli import block as command
from monitoring.histogram import bucket_of
from monitoring.layout import TABLE_OFFSET, Header
from monitoring.metrics import Metrics, counter, gauge, histogram

FAMILIES = (
    counter("trustchain_dump_events_total", "Events.", labels={"kind": ("good", "bad")}),
    gauge("trustchain_dump_depth", "Depth."),
    histogram("trustchain_dump_wait_seconds", "Waits."),
)


@pytest.fixture
def name() -> Iterator[str]:
    block = Block.create(f"trustchain-dump-{os.getpid()}", slots=2)
    block.assign(0, "ca", 0)
    block.record_start(0, pid=4711, generation=3, now_ns=5)
    block.record_state(0, "ready", restarts=2)
    writer = SlotWriter.attach(block.name, 0, generation=3)
    writer.beat(17)
    writer.probe(ProbeState.FAIL_OWN, 18, "no key")
    metrics = Metrics(writer, FAMILIES)
    metrics.counter("trustchain_dump_events_total", kind="bad").inc(7)
    metrics.gauge("trustchain_dump_depth").set(2.5)
    metrics.histogram("trustchain_dump_wait_seconds").record(1_000_000)
    board = BoardWriter.attach(block.name)
    board.publish(Board(9, 0.5, "unhealthy", "ca: no key", {0: SlotVerdict(Verdict.REPLACE, 3, "probe fails")}))
    yield block.name
    board.close()
    writer.close()
    block.close()


def test_every_slot_and_series_is_printed(name: str) -> None:
    result = CliRunner().invoke(command, ["dump", name])
    assert result.exit_code == 0
    for text in (
        f"/dev/shm/{name}: layout 1, created 2",
        "board: unhealthy, score 0.50",
        "slot 0: replace generation 3: probe fails",
        "slot 0: ca/0  ready",
        "pid 4711, generation 3, restarts 2",
        ": no key",
        'trustchain_dump_events_total{kind="bad"} 7',
        "trustchain_dump_depth 2.5",
        "trustchain_dump_wait_seconds count 1 sum 0.001 p50 0.001",
    ):
        assert text in result.output


def test_json_holds_the_same(name: str) -> None:
    result = CliRunner().invoke(command, ["dump", str(block_path(name)), "--json"])
    assert result.exit_code == 0
    dumped = json.loads(result.output)
    assert dumped["board"]["verdicts"]["0"] == {"verdict": 2, "generation": 3, "reason": "probe fails"}
    (slot,) = dumped["slots"]
    assert (slot["service"], slot["heartbeat_ns"], slot["probe_state"]) == ("ca", 17, "fail_own")
    values = {(series["name"], *series["labels"].values()): series["value"] for series in slot["series"]}
    assert values["trustchain_dump_events_total", "bad"] == 7
    assert values["trustchain_dump_wait_seconds",]["sum"] == 1_000_000
    assert values["trustchain_dump_wait_seconds",]["buckets"] == {str(bucket_of(1_000_000)): 1}


def test_a_damaged_slot_is_marked(name: str) -> None:
    with block_path(name).open("r+b") as file:
        file.seek(Header(2, 1, 1, 1).slot_offset(0) + TABLE_OFFSET)
        file.write(b"\xff")
    result = CliRunner().invoke(command, ["dump", name])
    assert result.exit_code == 0
    assert "DAMAGED" in result.output
    assert "trustchain_dump" not in result.output.split("board:")[1]


def test_without_a_path_the_block_of_the_data_directory_is_meant(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["dump", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "is the supervisor running?" in result.output


def test_a_foreign_and_a_truncated_file_are_errors_of_one_line(name: str, tmp_path: Path) -> None:
    foreign, cut = tmp_path / "foreign", tmp_path / "cut"
    foreign.write_bytes(os.urandom(4096))
    cut.write_bytes(block_path(name).read_bytes()[:-1])
    for path, reason in ((foreign, "not a TrustChain metrics block"), (cut, "truncated")):
        result = CliRunner().invoke(command, ["dump", str(path)])
        assert result.exit_code == 1
        assert reason in result.output
        assert result.output.count("\n") == 1
