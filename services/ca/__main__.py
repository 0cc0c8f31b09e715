"""The worker process of the certificate authority."""

from __future__ import annotations

from config.inheritance import Inheritance
from services.ca.metrics import FAMILIES
from services.ca.service import build
from services.worker import run


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, FAMILIES)
