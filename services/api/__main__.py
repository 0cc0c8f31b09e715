"""The worker process of the API."""

from __future__ import annotations

from config.inheritance import Inheritance
from services.api.metrics import FAMILIES
from services.api.service import build
from services.worker import run


def main(inheritance: Inheritance) -> None:
    """Serve until told to stop. Raises SystemExit (78 when an operator has to act)."""
    run(inheritance, build, FAMILIES)
