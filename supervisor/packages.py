"""TrustChain's packages have everyday names; this makes sure that the ones found are TrustChain's.

Rules: the four lie in one directory, the one this file was imported from. Nothing is imported to find out.
"""

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

from supervisor.errors import CONFIGURATION_ERROR, StartError

PACKAGES: Final = ("config", "supervisor", "services", "monitoring")


def check_packages(
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec, home: Path = Path(__file__).parents[1]
) -> None:
    """Raise StartError (exit code 78) if another distribution's package of the same name would be used."""
    for package in PACKAGES:
        spec = find(package)
        if spec is None or spec.origin is None:
            text = f"the package {package!r} is missing from {home}: install TrustChain again"
            raise StartError(text, CONFIGURATION_ERROR)
        found = Path(spec.origin).parent
        if not _same(found, home / package):
            raise StartError(
                f"the package {package!r} comes from {found} and not from {home}: another distribution in this "
                "environment has a package of that name; install TrustChain into a virtual environment of its own",
                CONFIGURATION_ERROR,
            )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
