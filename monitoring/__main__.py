"""Entry point of the monitoring worker: the supervisor's fork server imports this module and calls `main`."""

from config.inheritance import Inheritance
from monitoring.child import run


def main(inheritance: Inheritance) -> None:
    """Read the block, judge, serve HTTP, until SIGTERM. Raises SystemExit(1) when that is impossible."""
    run(inheritance)
