"""How the parts of the authority are made from what its worker has: settings, secrets, metrics, peers.

Rules: one function for each part, in the order in which `service.build` needs them; nothing is decided here.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from config.problems import ConfigError
from config.profile_files import load_profiles
from config.schema import Settings
from services.ca.evidence.composer import EvidenceComposer, Sealer
from services.ca.hierarchy.keyring import Keyring
from services.ca.installation import Installation
from services.ca.inventory.expiry import Item
from services.ca.inventory.metrics import InventoryMetrics
from services.ca.inventory.retention import Retention
from services.ca.inventory.server import Inventory
from services.ca.issuance.hold import IssuanceHold
from services.ca.issuance.rules import Rules
from services.ca.issuance.transparency import TransparencyLog
from services.ca.keys.token_keys import Pkcs11Token
from services.ca.metrics import AuthorityMetrics
from services.ca.reconciliation.finding_register import FindingRegister
from services.ca.reconciliation.follower import LogFollower
from services.ca.reconciliation.journal import Comparisons, Journal
from services.ca.reconciliation.metrics import ReconcilerMetrics
from services.ca.reconciliation.reconciler import Reconciler
from services.ca.reconciliation.sweeper import Sweeper
from services.ca.server import CertificateAuthority
from services.ca.status import crl_takeover
from services.ca.status.authorities import authorities_of
from services.ca.status.crl_files import CrlFiles
from services.ca.status.crl_publication import CrlPublication, signings_of
from services.ca.status.messages import OcspAnswer, OcspQuery
from services.ca.status.metrics import StatusMetrics
from services.ca.status.responders import Responders
from services.ca.status.server import CertificateStatusService
from services.ca.status.surroundings import Surroundings
from services.ca.storage import Storage
from services.errors import ConfigurationError
from services.rpc_server import Call
from services.worker import Worker

LOG_ACCEPTED: Final = "accept-log"  # the operator's word that the log is to be taken as it is
RECORD_ACCEPTED: Final = "accept-record"  # the same of the record: what is missing in it is given up
TRIED: Final = "profiles.tried"
LOG_SHARE: Final = 0.5  # of the time for a probe: so that a log that hangs is found out before the probe is too late


def _version() -> str:
    try:
        return metadata.version("trustchain")
    except metadata.PackageNotFoundError:
        return "from its sources"


# Of the installed program, looked up before a worker is forked: it takes as long as opening the record.
VERSION: Final = _version()


def rules_of(settings: Settings) -> Rules:
    """What settings and profiles let the authority issue. Raises ConfigurationError with everything that is wrong."""
    try:
        documents = load_profiles(settings)
    except ConfigError as error:
        raise ConfigurationError(f"the certificate profiles cannot be used: {error}") from error
    return Rules.of(settings, documents)


def keyring_of(worker: Worker) -> Keyring:
    """What opens the authority's keys, by settings and secrets."""
    ca = worker.settings.ca
    token = Pkcs11Token(ca.pkcs11_module, ca.pkcs11_token, worker.secret("pkcs11_pin")) if ca.pkcs11_module else None
    return Keyring(worker.secret("key_passphrase"), token)


def transparency_log(worker: Worker, hold: IssuanceHold) -> TransparencyLog:
    """The authority's side of the log; nothing is logged while `hold` says so."""
    probe_seconds = worker.probe_timeout * LOG_SHARE
    return TransparencyLog(worker.peer("ct"), worker.log, unix_milliseconds, probe_seconds, hold)


async def open_status(
    worker: Worker, installation: Installation, counting_refusals: Callable[[], AbstractContextManager[None]]
) -> CertificateStatusService:
    """Bring record and published lists together, and keep status from now on. Raises StorageUnavailable."""
    settings, storage = worker.settings, installation.storage.status()
    authorities = authorities_of(installation.hierarchy, settings.ca.crl_partitions)
    around = Surroundings(
        metrics=StatusMetrics(worker.metrics),
        log=worker.log,
        now=unix_seconds,
        random_octets=os.urandom,
        backdate=settings.ca.backdate,
    )
    files = CrlFiles(settings.paths.ca_dir / "crl")
    publication = CrlPublication(
        signings=signings_of(authorities, settings), storage=storage, files=files, around=around
    )
    await crl_takeover.restore(files, authorities, storage, publication, around)
    lifetime = settings.ca.ocsp_validity
    status = CertificateStatusService(
        authorities=authorities,
        storage=storage,
        publication=publication,
        responders=Responders(issuers=authorities.issuers, storage=storage, around=around, lifetime=lifetime),
        around=around,
        counting_refusals=counting_refusals,
        answer_lifetime=lifetime,
    )
    await status.start()
    return status


def inventory_of(worker: Worker, record: Storage, sources: Sequence[Callable[[], Iterable[Item]]]) -> Inventory:
    """The inventory of an open record; `sources` give what ends beside the leaves."""
    metrics, storage = InventoryMetrics(worker.metrics), record.inventory()
    return Inventory(
        storage=storage,
        retention=Retention(storage, worker.settings.ca.retention_days, metrics, worker.log, unix_seconds),
        sources=sources,
        metrics=metrics,
        log=worker.log,
        now=unix_seconds,
        disk_free=lambda: shutil.disk_usage(worker.settings.paths.ca_dir).free,
    )


async def open_reconciler(
    worker: Worker,
    storage: Storage,
    authority: CertificateAuthority,
    status: Awaitable[CertificateStatusService],
    rules: Rules,
    hold: IssuanceHold,
) -> Reconciler:
    """Compare record and log from now on. Raises StorageUnavailable."""

    async def answer(request: bytes) -> bytes:
        return (await (await status).ocsp(OcspQuery(request=request), Call("ocsp", 2**63, ""))).der

    def certificates() -> Mapping[str, x509.Certificate]:
        return authorities_of(authority.hierarchy, worker.settings.ca.crl_partitions).certificates()

    kept, metrics, journal = storage.reconciliation(), ReconcilerMetrics(worker.metrics), Journal(worker.peer("ct"))
    register = FindingRegister(kept, metrics, worker.log, unix_seconds)
    unlogged = [name for name, profile in rules.profiles.items() if not profile.transparency]
    comparisons = Comparisons(journal, kept, certificates, unlogged)
    follower = LogFollower(kept, journal, comparisons, register, hold, metrics, worker.log)
    sweeper = Sweeper(kept, storage.status(), journal, comparisons, register, answer, unix_seconds)
    reconciler = Reconciler(kept, follower, sweeper, register, hold, metrics, worker.log)
    ca_dir = worker.settings.paths.ca_dir
    try:
        await reconciler.start(ca_dir / LOG_ACCEPTED, ca_dir / RECORD_ACCEPTED, unix_seconds())
    except BaseException:
        await reconciler.close()
        raise
    return reconciler


def composer_of(
    worker: Worker,
    storage: Storage,
    authority: CertificateAuthority,
    status: Awaitable[CertificateStatusService],
    metrics: AuthorityMetrics,
) -> EvidenceComposer:
    """Who puts evidence together, sealed by the issuer of the certificate that it is about."""

    def sealer(name: str) -> Sealer | None:
        hierarchy = authority.hierarchy
        issuer = hierarchy.issuers.get(name)
        if issuer is None:
            return None
        return Sealer(issuer.private_key, (*issuer.path, hierarchy.root_above(issuer).certificate))

    async def answer(request: OcspQuery, call: Call) -> OcspAnswer:
        return await (await status).ocsp(request, call)

    return EvidenceComposer(
        storage=storage,
        sealer=sealer,
        peer=worker.peer("ct"),
        answer=answer,
        counting_refusals=metrics.counting_refusals,
        now=unix_seconds,
    )


class ProfileTrial:
    """Tries the profiles when they, the settings or the issuers are not those that were tried the last time.

    `tried` is a file with their digest. It is no promise: whoever loses it tries them again.
    """

    def __init__(self, tried: Path, digest: str, trial: Callable[[], Awaitable[None]]) -> None:
        self._tried = tried
        self._digest = digest
        self._trial = trial
        self._passed = False

    async def passed(self) -> None:
        """Returns when they can be used. Raises ConfigurationError."""
        if self._passed:
            return
        if not self._was_tried():
            await self._trial()
            with suppress(OSError):
                self._tried.write_text(self._digest)
        self._passed = True

    def _was_tried(self) -> bool:
        try:
            return self._tried.read_text() == self._digest
        except (OSError, UnicodeDecodeError):
            return False


def profile_trial(settings: Settings, authority: CertificateAuthority) -> ProfileTrial:
    """The trial of the profiles of these settings by the authority's issuers."""
    known = (load_profiles(settings), settings, sorted(authority.hierarchy.issuers), VERSION)
    digest = sha256(msgspec.json.encode(known, order="deterministic")).hexdigest()
    return ProfileTrial(settings.paths.ca_dir / TRIED, digest, authority.try_profiles)


def unix_milliseconds() -> int:
    """The clock that timestamps go by: the same, in milliseconds."""
    return time.time_ns() // 1_000_000


def unix_seconds() -> int:
    """The clock that certificates go by: the wall clock of the host, whole seconds since the Unix epoch."""
    return int(time.time())
