"""Raw copies become series; workers are merged; what is damaged or dead is left out and said so."""

from dataclasses import replace

import pytest

from monitoring.families import Family, counter, gauge, histogram
from monitoring.layout import SLOT_STRIDE, Board, ChildState, Header, Identity, ProbeState, RawBlock, RawSlot
from monitoring.metrics import Metrics
from monitoring.slot import SlotMemory, read_slot
from monitoring.snapshot import Aggregator, Decoder, HistogramValue, MergedFamily, Snapshot, aggregate

HEADER = Header(slots=4, creator_pid=4711, created_ns=5, created_unix_ns=6)
SENT = counter("trustchain_ca_sent_bytes_total", "Sent.", unit="bytes", labels={"to": ("a", "b")})
BUSY = counter("trustchain_ca_busy_seconds_total", "Busy.", unit="seconds")
DEPTH = gauge("trustchain_ca_depth", "Depth.")
OLDEST = gauge("trustchain_ca_oldest_seconds", "Oldest.", unit="seconds", merge="max")
WAIT = histogram("trustchain_ca_wait_seconds", "Waits.")
LAG = histogram("trustchain_worker_lag_seconds", "Lag.", per_service=True)
FAMILIES = (SENT, BUSY, DEPTH, OLDEST, WAIT, LAG)


class Worker:
    """One worker and its slot in plain memory."""

    def __init__(self, slot: int, families: tuple[Family, ...] = FAMILIES, service: str = "ca") -> None:
        self.memory = bytearray(SLOT_STRIDE)
        self.writer = SlotMemory(self.memory, generation=3)
        self.metrics = Metrics(self.writer, families)
        self.slot = slot
        self.identity = Identity(service, slot, pid=100 + slot, generation=3, state="ready", started_ns=7, restarts=2)

    def enter(self, state: ChildState) -> None:
        self.identity = replace(self.identity, state=state)

    @property
    def raw(self) -> RawSlot:
        return read_slot(lambda offset, size: bytes(self.memory[offset : offset + size]), self.slot, self.identity)


def raw(*workers: Worker, board: Board | None = None) -> RawBlock:
    return RawBlock(taken_ns=50, header=HEADER, slots=tuple(worker.raw for worker in workers), board=board)


def merged(snapshot: Snapshot) -> dict[str, MergedFamily]:
    return {family.name: family for family in aggregate(snapshot)}


def value(family: MergedFamily, **labels: str) -> int | float | HistogramValue:
    (found,) = [series.value for series in family.series if dict(series.labels) == labels]
    return found


def test_identity_vitals_board_and_creation_are_told() -> None:
    worker = Worker(1)
    worker.writer.beat(17)
    worker.writer.probe(ProbeState.FAIL_ENVIRONMENT, 18, "disk full")
    board = Board(40, 0.5, "unhealthy", "ca: disk full")
    snapshot = Decoder().decode(raw(worker, board=board))
    assert (snapshot.taken_ns, snapshot.creator_pid, snapshot.created_ns, snapshot.created_unix_ns) == (50, 4711, 5, 6)
    assert snapshot.board == board
    (slot,) = snapshot.slots
    assert (slot.slot, slot.service, slot.index, slot.pid, slot.generation) == (1, "ca", 1, 101, 3)
    assert (slot.state, slot.started_ns, slot.restarts, slot.heartbeat_ns) == ("ready", 7, 2, 17)
    assert (slot.probe_state, slot.probe_ns, slot.note) == (ProbeState.FAIL_ENVIRONMENT, 18, "disk full")
    assert (slot.table_generation, slot.damaged) == (1, False)


@pytest.mark.parametrize("generation", [2, 4])
def test_heartbeat_and_probe_of_another_generation_are_not_told(generation: int) -> None:
    worker = Worker(0)
    worker.writer.beat(17)
    worker.writer.probe(ProbeState.PASS, 18)
    worker.identity = replace(worker.identity, generation=generation)
    (slot,) = Decoder().decode(raw(worker)).slots
    assert (slot.heartbeat_ns, slot.probe_state, slot.probe_ns) == (0, ProbeState.UNKNOWN, 0)


def test_values_are_in_exported_units() -> None:
    worker = Worker(0)
    worker.metrics.counter(SENT.name, to="b").inc(7)
    worker.metrics.counter(BUSY.name).inc(1_500_000_000)
    worker.metrics.gauge(DEPTH.name).set(-2.5)
    worker.metrics.histogram(WAIT.name).record(1_000)
    (slot,) = Decoder().decode(raw(worker)).slots
    found = {(series.name, series.labels): series for series in slot.series}
    assert found[SENT.name, (("to", "a"),)].value == 0
    assert found[SENT.name, (("to", "b"),)].value == 7
    assert found[BUSY.name, ()].value == 1.5
    assert found[DEPTH.name, ()].value == -2.5
    wait = found[WAIT.name, ()]
    assert wait.value == worker.metrics.histogram(WAIT.name).value
    assert (wait.kind, wait.unit, wait.help) == ("histogram", "seconds", "Waits.")


def test_a_series_that_did_not_change_is_the_same_object_and_the_others_are_new() -> None:
    worker, decoder = Worker(0), Decoder()
    worker.metrics.histogram(WAIT.name).record(5)
    before = decoder.decode(raw(worker)).slots[0].series
    worker.metrics.histogram(LAG.name).record(5)
    worker.metrics.counter(SENT.name, to="a").inc()
    after = decoder.decode(raw(worker)).slots[0].series
    changed = {(new.name, new.labels) for old, new in zip(before, after, strict=True) if old is not new}
    assert changed == {(LAG.name, ()), (SENT.name, (("to", "a"),))}


def test_a_change_of_the_sum_alone_is_seen() -> None:
    worker, decoder = Worker(0), Decoder()
    decoder.decode(raw(worker))
    worker.writer.floats[5] = 9.0
    (slot,) = decoder.decode(raw(worker)).slots
    (wait,) = [series.value for series in slot.series if series.name == WAIT.name]
    assert isinstance(wait, HistogramValue)
    assert wait.sum == 9.0


def test_a_new_table_in_a_slot_is_followed() -> None:
    worker, decoder = Worker(0), Decoder()
    decoder.decode(raw(worker))
    other = Worker(0, (DEPTH,))
    other.metrics.gauge(DEPTH.name).set(4)
    (slot,) = decoder.decode(raw(other)).slots
    assert [(series.name, series.value) for series in slot.series] == [(DEPTH.name, 4.0)]


def test_one_damaged_slot_has_no_series_and_spoils_no_other() -> None:
    good, bad, foreign = Worker(0), Worker(1), Worker(2)
    slots = (
        good.raw,
        replace(bad.raw, table=b"", cells=b"", damaged=True),
        replace(foreign.raw, table=b"{}"),
        replace(Worker(3).raw, cells=bytes(8)),
    )
    snapshot = Decoder().decode(replace(raw(), slots=slots))
    assert [(slot.damaged, bool(slot.series)) for slot in snapshot.slots] == [
        (False, True),
        (True, False),
        (True, False),
        (True, False),
    ]
    assert value(merged(snapshot)[DEPTH.name]) == 0.0


def test_a_slot_without_a_readable_identity_is_damaged_and_nameless() -> None:
    worker = Worker(0)
    slots = (replace(worker.raw, identity=None, damaged=True),)
    (slot,) = Decoder().decode(replace(raw(), slots=slots)).slots
    assert (slot.service, slot.damaged, slot.state) == ("", True, "stopped")


def test_workers_are_added_up_and_gauges_follow_their_rule() -> None:
    workers = [Worker(0), Worker(1)]
    for number, worker in enumerate(workers, 1):
        worker.metrics.counter(SENT.name, to="a").inc(number)
        worker.metrics.gauge(DEPTH.name).set(number)
        worker.metrics.gauge(OLDEST.name).set(number)
        worker.metrics.histogram(WAIT.name).record(number)
    families = merged(Decoder().decode(raw(*workers)))
    assert list(families) == sorted(families)
    assert value(families[SENT.name], to="a") == 3
    assert value(families[SENT.name], to="b") == 0
    assert value(families[DEPTH.name]) == 3.0
    assert value(families[OLDEST.name]) == 2.0
    wait = value(families[WAIT.name])
    assert isinstance(wait, HistogramValue)
    assert (wait.sum, wait.count, wait.buckets[1], wait.buckets[2]) == (3.0, 2, 1, 1)


def test_families_of_every_service_are_told_apart_by_a_label() -> None:
    workers = [Worker(0), Worker(1), Worker(2, (LAG,), service="api")]
    for worker in workers:
        worker.metrics.histogram(LAG.name).record(9)
    lag = merged(Decoder().decode(raw(*workers)))[LAG.name]
    counts = {dict(series.labels)["service"]: series.value for series in lag.series}
    assert {service: found.count for service, found in counts.items() if isinstance(found, HistogramValue)} == {
        "ca": 2,
        "api": 1,
    }


@pytest.mark.parametrize("state", ["stopped", "backoff", "failed"])
def test_the_dead_keep_their_counters_and_lose_their_gauges(state: ChildState) -> None:
    dead, alive = Worker(0), Worker(1)
    for worker in (dead, alive):
        worker.metrics.counter(BUSY.name).inc(10**9)
        worker.metrics.gauge(DEPTH.name).set(5)
    dead.enter(state)
    families = merged(Decoder().decode(raw(dead, alive)))
    assert value(families[BUSY.name]) == 2.0
    assert value(families[DEPTH.name]) == 5.0
    assert merged(Decoder().decode(raw(dead)))[DEPTH.name].series == ()


def test_a_name_declared_in_two_ways_is_not_added_up_but_reported() -> None:
    other = counter(SENT.name, "Sent otherwise.", unit="bytes", labels={"over": ("tcp",)})
    first, second = Worker(0, (SENT,)), Worker(3, (other,))
    first.metrics.counter(SENT.name, to="a").inc(1)
    second.metrics.counter(SENT.name, over="tcp").inc(100)
    family = merged(Decoder().decode(raw(first, second)))[SENT.name]
    assert family.conflicting_slots == (3,)
    assert {dict(series.labels).get("over") for series in family.series} == {None}


def test_an_aggregator_gives_what_aggregate_gives_and_reuses_what_did_not_change() -> None:
    workers, decoder, aggregator = [Worker(0), Worker(1), Worker(2, (LAG,), service="api")], Decoder(), Aggregator()
    earlier: tuple[MergedFamily, ...] = ()
    for step in range(4):
        workers[0].metrics.histogram(WAIT.name).record(step)
        workers[2].enter("backoff" if step == 2 else "ready")
        snapshot = decoder.decode(raw(*workers[: 2 if step == 1 else 3]))
        now = aggregator.aggregate(snapshot)
        assert now == aggregate(snapshot)
        if step == 3:
            continue
        earlier = now
    assert earlier
    again = aggregator.aggregate(decoder.decode(raw(*workers)))
    last = aggregator.aggregate(decoder.decode(raw(*workers)))
    assert all(
        a is b for old, new in zip(again, last, strict=True) for a, b in zip(old.series, new.series, strict=True)
    )


def test_an_empty_block_has_no_families() -> None:
    assert aggregate(Decoder().decode(raw())) == ()
