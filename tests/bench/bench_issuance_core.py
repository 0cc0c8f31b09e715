"""Issuance inside the certificate authority: decide, lint, reserve, sign, log, store. fsync is on.

For each key type of the authority: every step alone, then whole issuance by one caller and by eight, with a fake log
that signs but writes nothing, in the same process. Beside it, in the same run, what the disk takes for one write and
fsync, and what `openssl speed` signs with the same kind of key. Then an early and a late page of lists over more and
more rows.

    .venv/bin/python -m tests.bench.bench_issuance_core [SECONDS [ROWS]]
"""

import asyncio
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog
import uvloop
from cryptography import x509

from config.schema import KeyType
from services.ca.inventory import listing
from services.ca.inventory.listing import Position
from services.ca.issuance import issuance, precertificate, signing
from services.ca.issuance.certification import Certifier
from services.ca.lint.lint import Signer, lint_certificate, lint_to_be_signed
from services.ca.messages import ListCertificates
from services.ca.storage import Storage
from services.rpc_server import Call
from tests.rig.fake_log import FakeLog, LogPeer
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import KEY_TYPES, NOW, asked, authority_over, certified, hierarchy_of, issuers, rules
from tests.unit.ca.records import opened

_CALL = Call("issue", 2**63, "")
_OPENSSL = {"p256": "ecdsap256", "ed25519": "ed25519", "rsa3072": "rsa3072"}
_WARM_UP = 20
_PAGES = 30
_YEAR = 31_536_000


def main(seconds: float = 2.0, rows: int = 100_000) -> None:
    """Prints the tables."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="tc-bench-") as directory:
        _say(f"one write and fsync: {_row(_repeated(_synced_write(Path(directory)), seconds / 4))}")
        for key_type in KEY_TYPES:
            _measure_authority(Path(directory), key_type, seconds)
        for count in (rows // 100, rows // 10, rows):
            uvloop.run(_measure_lists(Path(directory), count))


def _measure_authority(directory: Path, key_type: KeyType, seconds: float) -> None:
    made = hierarchy_of(key_type)
    wanted, ruled, active = asked(pem(request(dns("bench.example.test")))), rules(), issuers(made)
    decision = issuance.decide(wanted, ruled, active, NOW, 2**127)
    before, after = asyncio.run(certified(decision, FakeLog(), made.root))
    certifier, signer = Certifier(made.issuer), Signer.of(made.issuer.certificate)
    draft = certifier.draft(decision)
    precertified = certifier.precertificate(draft)
    (sct,) = precertificate.embedded_scts(x509.load_der_x509_certificate(after).tbs_certificate_bytes)
    _say(f"\n{key_type}: a precertificate of {len(before)} octets, a certificate of {len(after)}")
    for title, step in (
        ("decide", lambda: issuance.decide(wanted, ruled, active, NOW, 2**127)),
        ("build", lambda: issuance.to_be_signed(decision)),
        ("lint before", lambda: lint_to_be_signed(draft.to_be_signed, signer, "precertificate")),
        ("sign and verify", lambda: signing.certificate(draft.to_be_signed, made.issuer.private_key)),
        ("lint after", lambda: lint_certificate(after, signer)),
        ("draft (all of it)", lambda: certifier.draft(decision)),
        ("final (all of it)", lambda: certifier.certificate(precertified, sct, 0)),
    ):
        _say(f"  {title:18}{_row(_repeated(step, seconds / 8))}")
    _say(f"  openssl speed: {_openssl(_OPENSSL[key_type])}")
    for clients in (1, 8):
        record = directory / f"{key_type}-{clients}"
        record.mkdir()
        took = uvloop.run(_measure_issuance(record, key_type, clients, seconds))
        _say(f"  issue, {clients} at once  {_row(took, clients)}")


async def _measure_issuance(directory: Path, key_type: KeyType, clients: int, seconds: float) -> list[float]:
    async with opened(directory) as storage:
        peer = LogPeer(FakeLog(now=lambda: NOW * 1000))
        authority = authority_over(storage, hierarchy_of(key_type), peer, log=structlog.stdlib.get_logger())
        authority.start()
        wanted = asked(pem(request(dns("bench.example.test"))))
        for _ in range(_WARM_UP):
            await authority.issue(wanted, _CALL)
        took: list[float] = []
        until = time.perf_counter() + seconds

        async def client() -> None:
            while (began := time.perf_counter()) < until:
                await authority.issue(wanted, _CALL)
                took.append(time.perf_counter() - began)

        await asyncio.gather(*(client() for _ in range(clients)))
        await authority.finish()
        return took


async def _measure_lists(directory: Path, count: int) -> None:
    path = directory / f"rows-{count}"
    path.mkdir()
    async with opened(path):
        pass  # made, with its schema
    _fill(path / "certificates.db", count)
    _say(f"\npages of 100 over {count:,} certificates")
    async with opened(path) as storage:
        newest, expiring = Position(0, count // 100), Position(NOW + _YEAR - _YEAR // 100, 0)
        for title, first, last in (
            ("newest", ListCertificates(), listing.next_cursor("newest", newest)),
            ("of one profile", ListCertificates(profile="tls-server"), listing.next_cursor("newest", newest)),
            ("of one name", ListCertificates(name="n7.example"), listing.next_cursor("newest", newest)),
            ("by expiry", ListCertificates(status="valid"), listing.next_cursor("expiry", expiring)),
        ):
            late = ListCertificates(cursor=last, profile=first.profile, name=first.name, status=first.status)
            _say(f"  {title:16}  first {await _page_time(storage, first)}   late {await _page_time(storage, late)}")
    shutil.rmtree(path)


async def _page_time(storage: Storage, wanted: ListCertificates) -> str:
    took = []
    for _ in range(_PAGES):
        began = time.perf_counter()
        await storage.page(listing.query(wanted, NOW), wanted.limit)
        took.append(time.perf_counter() - began)
    return f"{statistics.median(took) * 1e3:6.2f} ms"


def _fill(path: Path, count: int) -> None:
    """Rows as issuance leaves them, without its fsyncs."""
    names = max(1, count // 100)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO certificates VALUES (?, ?, 'issued', '01', 'tls-server', 'CN=n', ?, 'a bench', 0, ?, 0, 0, ?, "
            "?, ?, 7, NULL)",
            (
                (
                    n,
                    f"{n:032x}",
                    f'["n{n % names}.example"]',
                    NOW + n * _YEAR // count,
                    b"c" * 900,
                    b"p" * 800,
                    b"s" * 120,
                )
                for n in range(1, count + 1)
            ),
        )
        connection.executemany(
            "INSERT INTO names VALUES (?, ?)", ((f"n{n % names}.example", n) for n in range(1, count + 1))
        )
        connection.commit()


def _synced_write(directory: Path) -> Callable[[], None]:
    descriptor = os.open(directory / "synced", os.O_RDWR | os.O_CREAT, 0o600)
    page = os.urandom(4096)

    def write() -> None:
        os.write(descriptor, page)
        os.fsync(descriptor)

    return write


def _repeated(run: Callable[[], object], seconds: float) -> list[float]:
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        run()
        took.append(time.perf_counter() - began)
    return took


def _row(took: list[float], clients: int = 1) -> str:
    ordered = sorted(took)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50 * 1e3:7.3f} ms   p99 {p99 * 1e3:7.3f} ms   {len(took) / sum(took) * clients:8.0f}/s"


def _openssl(algorithm: str) -> str:
    program = shutil.which("openssl")
    if program is None:
        return "openssl is not installed"
    done = subprocess.run(
        [program, "speed", "-seconds", "1", algorithm], capture_output=True, text=True, timeout=60, check=False
    )
    columns = done.stdout.splitlines()[-1].split() if done.returncode == 0 else []
    return f"{float(columns[-2]):.0f} signatures/s" if len(columns) >= 2 else f"{algorithm} is not known to it"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((float, int), sys.argv[1:], strict=False)))
