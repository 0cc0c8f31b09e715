"""Certificate authorities for tests: hierarchies of each key type, made once, rules to decide by, whole authorities."""

import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from config.profile_parsing import parse_profile
from config.profile_schema import HierarchyKind
from config.schema import Ca, KeyType, Server, Settings
from monitoring.metrics import Metrics
from services.ca.assembly import rules_of
from services.ca.hierarchy import ceremony
from services.ca.hierarchy.ceremony import Means
from services.ca.hierarchy.document import Role
from services.ca.hierarchy.hierarchy import Hierarchy, Issuer, Kind
from services.ca.hierarchy.keyring import Keyring
from services.ca.installation import Installation, new_hierarchy, plan_of
from services.ca.issuance.certification import Certifier
from services.ca.issuance.issuance import Decision, decide
from services.ca.issuance.rules import Rules
from services.ca.issuance.transparency import TransparencyLog
from services.ca.messages import IssueRequest
from services.ca.metrics import AuthorityMetrics, families
from services.ca.serials import new_serial
from services.ca.server import CertificateAuthority
from services.ca.storage import Storage
from tests.rig.fake_log import FakeLog, LogPeer

NOW = 1_800_000_000
KEY_TYPES: tuple[KeyType, ...] = ("p256", "ed25519", "rsa3072")
SERIAL = 0x0123456789ABCDEF0123456789ABCDEF


def hierarchy_of(key_type: KeyType = "p256") -> Hierarchy:
    """A root and an intermediate, created at NOW with default settings; always the same ones."""
    return _hierarchy_of(key_type)


@cache
def _hierarchy_of(key_type: KeyType) -> Hierarchy:
    return new_hierarchy(Ca(key_type=key_type), NOW)


def issuers(made: Hierarchy) -> Mapping[HierarchyKind, Issuer]:
    """The active issuers of a hierarchy."""
    return {kind: made.active(kind) for kind in made.kinds}


def means(now: int = NOW, **settings: object) -> Means:
    """What ceremonies of tests work with; `settings` of the section [ca]."""
    return Means(plan_of(Ca(**settings)), partial(new_serial, os.urandom), now)  # type: ignore[arg-type] # as in `rules`


def rotated(made: Hierarchy, role: Role = "intermediate", now: int = NOW + 1000, kind: Kind = "classical") -> Hierarchy:
    """A hierarchy after a rotation at `now`."""
    key, root_key = (Keyring().generate(kind, "p256", "a test") for _ in range(2))
    if role == "intermediate":
        return ceremony.rotated_intermediate(made, kind, means(now), key)
    return ceremony.rotated_root(made, means(now), root_key, key)


def rules(profiles: Mapping[str, str] | None = None, **settings: object) -> Rules:
    """The rules that follow from settings of the section [ca], with further profiles: name to TOML."""
    ca = Ca(**settings)  # type: ignore[arg-type] # settings by name, checked by the test that gives them
    whole = Settings(server=Server(data_dir="/nowhere", runtime_dir="/nowhere/run"), ca=ca)
    if not profiles:
        return rules_of(whole)
    own = {name: parse_profile(text.encode(), name, f"{name}.toml") for name, text in profiles.items()}
    shipped = rules_of(whole)
    added = Rules.of(whole, own)
    return Rules(
        shipped.default_profile,
        {**shipped.profiles, **added.profiles},
        shipped.policy,
        shipped.status,
        ca.crl_partitions,
    )


def asked(
    csr: bytes, profile: str | None = None, validity_seconds: int | None = None, requester: str = "a test"
) -> IssueRequest:
    """A request for a certificate as the authority receives it."""
    return IssueRequest(csr=csr, profile=profile, validity_seconds=validity_seconds, requester=requester)


def decided(
    csr: bytes,
    profile: str | None = None,
    made: Hierarchy | None = None,
    ruled: Rules | None = None,
    now: int = NOW,
    serial: int = SERIAL,
) -> Decision:
    """What is decided about a request."""
    return decide(asked(csr, profile), ruled or rules(), issuers(made or hierarchy_of()), now, serial)


async def certified(decision: Decision, log: FakeLog, root: x509.Certificate) -> tuple[bytes, bytes]:
    """Precertificate and certificate (DER) of a decision, with a timestamp of this log."""
    certifier = Certifier(decision.issuer)
    made = certifier.precertificate(certifier.draft(decision))
    client = TransparencyLog(LogPeer(log), SILENT, log.now, 1.0)
    client.trust([root.public_bytes(Encoding.DER)])
    promise = await client.add(certifier.chain(made), certifier.key_hash, made.logged)
    return made.certificate, certifier.certificate(made, promise.serialized, promise.leaf_index).certificate


class Silent:
    """A log of events that keeps none."""

    def info(self, event: str, **values: Any) -> None:
        """Nothing."""

    warning = error = info


SILENT = Silent()


def authority_over(
    storage: Storage,
    made: Hierarchy,
    peer: LogPeer,
    *,
    ruled: Rules | None = None,
    metrics: Metrics | None = None,
    log: Any = SILENT,
    now: Callable[[], int] = lambda: NOW,
) -> CertificateAuthority:
    """An authority over an open record."""
    ruled = ruled or rules()
    return CertificateAuthority(
        installation=Installation(made, storage),
        rules=ruled,
        transparency=TransparencyLog(peer, log, peer.log.now, 1.0),
        metrics=AuthorityMetrics(metrics or Metrics.in_memory(families(ruled.profiles)), ruled.profiles),
        log=log,
        now=now,
        random_octets=os.urandom,
    )


def extensions_of(certificate: bytes) -> x509.Extensions:
    """The extensions of a certificate (DER)."""
    return x509.load_der_x509_certificate(certificate).extensions
