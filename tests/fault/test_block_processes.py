"""The metrics block between real processes: killed writers, damaged files, full memory, unrelated readers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from monitoring.block import Block, BlockReader, ProbeState, block_path
from monitoring.snapshot import Decoder, SlotSnapshot
from tests.rig.peers import require_namespaces
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]

PRIMES = (101, 103, 107, 109, 113, 127, 131)

# Takes slot 0 over and over again under new generations, each time with another table, and stores without a pause. What
# it stores is tied together: the counter's name tells by which prime it grows, the note of a probe repeats its time.
RESTLESS = """
import sys
from monitoring.block import ProbeState, SlotWriter
from monitoring.metrics import Metrics, counter, histogram
name, generation, *primes = sys.argv[1], *map(int, sys.argv[2:])
print("writing", flush=True)
while True:
    writer = SlotWriter.attach(name, 0, generation)
    prime = primes[generation % len(primes)]
    families = [counter(f"trustchain_fault_by{prime}_total", "Events.", labels={"kind": ("a", "b")}),
                histogram("trustchain_fault_wait_seconds", "Waits.")]
    metrics = Metrics(writer, families)
    events = metrics.counter(families[0].name, kind="a")
    waits = metrics.histogram("trustchain_fault_wait_seconds")
    for turn in range(100):
        events.inc(prime)
        waits.record(1000)
        writer.probe(ProbeState.PASS, turn, str(turn) * 50)
        writer.beat(turn)
    writer.close()
    generation += 1
"""

# Stores the two patterns of which any mixture is neither.
PATTERNS = """
import sys
from monitoring.block import SlotWriter
from monitoring.metrics import Metrics, counter
writer = SlotWriter.attach(sys.argv[1], 0, 1)
Metrics(writer, [counter("trustchain_fault_x_total", "Events.", labels={"kind": tuple("abcdefgh")})])
words, low, high = writer.words, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA
for cell in range(8):
    words[cell] = low
print("writing", flush=True)
while True:
    for cell in range(8):
        words[cell] = high
    for cell in range(8):
        words[cell] = low
"""

# Plays the supervisor: what it sees before, and says after, somebody damages the file under it.
SUPERVISOR = """
import sys
from monitoring.block import Block, BlockDamaged, SlotWriter
block = Block.create(sys.argv[1], slots=2)
block.assign(0, "ca", 0)
block.record_start(0, 1, 1, 1)
writer = SlotWriter.attach(block.name, 0, 1)
writer.beat(17)
writer.close()
print(block.heartbeat_ns(0), flush=True)
sys.stdin.readline()
block.record_state(0, "ready", 0)
try:
    block.check()
    print("nothing noticed", flush=True)
except BlockDamaged as error:
    print("damaged:", error, flush=True)
print(block.heartbeat_ns(0), block.board(), flush=True)
block.close()
again = Block.create(sys.argv[1], slots=2)
again.check()
again.close()
print("rebuilt", flush=True)
"""


@contextmanager
def running(script: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that runs `script`; killed in the end."""
    command, pipe = [sys.executable, "-c", script, *arguments], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    """The next line it prints; what it wrote to standard error if there is none."""
    assert process.stdout is not None
    found = process.stdout.readline().rstrip("\n")
    if not found:
        _, errors = process.communicate(timeout=10)
        pytest.fail(f"the process ended ({process.returncode}): {errors}")
    return found


@pytest.fixture
def name() -> Iterator[str]:
    name = f"trustchain-fault-{os.getpid()}"
    yield name
    block_path(name).unlink(missing_ok=True)


@pytest.fixture
def block(name: str) -> Iterator[Block]:
    block = Block.create(name, slots=2)
    block.assign(0, "fault", 0)
    yield block
    block.close()


class Witness:
    """Reads the block of a restless writer, and fails on any pair of values that were not stored together."""

    def __init__(self, block: Block) -> None:
        self.reader = BlockReader.open(block.name)
        self.decoder = Decoder()
        self.whole = 0
        self.probes = 0

    def look(self) -> SlotSnapshot:
        """One copy of the slot; damaged if the writer is, or was killed, in the middle of a table."""
        raw = self.reader.read()
        (slot,) = self.decoder.decode(raw).slots
        probe = raw.slots[0].probe
        if probe.state is ProbeState.PASS:
            assert probe.note == str(probe.time_ns) * 50
            self.probes += 1
        assert not (slot.damaged and slot.series)
        if slot.series:
            first, second, waits = slot.series
            assert (first.name, second.value, waits.name) == (second.name, 0, "trustchain_fault_wait_seconds")
            assert isinstance(first.value, int)
            prime = int(first.name.removeprefix("trustchain_fault_by").removesuffix("_total"))
            assert first.value % prime == 0
            self.whole += first.value > 0
        return slot

    def wait_for_table(self, generation: int) -> None:
        """Look until the table generation is beyond `generation`."""
        deadline = time.monotonic() + 10
        while (slot := self.look()).damaged or slot.table_generation <= generation:
            assert time.monotonic() < deadline, f"no table after {generation}: {slot}"


def restless(block: Block, generation: int) -> AbstractContextManager["subprocess.Popen[str]"]:
    """A writer that starts with `generation`."""
    return running(RESTLESS, block.name, str(generation), *map(str, PRIMES))


def test_no_reader_ever_sees_half_of_what_a_restless_writer_stores(block: Block) -> None:
    witness = Witness(block)
    with restless(block, 1) as writer:
        assert line(writer) == "writing"
        generations = set()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            generations.add(witness.look().table_generation)
        assert writer.poll() is None
    witness.reader.close()
    assert min(witness.whole, witness.probes, len(generations)) > 50


def test_a_writer_killed_at_any_moment_leaves_a_slot_that_its_successor_takes_over(block: Block) -> None:
    witness = Witness(block)
    for turn in range(12):
        before = witness.look().table_generation
        with restless(block, 1 + 1000 * turn) as writer:
            assert line(writer) == "writing"
            witness.wait_for_table(before + 1 + turn)
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(timeout=10)
        witness.look()
        block.check()
    witness.reader.close()
    assert witness.whole


def test_no_word_is_ever_torn(block: Block) -> None:
    with running(PATTERNS, block.name) as writer:
        assert line(writer) == "writing"
        reader, decoder, seen = BlockReader.open(block.name), Decoder(), set[object]()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            (slot,) = decoder.decode(reader.read()).slots
            seen.update(series.value for series in slot.series)
        reader.close()
    assert seen == {0x5555555555555555, 0xAAAAAAAAAAAAAAAA}


def _truncate(path: Path) -> None:
    os.truncate(path, 0)


def _cut(path: Path) -> None:
    os.truncate(path, 8192)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("damage", [_truncate, _cut, _overwrite, Path.unlink])
def test_damage_from_outside_is_noticed_by_a_supervisor_that_lives_on(
    name: str, damage: Callable[[Path], None]
) -> None:
    with running(SUPERVISOR, name) as supervisor:
        assert line(supervisor) == "17"
        damage(block_path(name))
        assert supervisor.stdin is not None
        supervisor.stdin.write("\n")
        supervisor.stdin.flush()
        assert line(supervisor).startswith("damaged: ")
        assert line(supervisor) == "17 None"
        assert line(supervisor) == "rebuilt"
        _, errors = supervisor.communicate(timeout=10)
        assert (supervisor.returncode, errors) == (0, "")
    assert not block_path(name).exists()


def test_a_full_dev_shm_is_an_error_at_creation_and_leaves_nothing() -> None:
    unshare = require_namespaces("--mount")
    script = """
import os, sys
from monitoring.block import Block, BlockError
try:
    Block.create("trustchain-full")
except BlockError as error:
    print(os.listdir("/dev/shm"), error)
"""
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" -c "$1"'
    result = subprocess.run(
        [*unshare, "sh", "-c", mount, sys.executable, script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "[] cannot reserve 3211264 bytes for /dev/shm/trustchain-full: No space left on device"
    )


READ = "import sys; from monitoring.block import BlockReader; BlockReader.open(sys.argv[1]).read()"
WRITE = "import sys; from monitoring.block import SlotWriter; SlotWriter.attach(sys.argv[1], 0, 1).beat(5)"
DUMP = 'import sys; from monitoring.block_cli import block; sys.argv[1:1] = ["dump"]; block()'


@pytest.mark.parametrize("script", [READ, WRITE, DUMP])
def test_an_unrelated_process_that_attaches_does_not_remove_the_block(block: Block, script: str) -> None:
    command = [sys.executable, "-c", script, block.name]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    # A tracker of that process, had it started one, outlives it for a moment.
    time.sleep(0.3)
    block.check()


def test_the_block_of_a_killed_supervisor_is_removed(name: str) -> None:
    script = (
        'import sys; from monitoring.block import Block; Block.create(sys.argv[1]); print("there", flush=True); input()'
    )
    with running(script, name) as supervisor:
        assert line(supervisor) == "there"
        assert block_path(name).exists()
        os.kill(supervisor.pid, signal.SIGKILL)
        eventually("the file is gone", lambda: not block_path(name).exists(), within=5)


def test_counters_go_on_after_a_kill(block: Block) -> None:
    script = """
import sys
from monitoring.block import SlotWriter
from monitoring.metrics import Metrics, counter
metrics = Metrics(SlotWriter.attach(sys.argv[1], 0, int(sys.argv[2])), [counter("trustchain_fault_x_total", "Events.")])
metrics.counter("trustchain_fault_x_total").inc(100)
print(metrics.counter("trustchain_fault_x_total").value, flush=True)
input()
"""
    for generation in (1, 2, 3):
        with running(script, block.name, str(generation)) as worker:
            assert line(worker) == str(100 * generation)
            os.kill(worker.pid, signal.SIGKILL)
