"""What `trustchain audit` takes for so many certificates, and whether its memory grows with them.

    python -m tests.bench.bench_audit [COUNT ...]

Makes a data directory with COUNT certificates (1000 and 4000 unless told otherwise) by the authority's own steps and a
real log, all in this process, and runs the command on it. Making takes several times as long as the audit.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from config.loader import load
from config.schema import Settings
from monitoring.metrics import Metrics
from services.ca import installation as ca_installation
from services.ca.assembly import rules_of, unix_milliseconds, unix_seconds
from services.ca.issuance import issuance
from services.ca.issuance.certification import Certifier, Logged
from services.ca.messages import IssueRequest
from services.ca.serials import new_serial, serial_text
from services.ca.storage import Reservation, Storage
from services.ct import installation as ct_installation
from services.ct.messages import AcceptRoots, AddChain
from services.ct.metrics import FAMILIES, LogMetrics
from services.ct.server import TransparencyLog
from services.rpc_server import Call
from tests.rig.signing_request import signing_request
from tests.rig.tree import trustchain
from tests.unit.ca.authorities import SILENT

CALL = Call("a bench", 2**63, "")
AT_ONCE = 64
COUNTS = (1_000, 4_000)


class Maker:
    """An open authority with its open log."""

    def __init__(self, ca: ca_installation.Installation, log: TransparencyLog, settings: Settings) -> None:
        self._storage: Storage = ca.storage
        self._issuer = ca.hierarchy.active()
        self._certifier = Certifier(self._issuer)
        self._log = log
        self._rules = rules_of(settings)
        self._csr = signing_request("bench.example.test").encode()

    async def issue(self) -> None:
        """One certificate, on record and in the log."""
        request = IssueRequest(csr=self._csr, requester="a bench")
        serial = new_serial(os.urandom)
        decision = issuance.decide(request, self._rules, {"classical": self._issuer}, unix_seconds(), serial)
        made = self._certifier.precertificate(self._certifier.draft(decision))
        reservation = Reservation(
            serial=serial_text(serial),
            issuer=self._issuer.id,
            profile=decision.profile.name,
            subject=decision.subject.rfc4514_string(),
            names=tuple(name.text for name in decision.names),
            requester="a bench",
            not_before=decision.validity.not_before,
            not_after=decision.validity.not_after,
            reserved_at=unix_seconds(),
        )
        row = await self._storage.reserve(reservation)
        promise = await self._log.add(AddChain(chain=self._certifier.chain(made), entry_type="precert"), CALL)
        done = self._certifier.certificate(made, promise.serialized, promise.leaf_index)
        logged = Logged(made.certificate, promise.serialized, promise.leaf_index)
        await self._storage.store(row, done.certificate, unix_seconds(), logged)


async def fill(data_dir: Path, count: int) -> None:
    """Make a data directory with `count` certificates."""
    settings = load(data_dir=data_dir).settings
    ca = await ca_installation.open_installation(settings, unix_seconds, SILENT)
    opened = await ct_installation.open_installation(settings, unix_milliseconds, SILENT)
    log = TransparencyLog(opened, LogMetrics(Metrics.in_memory(FAMILIES)), SILENT, unix_milliseconds)
    await log.start([])
    await log.accept_roots(AcceptRoots(certificates=list(ca.hierarchy.anchors())), CALL)
    maker = Maker(ca, log, settings)
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*(maker.issue() for _ in range(min(AT_ONCE, count - first))))
    await log.finish()
    await log.close()
    await ca.storage.close()


def measure(count: int) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        data_dir = Path(directory) / "d"
        began = time.monotonic()
        asyncio.run(fill(data_dir, count))
        made = time.monotonic() - began
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        command = [trustchain(), "audit", "--json", "--data-dir", str(data_dir)]
        done = subprocess.run(command, check=True, capture_output=True)
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(done.stdout)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file())
    return (
        f"{report['certificates']:>12,} {size / 1e6:>8.1f} MB {made:>9.1f} s {took:>8.2f} s {cpu:>8.2f} s "
        f"{took / count * 10_000:>10.2f} s {after.ru_maxrss / 1024:>9.1f} MB"
    )


def main(counts: Sequence[int]) -> None:
    """Print the table. The memory is the largest of all audits so far: small counts first."""
    sys.stdout.write("certificates        files      making    audit      CPU  per 10,000   peak memory\n")
    for count in counts:
        sys.stdout.write(measure(count) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or COUNTS)
