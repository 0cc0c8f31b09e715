"""The worker process of the certificate authority."""

from __future__ import annotations

import itertools

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - else imported after the fork, by the first signature

from config.inheritance import Inheritance
from config.profile_files import read_shipped
from config.schema import Settings
from monitoring.metrics import WORKER_FAMILIES, Family, Metrics
from services.ca.assembly import rules_of
from services.ca.hierarchy.keyring import warm_up
from services.ca.metrics import families
from services.ca.service import METHODS, build
from services.ct.messages import LogDescription, Roots, SignedCertificateTimestamp
from services.rpc_server import know
from services.worker import run

# In the fork server, once: else every worker does it again, some 10 ms before it can answer.
warm_up()
Metrics.prepare((*WORKER_FAMILIES, *families(read_shipped())))
know(itertools.chain(*METHODS.values()))
know((LogDescription, Roots, SignedCertificateTimestamp))


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, _families)


def _families(settings: Settings) -> tuple[Family, ...]:
    """The operator's profiles are label values. Raises ConfigurationError for a profile that is none."""
    return families(rules_of(settings).profiles)
