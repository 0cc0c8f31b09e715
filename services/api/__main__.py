"""The worker process of the API."""

from __future__ import annotations

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - else imported after the fork, by the first signature

from config.inheritance import Inheritance
from monitoring.metrics import WORKER_FAMILIES, Metrics
from services.api.metrics import FAMILIES
from services.api.service import build
from services.worker import run

# In the fork server, once: else every worker does it again before it can answer.
Metrics.prepare((*WORKER_FAMILIES, *FAMILIES))


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, FAMILIES)
