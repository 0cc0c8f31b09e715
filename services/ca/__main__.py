"""The worker process of the certificate authority."""

from __future__ import annotations

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 - else imported after the fork, by the first signature

from config.inheritance import Inheritance
from config.schema import Settings
from monitoring.metrics import Family
from services.ca.assembly import rules_of
from services.ca.keyring import warm_up
from services.ca.metrics import families
from services.ca.service import build
from services.worker import run

# In the fork server, once: else the library gathers its algorithms in every worker, 4 ms before it can answer.
warm_up()


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, _families)


def _families(settings: Settings) -> tuple[Family, ...]:
    """The operator's profiles are label values. Raises ConfigurationError for a profile that is none."""
    return families(rules_of(settings).profiles)
