"""What must hold between several settings, and why.

Rules: each value alone is already within its bounds. Every contradiction is yielded, not only the first. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from config.schema import Settings
from config.topology import Listener, topology

MAX_SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket: `sun_path` of unix(7) holds 108 bytes, and the last one is the terminator."""

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`key` cannot have its value while the settings in `because_of` have theirs."""

    key: str
    because_of: tuple[str, ...]
    found: str
    expected: str


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Yield everything in `settings` that does not fit together."""
    yield from _supervision(settings)
    yield from _monitoring(settings)
    yield from _validity(settings)
    yield from _secrets(settings)
    yield from _api_limits(settings)
    yield from _ports(settings)
    yield from _socket_paths(settings)


def _supervision(settings: Settings) -> Iterator[Contradiction]:
    supervisor = settings.supervisor
    interval, timeout = supervisor.heartbeat_interval, supervisor.heartbeat_timeout
    if timeout <= 2 * interval:  # one late heartbeat must not look like a hang
        yield Contradiction(
            "supervisor.heartbeat_timeout",
            ("supervisor.heartbeat_interval",),
            f"{timeout:g}",
            f"more than twice supervisor.heartbeat_interval, which is {interval:g}",
        )
    if supervisor.backoff_max < supervisor.backoff_initial:
        yield Contradiction(
            "supervisor.backoff_max",
            ("supervisor.backoff_initial",),
            f"{supervisor.backoff_max:g}",
            f"at least supervisor.backoff_initial, which is {supervisor.backoff_initial:g}",
        )


def _monitoring(settings: Settings) -> Iterator[Contradiction]:
    supervisor, monitoring = settings.supervisor, settings.monitoring
    health_check = monitoring.health_check_interval
    if supervisor.verdict_max_age < 2 * health_check:  # otherwise every verdict is stale before the next one
        yield Contradiction(
            "supervisor.verdict_max_age",
            ("monitoring.health_check_interval",),
            f"{supervisor.verdict_max_age:g}",
            f"at least twice monitoring.health_check_interval, which is {health_check:g}",
        )
    if monitoring.retention_seconds < 2 * monitoring.collection_interval:
        yield Contradiction(
            "monitoring.retention_seconds",
            ("monitoring.collection_interval",),
            f"{monitoring.retention_seconds}",
            f"at least twice monitoring.collection_interval, which is {monitoring.collection_interval:g}",
        )


def _validity(settings: Settings) -> Iterator[Contradiction]:
    ca = settings.ca
    if ca.default_validity > ca.max_validity:
        yield _at_most("ca.default_validity", ca.default_validity, "ca.max_validity", ca.max_validity)
    intermediate, root = ca.intermediate_lifetime_days, ca.root_lifetime_days
    if ca.max_validity >= intermediate * _DAY:  # a certificate must not outlive its issuer
        yield Contradiction(
            "ca.max_validity",
            ("ca.intermediate_lifetime_days",),
            f"{ca.max_validity}",
            f"less than ca.intermediate_lifetime_days, which is {intermediate * _DAY} seconds",
        )
    if intermediate > root:
        yield _at_most("ca.intermediate_lifetime_days", intermediate, "ca.root_lifetime_days", root)
    if ca.crl_interval >= ca.crl_validity:  # otherwise there is a time in which no list is valid
        yield Contradiction(
            "ca.crl_interval",
            ("ca.crl_validity",),
            f"{ca.crl_interval}",
            f"less than ca.crl_validity, which is {ca.crl_validity}",
        )
    own = settings.api.certificate_validity
    if own > ca.max_validity:
        yield _at_most("api.certificate_validity", own, "ca.max_validity", ca.max_validity)


def _secrets(settings: Settings) -> Iterator[Contradiction]:
    ca = settings.ca
    if ca.pkcs11_module and ca.pkcs11_pin == "none":
        yield Contradiction(
            "ca.pkcs11_pin",
            ("ca.pkcs11_module",),
            '"none"',
            "a source of the PIN, because ca.pkcs11_module names a token",
        )
    if ca.pkcs11_module and ca.key_type == "ed25519":
        yield Contradiction(
            "ca.key_type", ("ca.pkcs11_module",), '"ed25519"', '"p256" or "rsa3072", which are made in tokens'
        )
    if ca.key_passphrase == ca.pkcs11_pin and ca.pkcs11_pin.startswith("fd:"):  # it is read to its end once
        yield Contradiction(
            "ca.pkcs11_pin", ("ca.key_passphrase",), f'"{ca.pkcs11_pin}"', "a file descriptor of its own"
        )


def _api_limits(settings: Settings) -> Iterator[Contradiction]:
    api = settings.api
    if api.body_timeout > api.request_timeout:
        yield _at_most("api.body_timeout", api.body_timeout, "api.request_timeout", api.request_timeout)


def _at_most(key: str, value: float, limit_key: str, limit: float) -> Contradiction:
    return Contradiction(key, (limit_key,), f"{value:.10g}", f"at most {limit_key}, which is {limit:.10g}")


def _ports(settings: Settings) -> Iterator[Contradiction]:
    """Two services on one port would work on different addresses, and confuse everybody who reads the port alone."""
    taken: dict[int, str] = {}
    for key, port in _tcp_ports(settings):
        if port in taken:
            yield Contradiction(key, (taken[port],), f"{port}", f"a port of its own; {taken[port]} has this one")
        else:
            taken[port] = key


def _tcp_ports(settings: Settings) -> Iterator[tuple[str, int]]:
    if settings.monitoring.enabled:
        yield "monitoring.port", settings.monitoring.port
    yield "api.port", settings.api.port
    yield "api.http_port", settings.api.http_port


def _socket_paths(settings: Settings) -> Iterator[Contradiction]:
    sockets = [str(settings.paths.control_socket)]
    sockets += [listener.path for listener in _unix_listeners(settings)]
    longest = max(sockets, key=_length)
    if _length(longest) > MAX_SOCKET_PATH_BYTES:
        yield Contradiction(
            "server.runtime_dir",
            ("server.data_dir",),
            f"a directory whose socket {longest} has a path of {_length(longest)} bytes",
            f"a shorter directory: the path of a Unix socket has at most {MAX_SOCKET_PATH_BYTES} bytes",
        )


def _unix_listeners(settings: Settings) -> Iterator[Listener]:
    for service in topology(settings):
        yield from (listener for listener in service.listeners if listener.kind == "unix")


def _length(path: str) -> int:
    return len(path.encode("utf-8", "surrogateescape"))
