"""MonitoringSystem as a library object: a fake clock, a block in memory, no process."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from config.schema import Settings
from monitoring.alerts import Changes
from monitoring.layout import (
    SLOT_STRIDE,
    BlockDamaged,
    Board,
    Header,
    Identity,
    ProbeState,
    RawBlock,
    Verdict,
)
from monitoring.metrics import WORKER_FAMILIES, Metrics, operation
from monitoring.slot import SlotMemory, read_slot
from monitoring.system import Build, Clock, MonitoringSystem
from tests.unit.monitoring.snapshots import SECOND, SERVICES, SETTINGS, START, facts, monitoring_settings

WALL = 1_760_000_000.0


class Worker:
    """One worker's slot in memory, written through the real write side."""

    def __init__(self, number: int, service: str) -> None:
        self.number, self.service = number, service
        self.identity = Identity(service, 0, pid=100 + number, generation=1, state="ready", started_ns=START)
        self.buffer = bytearray(SLOT_STRIDE)
        self.slot = SlotMemory(self.buffer, generation=1)
        self.metrics = Metrics(self.slot, (*WORKER_FAMILIES, *operation(f"trustchain_{service}_requests", "Requests")))

    def state(self, state: Any) -> None:
        self.identity = replace(self.identity, state=state)


class Tree:
    """Three workers, a clock that only moves when told to, and a system that watches them."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = START
        self.reads = 0
        self.damage = ""
        self.workers = {service: Worker(number, service) for number, service in enumerate(SERVICES)}
        self.boards: list[Board] = []
        self.changes: list[Changes] = []
        self.alive = True
        self.system = MonitoringSystem(
            settings,
            Build("1.2.3", "3.11.7", "host.test"),
            self.read,
            self.boards.append,
            self.changes.append,
            Clock(lambda: self.now, lambda: WALL + (self.now - START) / SECOND),
        )
        self.beat()
        self.system.observe(facts(self.now))

    def read(self) -> RawBlock:
        self.reads += 1
        if self.damage:
            raise BlockDamaged(self.damage)
        slots = tuple(
            read_slot(self._reader(worker.buffer), worker.number, worker.identity) for worker in self.workers.values()
        )
        return RawBlock(self.now, Header(16, 99, START - 60 * SECOND, 0), slots, None)

    def _reader(self, buffer: bytearray) -> Callable[[int, int], bytes]:
        return lambda offset, size: bytes(buffer[offset : offset + size])

    def beat(self) -> None:
        for worker in self.workers.values():
            worker.slot.beat(self.now)
            worker.slot.probe(ProbeState.PASS, self.now)

    def pass_time(self, seconds: float, ticking: bool = True) -> None:
        """Let time pass in steps of a second; all is well in it unless a test says otherwise meanwhile."""
        for _ in range(round(seconds)):
            self.now += SECOND
            if self.alive:
                self.beat()
            self.system.observe(facts(self.now))
            if ticking:
                self.system.tick()

    def requests(self, service: str, count: int, result: Any = "ok", took_ns: int = 2_000_000) -> None:
        bound = self.workers[service].metrics.bound_operation(f"trustchain_{service}_requests")
        for _ in range(count):
            bound.record(took_ns, result)


def test_one_reading_becomes_the_document_of_health() -> None:
    tree = Tree()
    document = tree.system.health()
    assert list(document)[:8] == [
        *("status", "is_healthy", "health_score", "components", "issues", "last_check", "version", "uptime_seconds"),
    ]
    assert (document["status"], document["is_healthy"], document["health_score"]) == ("healthy", True, 1.0)
    assert document["last_check"] == "2025-10-09T08:53:20.000Z"
    assert (document["version"], document["uptime_seconds"]) == ("1.2.3", 60.0)
    worker = document["components"]["ca"]["workers"][0]
    assert (worker["pid"], worker["state"], worker["probe"], worker["verdict"]) == (102, "ready", "pass", "keep")
    assert worker["heartbeat_age_seconds"] == 0.0
    assert worker["resident_bytes"] == 50_000_000
    json.dumps(document)  # plain data


def test_whoever_asks_within_250_ms_gets_the_same_evaluation() -> None:
    tree = Tree()
    first = tree.system.status()
    tree.now += SECOND // 4
    assert tree.system.status() is first
    tree.now += 1
    assert tree.system.status() is not first
    assert tree.reads == 2


def test_a_change_of_a_slots_state_shows_on_the_next_request_without_a_tick() -> None:
    tree = Tree()
    assert tree.system.status().state == "healthy"
    tree.workers["ca"].state("backoff")
    tree.now += SECOND // 3
    assert tree.system.health()["status"] == "critical"
    assert tree.system.readiness() == {"ready": False, "waiting_for": ["ca"]}
    tree.workers["ca"].state("ready")
    tree.now += SECOND // 3
    assert tree.system.health()["status"] == "healthy"


def test_each_evaluation_publishes_the_board() -> None:
    tree = Tree()
    tree.system.tick()
    (board,) = tree.boards
    assert (board.published_ns, board.score, board.state) == (START, 1.0, "healthy")
    assert board.status_line == "healthy 1.00, 4/4 workers ready"
    assert {slot: verdict.verdict for slot, verdict in board.verdicts.items()} == dict.fromkeys(range(4), Verdict.KEEP)


def test_ticks_are_quick_until_the_tree_is_healthy_for_the_first_time() -> None:
    tree = Tree(monitoring_settings(collection_interval=10.0))
    tree.workers["ca"].state("starting")
    assert tree.system.tick() == 0.2
    tree.workers["ca"].state("ready")
    assert tree.system.tick() == 10.0
    tree.workers["ca"].state("backoff")
    assert tree.system.tick() == 10.0


def test_ticks_do_not_stay_quick_for_ever() -> None:
    tree = Tree(monitoring_settings(collection_interval=10.0))
    tree.workers["ca"].state("failed")
    tree.now += 31 * SECOND
    assert tree.system.tick() == 10.0


def test_a_tick_comes_in_time_for_a_verdict() -> None:
    tree = Tree(monitoring_settings(collection_interval=30.0, unhealthy_after=12.0))
    tree.system.tick()
    tree.alive = False
    tree.workers["ca"].slot.probe(ProbeState.FAIL_OWN, tree.now, "cannot sign")
    assert tree.system.tick() == 12.0
    tree.now += 12 * SECOND
    for worker in tree.workers.values():
        worker.slot.beat(tree.now)
    tree.system.tick()
    assert tree.boards[-1].verdicts[2].verdict is Verdict.REPLACE
    assert tree.boards[-1].verdicts[2].reason == "ca: probe failed: cannot sign; for 12 s"


def test_a_damaged_block_is_told_and_survived() -> None:
    tree = Tree()
    tree.system.tick()
    tree.damage = "/dev/shm/trustchain-x: truncated"
    tree.now += SECOND
    document = tree.system.health()
    assert document["status"] == "critical"
    assert document["issues"][0].startswith("monitoring: /dev/shm/trustchain-x: truncated")
    assert len(tree.boards) == 1
    names = {family.name for family in tree.system.exposition().families}
    assert "trustchain_health_score" in names
    assert tree.system.pids == ()
    tree.damage = ""
    tree.now += SECOND
    assert tree.system.health()["status"] == "healthy"


def test_a_board_that_cannot_be_written_is_no_reason_to_end() -> None:
    tree = Tree()

    def refuse(_: Board) -> None:
        raise BlockDamaged("gone")

    system = MonitoringSystem(SETTINGS, Build("1", "3"), tree.read, refuse, clock=Clock(lambda: tree.now, lambda: WALL))
    assert system.tick() > 0
    assert system.status().state == "healthy"


def test_alerts_are_reported_once_when_they_fire_and_once_when_they_resolve() -> None:
    tree = Tree()
    tree.pass_time(2)
    for _ in range(10):
        tree.requests("ca", 20, took_ns=400_000_000)
        tree.pass_time(1)
    firing = tree.system.alerts()["firing"]
    assert [alert["name"] for alert in firing] == ["cert_issuance_slow"]
    assert firing[0]["since"] == "2025-10-09T08:53:28.000Z"
    assert firing[0]["evidence"]["requests"] == 200
    tree.pass_time(90)
    document = tree.system.alerts()
    assert document["firing"] == []
    assert [alert["name"] for alert in document["resolved"]] == ["cert_issuance_slow"]
    assert [(len(change.fired), len(change.resolved)) for change in tree.changes] == [(1, 0), (0, 1)]


def test_what_only_starts_is_no_alert_but_what_never_starts_is() -> None:
    tree = Tree()
    tree.workers["ca"].state("starting")
    tree.pass_time(20)
    assert tree.system.alerts()["firing"] == []
    tree.pass_time(15)
    assert [alert["name"] for alert in tree.system.alerts()["firing"]] == ["component_down"]


def test_history_tells_scores_rates_percentiles_and_memory() -> None:
    tree = Tree()
    for _ in range(30):
        tree.requests("ca", 10)
        tree.pass_time(1)
    document = tree.system.history("ca", 10)
    assert document["interval_seconds"] == 1.0
    assert len(document["times"]) == 11
    assert document["times"][-1] == "2025-10-09T08:53:50.000Z"
    last = {figure: values[-1] for figure, values in document["series"].items()}
    assert last["score"] == 1.0
    assert last["requests_per_second"] == pytest.approx(10.0)
    assert last["error_rate"] == 0.0
    assert last["p50_seconds"] == pytest.approx(0.002, rel=0.13)
    assert last["resident_bytes"] == 50_000_000
    assert set(tree.system.recorded) == {"overall", "monitoring", "ct", "ca", "api", "storage"}
    with pytest.raises(KeyError):
        tree.system.history("nobody", 10)


def test_history_is_recorded_at_the_collection_interval_whoever_asks_how_often() -> None:
    tree = Tree(monitoring_settings(collection_interval=10.0))
    tree.pass_time(60)
    assert len(tree.system.history("overall", 3600)["times"]) == 6


def test_counters_in_the_exposition_are_those_of_the_block() -> None:
    tree = Tree()
    tree.requests("ca", 7)
    tree.requests("ca", 2, "error")
    families = {family.name: family for family in tree.system.exposition().families}
    counts = {series.labels: series.value for series in families["trustchain_ca_requests_total"].series}
    assert counts == {(("result", "ok"),): 7, (("result", "rejected"),): 0, (("result", "error"),): 2}


def test_info_names_versions_host_and_processes() -> None:
    tree = Tree()
    assert tree.system.info() == {
        "version": "1.2.3",
        "uptime_seconds": 60.0,
        "started": "2025-10-09T08:52:20.000Z",
        "python": "3.11.7",
        "host": "host.test",
        "pids": {"supervisor": 99, "monitoring": 100, "ct": 101, "ca": 102, "api": 103},
    }
    assert tree.system.pids == (99, 100, 101, 102, 103)


def test_one_component_can_be_asked_for() -> None:
    tree = Tree()
    assert tree.system.component("storage")["status"] == "healthy"
    with pytest.raises(KeyError):
        tree.system.component("nobody")
