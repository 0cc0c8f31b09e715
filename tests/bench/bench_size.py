"""The whole tree at a million certificates: how long it takes to start, what it takes in memory, what it then answers.

    .venv/bin/python -m tests.bench.bench_size [CERTIFICATES] [--audit]

The certificates are real: each has a serial number and a name of its own, is signed, logged, embeds the timestamp that
the log signed for it, and is on record; a hundredth is revoked. They follow from one that the tree issued, made by its
own keys and records but in batches and without what issuing checks: a million by issuing would take most of an hour.
`--audit` then has `trustchain audit` examine the files. A million takes about ten minutes and 6 GB.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from config.schema import Server, Settings
from services import der
from services.ca import installation as ca_installation
from services.ca import storage as ca_storage
from services.ca.hierarchy.hierarchy import Issuer
from services.ca.issuance import precertificate
from services.ca.issuance.certification import Certifier, Logged
from services.ca.reconciliation import following
from services.ca.status import storage as status_storage
from services.ca.status.revocation import Revocation
from services.ca.storage import Issued, Reservation
from services.ct import installation as ct_installation
from services.ct import sequencing
from services.ct.chain import Submission
from services.ct.messages import SignedTreeHead
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import SERVICES, Tree, running_tree

BATCH = 512
REVOKED_EVERY = 100
PARTITIONS = 8
ISSUED = 200
PAGES = 50
DOMAIN = "bench.example"
_SIGN = ec.ECDSA(hashes.SHA256())


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Pattern:
    """The certificate that the tree issued; others have another serial number, name and partition in its place."""

    issued: Issued
    to_be_signed: bytes
    name: bytes
    serial: bytes
    partition: int

    @classmethod
    def of(cls, issued: Issued) -> "Pattern":
        assert issued.logged is not None
        before = x509.load_der_x509_certificate(issued.logged.precertificate)
        serial = bytes.fromhex(issued.serial)
        to_be_signed = before.tbs_certificate_bytes
        return cls(issued, to_be_signed, issued.names[0].encode(), serial, serial[0] % PARTITIONS)

    def another(self, number: int) -> tuple[str, str, bytes]:
        """Its serial number and name, and what is to be signed of its precertificate."""
        partition = number % PARTITIONS
        serial = bytes((0x40 + partition,)) + os.urandom(15)
        name = f"n{number:07}.{DOMAIN}".encode()
        to_be_signed = self.to_be_signed.replace(self.serial, serial).replace(self.name, name)
        to_be_signed = to_be_signed.replace(b"/%d.crl" % self.partition, b"/%d.crl" % partition)
        return serial.hex(), name.decode(), to_be_signed


def signed(to_be_signed: bytes, issuer: Issuer) -> bytes:
    key = issuer.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    algorithm = der.members(der.whole(to_be_signed, der.SEQUENCE))[2].octets
    signature = key.sign(to_be_signed, _SIGN)
    return der.encode(der.SEQUENCE, to_be_signed + algorithm + der.encode(der.BIT_STRING, b"\0" + signature))


@asynccontextmanager
async def opened(settings: Settings) -> Any:
    log = structlog.get_logger()
    authority = await ca_installation.open_installation(settings, lambda: int(time.time()), log)
    transparency = await ct_installation.open_installation(settings, lambda: time.time_ns() // 1_000_000, log)
    try:
        yield authority, transparency
    finally:
        await authority.storage.close()
        await transparency.storage.close()


async def fill(data_dir: Path, serial: str, certificates: int) -> None:
    settings = Settings(server=Server(data_dir=str(data_dir), runtime_dir=str(data_dir / "run")))
    async with opened(settings) as (authority, transparency):
        pattern = Pattern.of(authority.storage.get(serial))
        issuer = authority.hierarchy.issuers[pattern.issued.issuer]
        began = time.perf_counter()
        for first in range(1, certificates, BATCH):
            numbers = range(first, min(first + BATCH, certificates))
            await batch(authority.storage, transparency, pattern, issuer, numbers)
        say(f"{certificates} certificates made in {time.perf_counter() - began:.0f} s")


async def batch(
    record: ca_storage.Storage,
    transparency: ct_installation.Installation,
    pattern: Pattern,
    issuer: Issuer,
    numbers: range,
) -> None:
    log, signer, key_hash = transparency.storage, transparency.signer, Certifier(issuer).key_hash
    drafts = [pattern.another(number) for number in numbers]
    precertificates = [signed(to_be_signed, issuer) for _, _, to_be_signed in drafts]
    above = tuple(log.roots)  # the pattern's own chain is known to the log: the issuer and its root are files already
    submissions = []
    for (_, _, to_be_signed), pre_certificate in zip(drafts, precertificates, strict=True):
        entry = structures.signed_entry(PrecertEntry(key_hash, precertificate.without_poison(to_be_signed)))
        fingerprints = (sha256(issuer.certificate.public_bytes(Encoding.DER)).digest(), sha256(above[0]).digest())
        submissions.append(Submission(entry, sha256(entry).digest(), pre_certificate, (), fingerprints))
    made = sequencing.sequence(log.tree, submissions, {}, time.time_ns() // 1_000_000)
    await log.commit(made, signer.sign_head(made.tree.head))
    await log.publish()
    rows = []
    for draft, submission, pre_certificate in zip(drafts, submissions, precertificates, strict=True):
        place = made.places[submission.identity]
        sct = structures.sct(signer.sign_entry(submission.entry, place.timestamp, place.leaf_index))
        certificate = signed(precertificate.with_scts(draft[2], [sct]), issuer)
        rows.append((draft[0], draft[1], certificate, Logged(pre_certificate, sct, place.leaf_index)))
    await record._database.write(lambda connection: put(connection, pattern, rows))
    await follow(record, transparency, made)


def put(connection: Any, pattern: Pattern, rows: list[tuple[str, str, bytes, Logged]]) -> None:
    known, now = pattern.issued, int(time.time())
    for serial, name, certificate, logged in rows:
        subject = known.subject.replace(pattern.name.decode(), name)
        times = (known.not_before, known.not_after, now)
        reservation = Reservation(serial, known.issuer, known.profile, subject, (name,), "admin", *times)
        row = ca_storage._reserve(connection, reservation)
        ca_storage._store(connection, row, certificate, now, logged)
        if logged.leaf_index % REVOKED_EVERY == 0:
            partition = int(serial[:2], 16) % PARTITIONS
            revoked = Revocation(serial, known.issuer, partition, now, "superseded", known.not_after, "admin")
            status_storage._revoke(connection, revoked)


async def follow(record: ca_storage.Storage, transparency: ct_installation.Installation, made: Any) -> None:
    """What the reconciler would have seen by now."""
    head, signature = made.tree.head, transparency.storage.committed.signature
    told = SignedTreeHead(tree_size=head.size, timestamp=head.timestamp, root_hash=head.root, signature=signature)
    kept = record.reconciliation()
    seen = kept.log_seen()
    assert seen is not None
    seen = following.advanced(following.grown(seen, told, None), (entry.leaf_hash for entry in made.entries))
    await kept.seen(seen)


@contextmanager
def figures(title: str) -> Iterator[list[float]]:
    seconds: list[float] = []
    yield seconds
    ordered = sorted(1e3 * each for each in seconds)
    middle, p99 = statistics.median(ordered), ordered[len(ordered) * 99 // 100]
    say(f"{title:<32}p50 {middle:7.2f} ms   p99 {p99:7.2f} ms   of {len(ordered)}")


def first_certificate(tree: Tree) -> str:
    """One with a serial number that is as long in DER as those of the others."""
    key = new_key()
    while True:
        answer = tree.issue(signing_request(f"n0000000.{DOMAIN}", key=key))
        assert answer.status == 201, answer.text
        serial: str = answer.json()["serial"]
        if len(serial) == 32 and 0 < int(serial[:2], 16) < 0x80:
            return serial


def memory(tree: Tree) -> None:
    for name, pid in [("supervisor", tree.pid), *((service, tree.worker_pid(service)) for service in SERVICES)]:
        told = psutil.Process(pid).memory_full_info()
        say(f"  {name:<30}PSS {told.pss / 1e6:7.1f} MB   RSS {told.rss / 1e6:7.1f} MB")


def measured(tree: Tree) -> None:
    csr = signing_request("new.bench.example", key=new_key())
    with figures("issue, a connection each") as seconds:
        for _ in range(ISSUED):
            began = time.perf_counter()
            assert tree.issue(csr).status == 201
            seconds.append(time.perf_counter() - began)
    for title, query in (("newest 100", ""), ("of a name", f"&name=n0000777.{DOMAIN}"), ("revoked", "&status=revoked")):
        with figures(f"list: {title}") as seconds:
            for _ in range(PAGES):
                began = time.perf_counter()
                assert tree.api("GET", f"/v1/certificates?limit=100{query}").status == 200
                seconds.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("certificates", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--audit", action="store_true")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with running_tree() as tree:
        serial = first_certificate(tree)
        time.sleep(2)  # the reconciler has seen it
        tree.stop()
        asyncio.run(fill(tree.data_dir, serial, arguments.certificates))
        for place in ("ca", "ct"):
            used = sum(path.stat().st_size for path in (tree.data_dir / place).rglob("*") if path.is_file())
            say(f"  {place:<30}{used / 1e6:7.0f} MB on the disk")
        for _ in range(3):
            tree.start_healthy()
            say(f"start to healthy                {tree.started_in:.2f} s")
            tree.stop()
        tree.start_healthy()
        time.sleep(10)
        memory(tree)
        measured(tree)
        health = tree.monitoring("/health").json()
        say(f"health {health['health_score']:.2f} {health['status']} {health['issues']}")
        if arguments.audit:
            began = time.perf_counter()
            done = tree.run("audit", check=False, timeout=3600)
            say(f"audit: exit code {done.returncode} after {time.perf_counter() - began:.0f} s\n{done.stdout[-600:]}")


if __name__ == "__main__":
    main()
