"""The log is killed at each step of sequencing and of its first start, its disk fails; its promises hold afterwards.

Every SCT that was given out is of an entry in the tree, at its index, provable; no index was given to two entries; the
tree only grows. Checked from the files alone, and from what the next process answers.
"""

import asyncio
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.ct.files import open_log
from services.ct.messages import (
    AcceptRoots,
    AddChain,
    GetProofByHash,
    GetTreeHead,
    InclusionProof,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)
from services.ct.sequencing import Place, leaf_of
from services.errors import RemoteError
from services.rfc6962 import merkle, structures
from services.rfc6962.structures import X509Entry
from services.rpc_client import Client
from tests.fault.ct_process import STEPS
from tests.rig.peers import missing, require_namespaces, require_peer
from tests.unit.ct.chains import INTERMEDIATE, ROOT
from tests.unit.ct.logs import Host, host_certificate

pytestmark = pytest.mark.fault

REPOSITORY = Path(__file__).parents[2]
PROCESS = [sys.executable, "-m", "tests.fault.ct_process"]
CLIENTS = 16


@dataclass
class Log:
    """Processes of one log, one after the other, on one socket that outlives them."""

    directory: Path
    listener: socket.socket
    given: dict[int, SignedCertificateTimestamp] = field(default_factory=dict)
    roots: dict[int, bytes] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def start(self, step: str = "never", count: int = 0) -> None:
        descriptor = self.listener.fileno()
        arguments = ["serve", str(self.directory), str(descriptor), step, str(count)]
        self._process = subprocess.Popen([*PROCESS, *arguments], cwd=REPOSITORY, pass_fds=[descriptor])

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def wait(self) -> int:
        return self.process.wait(60)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def submit(self, numbers: range, reached: asyncio.Event | None = None) -> None:
        """Each client submits its share, one after the other, and gives up when the log dies."""
        client = Client(self.directory / "ct.sock")

        async def one(share: range) -> None:
            with suppress(RemoteError):
                await client.call("accept_roots", AcceptRoots(certificates=[ROOT]), Roots, timeout=20.0)
                for number in share:
                    chain = AddChain(chain=[host_certificate(number), INTERMEDIATE], entry_type="x509")
                    sct = await client.call("add", chain, SignedCertificateTimestamp, timeout=20.0)
                    assert self.given.setdefault(number, sct) == sct, "an entry was given two SCTs"
                    if reached is not None:
                        reached.set()

        await asyncio.gather(*(one(numbers[client::CLIENTS]) for client in range(CLIENTS)))
        await client.close()

    async def check_answers(self) -> None:
        """Each SCT's entry is proven by what the log answers."""
        client = Client(self.directory / "ct.sock")
        head = await client.call("tree_head", GetTreeHead(), SignedTreeHead, timeout=20.0)
        for number, sct in list(self.given.items())[::7]:
            hashed = _leaf(number, sct)
            asked = GetProofByHash(leaf_hash=hashed, tree_size=head.tree_size)
            proof = await client.call("proof_by_hash", asked, InclusionProof, timeout=20.0)
            assert proof.leaf_index == sct.leaf_index
            merkle.verify_inclusion(sct.leaf_index, head.tree_size, hashed, proof.audit_path, head.root_hash)
        await client.close()

    def check(self) -> int:
        """All promises, from the files alone. Returns the size of the tree."""
        indices = [sct.leaf_index for sct in self.given.values()]
        assert len(set(indices)) == len(indices), "one index was given to two entries"
        with open_log(self.directory / "data" / "ct") as log:
            log.verifier.verify_head(log.signed)
            assert log.recomputed_root() == log.signed.head.root
            assert max((0, *self.roots)) <= log.size, "the tree has shrunk"
            for size, root in self.roots.items():
                assert log.root_at(size) == root, "the tree is another one than before"
            for number, sct in self.given.items():
                assert sct.leaf_index < log.size, "an SCT without an entry"
                assert log.entry(sct.leaf_index).leaf_hash == _leaf(number, sct)
                log.verifier.verify_sct(structures.parse_sct(sct.serialized), X509Entry(host_certificate(number)))
                assert sct.timestamp <= log.signed.head.timestamp
            entries = [structures.signed_entry(entry.leaf.entry) for entry in log.entries()]
            assert len(set(entries)) == log.size, "an entry has two places"
            self.roots[log.size] = log.signed.head.root
            return log.size


def _leaf(number: int, sct: SignedCertificateTimestamp) -> bytes:
    return leaf_of(structures.signed_entry(X509Entry(host_certificate(number))), Place(sct.leaf_index, sct.timestamp))


@pytest.fixture
def log(short_path: Path) -> Iterator[Log]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "ct.sock"))
        listener.listen(64)
        made = Log(short_path, listener)
        yield made
        made.end()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_promises_hold_after_a_kill_at_each_step_of_sequencing(log: Log, step: str, count: int) -> None:
    log.start(step, count)
    asyncio.run(log.submit(range(600)))
    assert log.wait() == -signal.SIGKILL
    size, given = log.check(), len(log.given)
    assert size - given <= CLIENTS * 2, "only what was in flight may be in the tree without an SCT"
    if count == 1 and step not in {"tile-unnamed", "tile-named"}:
        assert given == 0
        assert (size == 0) == (step in {"issuer-unnamed", "issuer-named", "before-commit"})

    log.start()
    asyncio.run(log.submit(range(600)))
    asyncio.run(log.check_answers())
    log.stop()
    assert len(log.given) == log.check() == 600, "the next process goes on at once, and nothing is twice"


def test_promises_hold_after_kills_at_any_moment(log: Log) -> None:
    chance = random.Random(20)

    async def submitted_and_killed(numbers: range) -> None:
        answering = asyncio.Event()
        submitting = asyncio.ensure_future(log.submit(numbers, reached=answering))
        await answering.wait()
        await asyncio.sleep(chance.uniform(0.0, 0.25))
        log.process.kill()
        await submitting

    for round_ in range(8):
        log.start()
        asyncio.run(submitted_and_killed(range(round_ * 200, round_ * 200 + 1000)))
        assert log.wait() == -signal.SIGKILL
        log.check()
    assert len(log.given) > 100


def test_a_kill_at_each_file_step_of_the_first_start_leaves_what_the_next_one_goes_on_from(short_path: Path) -> None:
    done = subprocess.run(
        [*PROCESS, "starts", str(short_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("done ")
    assert int(lines[-1].removeprefix("done ")) >= 15, "the kills did not reach the file steps"
    assert {line.partition(" ")[2] for line in lines[:-1]} == {"began anew", "kept"}


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_failed_sync_gives_out_nothing_and_the_next_good_one_does(tmp_path: Path, call: str) -> None:
    """fdatasync is that of the database, fsync that of tiles and checkpoint."""
    trace = tmp_path / "trace"
    strace = [require_peer("strace"), "-f", "-o", str(trace), "-e", f"trace={call}"]
    if subprocess.run([*strace, "true"], capture_output=True, check=False).returncode != 0:
        missing("strace may not trace here")
    strace += ["-e", f"inject={call}:error=EIO:when=40..49"]
    done = subprocess.run(
        [*strace, *PROCESS, "one-by-one", str(tmp_path), "80"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    failed = {int(outcome[1]) for outcome in outcomes if outcome[0] == "failed"}
    stored = {int(outcome[1]): int(outcome[2]) for outcome in outcomes if outcome[0] == "stored"}
    assert 1 <= len(failed) <= 10
    assert stored.keys() | failed == set(range(80))
    assert max(stored) == 79
    with open_log(Host(tmp_path).directory) as log:
        assert log.recomputed_root() == log.signed.head.root
        assert len(set(stored.values())) == len(stored)
        for index in stored.values():
            assert isinstance(log.entry(index).leaf.entry, X509Entry)


@pytest.mark.needs_root
def test_a_full_disk_is_told_loses_nothing_and_is_recovered_from(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = require_namespaces("--mount")
    script = 'mount -t tmpfs -o size=4m,mode=0700 tmpfs "$0" && exec "$@"'
    done = subprocess.run(
        [*unshare, "sh", "-c", script, str(disk), *PROCESS, "full-disk", str(disk)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines() == [
        "full",
        "read while full",
        "recovered without reopening",
        "opening tells",
        "all kept",
    ]
