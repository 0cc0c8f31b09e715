"""Which services the tree consists of: what each one runs, listens on and depends on.

Rules: a service names its module as a string, so that nothing but the worker process itself imports it. Dependencies
come before their dependents. A service that is not built is not in the tree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from config.schema import Settings

ListenerKind = Literal["tcp", "udp", "unix"]
RestartPolicy = Literal["permanent", "transient", "temporary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One socket that the supervisor binds for a service: `address` and `port`, or `path` for a Unix socket.

    Several listeners may bear one name (IPv4 and IPv6 of the same interface): the worker gets them together. `prefix`
    is what the names of its settings begin with in the section of its service (`http_` for `http_port`).
    Raises ValueError when the kind and the place do not fit.
    """

    name: str
    kind: ListenerKind
    address: str = ""
    port: int = 0
    path: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        by_path = self.kind == "unix"
        if by_path != bool(self.path) or by_path == bool(self.address) or by_path == bool(self.port):
            raise ValueError(f"a {self.kind} listener needs {'a path only' if by_path else 'an address and a port'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Something that one service alone gets to know, from a `source` as the setting `setting` names it.

    While the file `new_until` does not exist the secret is a new one: a person is asked for it twice.
    """

    name: str
    setting: str
    source: str
    new_until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: `module` is imported in the worker as `MODULE.__main__`, whose `main` gets the inheritance."""

    name: str
    module: str
    depends_on: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    secrets: tuple[Secret, ...] = ()
    restart: RestartPolicy = "permanent"
    required: bool = True


def topology(settings: Settings) -> tuple[Service, ...]:
    """Return the services of the tree in an order in which each one follows what it depends on."""
    services = []
    if settings.monitoring.enabled:
        http = _tcp("http", settings.monitoring.addresses, settings.monitoring.port)
        services.append(Service(name="monitoring", module="monitoring", listeners=http))
    services.append(Service(name="ct", module="services.ct", listeners=(_rpc(settings, "ct"),)))
    services.append(
        Service(
            name="ca",
            module="services.ca",
            depends_on=("ct",),
            listeners=(_rpc(settings, "ca"),),
            secrets=_ca_secrets(settings),
        )
    )
    https = _tcp("https", settings.api.addresses, settings.api.port)
    plain = _tcp("http", settings.api.http_addresses, settings.api.http_port, "http_")
    services.append(Service(name="api", module="services.api", depends_on=("ca", "ct"), listeners=https + plain))
    return tuple(services)


def _tcp(name: str, addresses: Iterable[str], port: int, prefix: str = "") -> tuple[Listener, ...]:
    return tuple(Listener(name=name, kind="tcp", address=address, port=port, prefix=prefix) for address in addresses)


def _ca_secrets(settings: Settings) -> tuple[Secret, ...]:
    ca, keys = settings.ca, str(settings.paths.hierarchy)
    possible = (
        Secret(name="key_passphrase", setting="ca.key_passphrase", source=ca.key_passphrase, new_until=keys),
        Secret(name="pkcs11_pin", setting="ca.pkcs11_pin", source=ca.pkcs11_pin),
    )
    return tuple(secret for secret in possible if secret.source != "none")


def _rpc(settings: Settings, service: str) -> Listener:
    return Listener(name="rpc", kind="unix", path=str(settings.paths.rpc_socket(service)))
