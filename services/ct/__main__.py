"""The worker process of the Certificate Transparency log."""

from __future__ import annotations

import itertools

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - else imported after the fork, by the first signature

from config.inheritance import Inheritance
from monitoring.metrics import WORKER_FAMILIES, Metrics
from services.ct.messages import METHODS
from services.ct.metrics import FAMILIES
from services.ct.service import build
from services.rpc_server import know
from services.worker import run

# In the fork server, once: else every worker does it again before it can answer.
know(itertools.chain(*METHODS.values()))
Metrics.prepare((*WORKER_FAMILIES, *FAMILIES))


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, FAMILIES)
