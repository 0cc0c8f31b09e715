"""What the log takes: appending, proving, starting, at several sizes.

    python -m tests.bench.bench_ct [SIZE ...] [--directory DIRECTORY]

SIZE is a number of entries (default 10000; 1000000 takes about 1 GB and some minutes). DIRECTORY is on the disk to be
measured (default: a temporary one). `add` is the method as the authority calls it, with chains verified and
SCTs signed; `commit` is storage alone: entries of 600 octets, in batches of 512, committed, published and indexed.
Proofs are asked for at random, by hash and for trees of random size, first with nothing in memory.
"""

import argparse
import asyncio
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import psutil
import uvloop

from services.ct import sequencing
from services.ct.chain import Submission
from services.ct.messages import GetConsistency, GetEntries, GetEntryAndProof, GetProofByHash
from services.ct.sequencer import MAX_BATCH
from services.ct.server import TransparencyLog
from services.ct.service import unix_milliseconds
from services.rfc6962 import structures
from services.rfc6962.structures import X509Entry
from tests.unit.ct.chains import INTERMEDIATE, ROOT, certificate, names_of
from tests.unit.ct.logs import CALL, Host, add

ALONE = 300
TOGETHER = 3_000
QUESTIONS = 2_000
OCTETS = 600
CHANCE = random.Random(7)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def row(what: str, latencies: list[float], seconds: float) -> str:
    ordered = sorted(1000 * latency for latency in latencies)
    middle, p99 = statistics.median(ordered), ordered[len(ordered) * 99 // 100]
    return f"{what:<40}{len(ordered) / seconds:>10.0f}/s{middle:>9.3f} ms{p99:>9.3f} ms{ordered[-1]:>9.3f} ms"


async def timed(what: str, asks: list[Callable[[], Awaitable[object]]]) -> None:
    latencies = []
    for ask in asks:
        started = time.perf_counter()
        await ask()
        latencies.append(time.perf_counter() - started)
    say(row(what, latencies, sum(latencies)))


def precertificates(count: int) -> list[bytes]:
    names = [names_of("host.example")]
    return [certificate("host.example", "intermediate", extensions=names, serial=n + 1) for n in range(count)]


async def appending(directory: Path) -> None:
    made = precertificates(ALONE + TOGETHER)
    host = Host(directory)
    async with host.opened() as log:
        await add(log, made.pop())
        await timed("add, one alone", [submitted(log, made.pop()) for _ in range(ALONE - 1)])
        latencies: list[float] = []

        async def client(share: list[bytes]) -> None:
            for sent in share:
                started = time.perf_counter()
                await add(log, sent)
                latencies.append(time.perf_counter() - started)

        for clients in (8, 64):
            latencies.clear()
            shares = [made[number : TOGETHER // 2 : clients] for number in range(clients)]
            del made[: TOGETHER // 2]
            started = time.perf_counter()
            await asyncio.gather(*(client(share) for share in shares))
            say(row(f"add, {clients} clients", latencies, time.perf_counter() - started))


async def filled(host: Host, size: int) -> None:
    """Grow the log to `size` entries through its storage."""
    async with host.opened() as log:
        storage, signer = log._storage, log._signer
        fingerprints = tuple(sha256(each).digest() for each in (INTERMEDIATE, ROOT))
        await storage.keep_issuers((INTERMEDIATE, ROOT))
        before = storage.tree.head.size
        latencies = []
        started = time.perf_counter()
        for first in range(before, size, MAX_BATCH):
            submissions = [submission(number, fingerprints) for number in range(first, min(size, first + MAX_BATCH))]
            begun = time.perf_counter()
            batch = sequencing.sequence(storage.tree, submissions, {}, unix_milliseconds())
            await storage.commit(batch, signer.sign_head(batch.tree.head))
            await storage.publish()
            latencies.append(time.perf_counter() - begun)
        elapsed = time.perf_counter() - started
        if latencies:
            say(row(f"commit and publish, {MAX_BATCH} at once", latencies, elapsed))
            say(f"{'  entries':<40}{(size - before) / elapsed:>10.0f}/s")


def submission(number: int, fingerprints: tuple[bytes, ...]) -> Submission:
    content = number.to_bytes(8, "big") * (OCTETS // 8)
    entry = structures.signed_entry(X509Entry(content))
    return Submission(entry, sha256(entry).digest(), None, (INTERMEDIATE, ROOT), fingerprints)


async def asked(host: Host, size: int) -> None:
    started = time.perf_counter()
    async with host.opened() as log:
        say(f"{'start':<40}{time.perf_counter() - started:>10.3f} s")
        started = time.perf_counter()
        await log.probe()
        say(f"{'first probe':<40}{1000 * (time.perf_counter() - started):>10.1f} ms")
        hashes = await leaf_hashes(log, size)
        for temper in ("cold", "warm"):
            await timed(f"proof by hash, {temper}", [by_hash(log, size, hashed) for hashed in hashes])
        trees = [sorted((CHANCE.randrange(1, size), CHANCE.randrange(1, size))) for _ in range(QUESTIONS)]
        await timed("consistency", [consistency(log, *pair) for pair in trees])
        starts = [CHANCE.randrange(size) for _ in range(QUESTIONS // 10)]
        await timed("entry and proof", [entry(log, start, size) for start in starts])
        await timed("entries, to the end of their tile", [entries(log, start, size) for start in starts])
        resident = psutil.Process().memory_info().rss / 1e6
        say(f"{'memory after all that':<40}{resident:>10.1f} MB")
    used = sum(path.stat().st_size for path in host.directory.rglob("*") if path.is_file())
    database = (host.directory / "log.db").stat().st_size
    say(f"{'disk':<40}{used / 1e6:>10.1f} MB, of which {database / 1e6:.1f} MB log.db")


async def leaf_hashes(log: TransparencyLog, size: int) -> list[bytes]:
    """Leaf hashes at random indices, without leaving their tiles in memory."""
    hashes = [log._node(0, CHANCE.randrange(size)) for _ in range(QUESTIONS)]
    log._storage.tiles._tiles.clear()
    return hashes


def submitted(log: TransparencyLog, sent: bytes) -> Callable[[], Awaitable[object]]:
    return lambda: add(log, sent)


def by_hash(log: TransparencyLog, size: int, hashed: bytes) -> Callable[[], Awaitable[object]]:
    return lambda: log.proof_by_hash(GetProofByHash(leaf_hash=hashed, tree_size=size), CALL)


def consistency(log: TransparencyLog, first: int, second: int) -> Callable[[], Awaitable[object]]:
    return lambda: log.consistency(GetConsistency(first=first, second=second), CALL)


def entry(log: TransparencyLog, index: int, size: int) -> Callable[[], Awaitable[object]]:
    return lambda: log.entry_and_proof(GetEntryAndProof(leaf_index=index, tree_size=size), CALL)


def entries(log: TransparencyLog, start: int, size: int) -> Callable[[], Awaitable[object]]:
    return lambda: log.entries(GetEntries(start=start, end=size), CALL)


async def measured(directory: Path, sizes: list[int]) -> None:
    say(f"{'':<40}{'rate':>12}{'p50':>12}{'p99':>12}{'worst':>12}")
    await appending(directory / "appending")
    host = Host(directory / "grown")
    for size in sorted(sizes):
        say(f"\n{size} entries")
        await filled(host, size)
        await asked(host, size)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000])
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(dir=arguments.directory))
    os.chmod(directory, 0o700)
    try:
        uvloop.run(measured(directory, arguments.sizes))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
