"""Whether a request means this host: the check of `Host` that keeps a browser from being used against it (pure).

Without it a web page anywhere could have its own name resolve to 127.0.0.1 (DNS rebinding) and read, through its
visitor's browser, what is only meant for this host. Such a request carries the name of that page.
"""

from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

LOCALHOST: Final = "localhost"


class OwnNames:
    """The names that this host goes by, beside every IP address."""

    def __init__(self, domain: str, exact: Collection[str]) -> None:
        """Names below `domain` and below localhost count too, names below those in `exact` do not."""
        self.zones = (LOCALHOST, domain.lower())
        self.exact = frozenset(name.lower() for name in exact if name)

    def include(self, host: str) -> bool:
        """Whether `host`, the value of a Host field with or without port, is an IP address or one of the names."""
        name = _without_port(host).lower().removesuffix(".")
        if name in self.exact or _is_address(name):
            return True
        return any(name == zone or name.endswith("." + zone) for zone in self.zones)

    def __str__(self) -> str:
        return ", ".join((*self.zones, *sorted(self.exact - set(self.zones))))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
