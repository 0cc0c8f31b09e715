"""A certificate status service over real files for tests, with a clock that is set and a log that is kept."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.x509 import ocsp as x509_ocsp

from config.schema import Ca, Server, Settings
from monitoring.metrics import Metrics
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.issuance.certification import Certifier
from services.ca.metrics import families
from services.ca.serials import new_serial, serial_text
from services.ca.status import crl, crl_takeover, ocsp
from services.ca.status.authorities import Authorities, authorities_of
from services.ca.status.crl_files import CrlFiles
from services.ca.status.crl_publication import CrlPublication, signings_of
from services.ca.status.messages import OcspAnswer, OcspQuery, RevocationProof, Revoke, Revoked
from services.ca.status.metrics import StatusMetrics
from services.ca.status.responders import Responders
from services.ca.status.server import CertificateStatusService
from services.ca.status.storage import StatusStorage
from services.ca.status.surroundings import Surroundings
from services.ca.storage import MIGRATIONS, Reservation, Storage
from services.database import Database
from services.rpc_server import Call
from tests.rig.event_log import EventLog
from tests.unit.ca.applicants import ApplicantKey, dns, pem, request
from tests.unit.ca.authorities import NOW, decided, hierarchy_of, rules

CALL = Call("a method", 2**63, "")
FULL_DAY = 86_400


class StatusHost:
    """One service in a directory: `ca/certificates.db`, `ca/crl`. What it keeps outlives it."""

    def __init__(self, directory: Path, made: Hierarchy | None = None, **ca: Any) -> None:
        self.directory = directory
        self.hierarchy = made or hierarchy_of()
        self.settings = Settings(
            server=Server(data_dir=str(directory), runtime_dir=str(directory / "run")), ca=Ca(**ca)
        )
        self.now = NOW
        self.log = EventLog()
        self.metrics = Metrics.in_memory(families(["tls-server"]))
        self.files = CrlFiles(self.settings.paths.ca_dir / "crl")
        self.authorities: Authorities = authorities_of(self.hierarchy, self.settings.ca.crl_partitions)
        self.issuer = self.hierarchy.issuer.id
        self.root = serial_text(self.hierarchy.root.serial_number)
        self.record: Storage
        self.storage: StatusStorage
        self.publication: CrlPublication
        self.service: CertificateStatusService

    async def open(self) -> None:
        self.settings.paths.ca_dir.mkdir(parents=True, exist_ok=True)
        database = await Database.open(self.settings.paths.ca_dir / "certificates.db", MIGRATIONS)
        self.record, self.storage = Storage(database), StatusStorage(database)
        around = Surroundings(
            metrics=StatusMetrics(self.metrics),
            log=self.log,
            now=lambda: self.now,
            random_octets=os.urandom,
            backdate=self.settings.ca.backdate,
        )
        lifetime = self.settings.ca.ocsp_validity
        self.publication = CrlPublication(
            signings=signings_of(self.authorities, self.settings),
            storage=self.storage,
            files=self.files,
            around=around,
        )
        self.service = CertificateStatusService(
            authorities=self.authorities,
            storage=self.storage,
            publication=self.publication,
            responders=Responders(
                issuers=self.authorities.issuers, storage=self.storage, around=around, lifetime=lifetime
            ),
            around=around,
            counting_refusals=_uncounted,
            answer_lifetime=lifetime,
        )
        await crl_takeover.restore(self.files, self.authorities, self.storage, self.publication, around)
        await self.service.start()
        await self.service.keep_up()

    async def close(self) -> None:
        await self.service.finish()
        await self.record.close()

    async def issue(self, key: ApplicantKey | None = None, *, not_after: int | None = None) -> int:
        """Put a real certificate on record; returns its serial number."""
        serial = new_serial(os.urandom)
        csr = pem(request(dns("host.example"), key=key))
        quiet = {"quiet": 'description = "not logged"\nextended_key_usages = ["serverAuth"]\ntransparency = false'}
        decision = decided(
            csr, "quiet", self.hierarchy, rules(quiet, crl_partitions=self.settings.ca.crl_partitions), self.now, serial
        )
        certifier = Certifier(decision.issuer)
        der = certifier.plain(certifier.draft(decision)).certificate
        reserved = self.reserved(serial, not_after or decision.validity.not_after)
        await self.record.store(await self.record.reserve(reserved), der, self.now)
        return serial

    def reserved(self, serial: int, not_after: int = NOW + FULL_DAY) -> Reservation:
        return Reservation(
            serial=serial_text(serial),
            issuer=self.issuer,
            profile="tls-server",
            subject="CN=host.example",
            names=("host.example",),
            requester="a test",
            not_before=NOW - 60,
            not_after=not_after,
            reserved_at=NOW,
        )

    async def revoke(
        self, serial: int, reason: str = "unspecified", proof: RevocationProof | None = None, trace: str = ""
    ) -> Revoked:
        wanted = Revoke(serial=serial_text(serial), reason=reason, requester="a test", proof=proof)
        return await self.service.revoke(wanted, Call("revoke", 2**63, trace))

    def request(self, serial: int, digest: int = 0) -> bytes:
        """An OCSP request about a serial number of the issuer. `digest` picks the hash: 0 SHA-1, 1 SHA-256."""
        return ocsp.request_for(ocsp.hashes_of(self.hierarchy.issuer.certificate)[digest], serial)

    async def ask(self, serial: int, digest: int = 0) -> OcspAnswer:
        return await self.service.ocsp(OcspQuery(request=self.request(serial, digest)), CALL)

    async def status(self, serial: int, digest: int = 0) -> str:
        """What a relying party reads in the answer about this serial number, after it has verified it."""
        asked_for = ocsp.parse(self.request(serial, digest))
        answer = await self.ask(serial, digest)
        return ocsp.verify(answer.der, asked_for, self.hierarchy.issuer.certificate, self.now)

    def listed(self) -> set[int]:
        """All serial numbers on the published lists of the issuer, as its files have them."""
        return {
            entry.serial
            for path in self.files.directory.glob(f"{self.issuer}-*.crl")
            for entry in crl.entries(path.read_bytes())
        }


def response(answer: OcspAnswer) -> x509_ocsp.OCSPResponse:
    """An answer, read by the library."""
    return x509_ocsp.load_der_ocsp_response(answer.der)


def on_status(
    directory: Path,
    test: Callable[[StatusHost], Awaitable[None]],
    made: Hierarchy | None = None,
    now: int = NOW,
    **ca: Any,
) -> StatusHost:
    """Run a test with an open service; it is closed afterwards, and what it kept stays."""
    host = StatusHost(directory, made, **ca)
    host.now = now

    async def run() -> None:
        await host.open()
        try:
            await test(host)
        finally:
            with suppress(asyncio.CancelledError):
                await host.close()

    asyncio.run(run())
    return host


@contextmanager
def _uncounted() -> Iterator[None]:
    yield
