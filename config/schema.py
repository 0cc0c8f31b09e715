"""Typed settings: the only place of defaults and limits.

Rules:
- Every section is a frozen struct; every key has a type, bounds and a default. Only `server.data_dir` and
  `server.runtime_dir` have no default here, because theirs depend on the machine: the loader always fills them in.
- The defaults below are those of development. `MODE_DEFAULTS` says what each mode changes, by key path.
- What can only be judged together with another value is judged in `consistency`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from config.paths import Paths

Mode = Literal["development", "production"]
ExportFormat = Literal["json", "prometheus", "plaintext", "csv"]
KeyType = Literal["p256", "ed25519", "rsa3072"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]

LOOPBACK: Final = ("127.0.0.1", "::1")


def between(low: float, high: float, unit: str = "") -> Meta:
    """Inclusive bounds of a number, with its unit for error messages."""
    return Meta(ge=low, le=high, extra={"unit": unit})


def of_kind(kind: str, *, min_length: int = 0, max_length: int = 255) -> Meta:
    """Length of a string and what it has to be: one of the kinds that `keys` knows how to judge."""
    return Meta(min_length=min_length, max_length=max_length, extra={"kind": kind})


Port = Annotated[int, between(1, 65535)]
Address = Annotated[str, of_kind("address")]
Domain = Annotated[str, of_kind("domain")]
Host = Annotated[str, of_kind("host")]
Origin = Annotated[str, of_kind("origin")]
File = Annotated[str, of_kind("file", min_length=1, max_length=4095)]
Zone = Annotated[str, of_kind("zone")]
Directory = Annotated[str, of_kind("path", min_length=1, max_length=4095)]
OptionalDirectory = Annotated[str, of_kind("optional path", max_length=4095)]
ProfileName = Annotated[str, of_kind("profile", min_length=1, max_length=48)]
HttpUrl = Annotated[str, of_kind("HTTP URL", max_length=255)]
OptionalFile = Annotated[str, of_kind("optional file", max_length=4095)]
Secret = Annotated[str, of_kind("secret", max_length=255)]
Addresses = Annotated[tuple[Address, ...], Meta(min_length=1, max_length=16)]
Hosts = Annotated[tuple[Host, ...], Meta(max_length=64)]
Files = Annotated[tuple[File, ...], Meta(max_length=64)]
Zones = Annotated[tuple[Zone, ...], Meta(max_length=256)]
Ratio = Annotated[float, between(0.0, 1.0)]


class Server(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where this host's trust service lives."""

    domain: Domain = "trust.localhost"
    data_dir: Directory
    runtime_dir: Directory


class Supervisor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a worker counts as hung, how it is stopped, and how often it may be restarted."""

    heartbeat_interval: Annotated[float, between(0.02, 60.0, "seconds")] = 1.0
    heartbeat_timeout: Annotated[float, between(0.1, 600.0, "seconds")] = 5.0
    ready_timeout: Annotated[float, between(0.5, 3600.0, "seconds")] = 30.0
    drain_timeout: Annotated[float, between(0.0, 600.0, "seconds")] = 10.0
    abort_grace: Annotated[float, between(0.0, 60.0, "seconds")] = 0.2
    stable_seconds: Annotated[float, between(0.0, 3600.0, "seconds")] = 0.5
    backoff_initial: Annotated[float, between(0.01, 60.0, "seconds")] = 0.1
    backoff_max: Annotated[float, between(0.01, 3600.0, "seconds")] = 30.0
    backoff_jitter: Ratio = 0.2
    intensity: Annotated[int, between(1, 1000)] = 5
    period: Annotated[float, between(0.1, 86400.0, "seconds")] = 60.0
    failed_retry: Annotated[float, between(0.1, 86400.0, "seconds")] = 300.0
    replace_cooldown: Annotated[float, between(0.0, 86400.0, "seconds")] = 30.0
    verdict_max_age: Annotated[float, between(0.2, 7200.0, "seconds")] = 60.0
    death_records: Annotated[int, between(1, 10_000)] = 50
    drills: bool = False


class AlertThresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Beyond these the monitor raises an alert."""

    max_cert_issuance_ms: Annotated[float, between(0.1, 600_000.0, "milliseconds")] = 100.0
    min_success_rate: Ratio = 0.95
    max_memory_mb: Annotated[float, between(16.0, 4_194_304.0, "MB")] = 4096.0
    max_error_rate: Ratio = 0.05
    min_availability: Ratio = 0.99


class Monitoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the monitoring worker reads, how often, and where it serves it."""

    enabled: bool = True
    addresses: Addresses = LOOPBACK
    port: Port = 9090
    collection_interval: Annotated[float, between(0.05, 3600.0, "seconds")] = 1.0
    health_check_interval: Annotated[float, between(0.05, 3600.0, "seconds")] = 5.0
    export_format: ExportFormat = "json"
    retention_seconds: Annotated[int, between(60, 604_800, "seconds")] = 3600
    unhealthy_after: Annotated[float, between(0.0, 3600.0, "seconds")] = 10.0
    probe_interval: Annotated[float, between(0.05, 3600.0, "seconds")] = 5.0
    alert_thresholds: AlertThresholds = AlertThresholds()


class Ca(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificate authority: its own keys, and what it may issue."""

    key_type: KeyType = "p256"
    name: Annotated[str, of_kind("name", min_length=1, max_length=48)] = "TrustChain"
    root_lifetime_days: Annotated[int, between(1, 36_500, "days")] = 3650
    intermediate_lifetime_days: Annotated[int, between(1, 36_500, "days")] = 1825
    path_length: Annotated[int, between(0, 8)] = 0
    permitted_names: Zones = ()
    excluded_names: Zones = ()
    post_quantum: bool = False
    key_passphrase: Secret = "none"  # noqa: S105 - there is none
    pkcs11_module: OptionalFile = ""
    pkcs11_token: Annotated[str, of_kind("label", max_length=32)] = ""
    pkcs11_pin: Secret = "none"
    default_profile: ProfileName = "tls-server"
    profiles_dir: OptionalDirectory = ""
    default_validity: Annotated[int, between(60, 34_560_000, "seconds")] = 86_400
    max_validity: Annotated[int, between(60, 34_560_000, "seconds")] = 7_776_000
    backdate: Annotated[int, between(0, 86_400, "seconds")] = 60
    allowed_names: Zones = ()
    denied_names: Zones = ()
    status_url: HttpUrl = ""
    crl_partitions: Annotated[int, between(1, 256)] = 8
    crl_validity: Annotated[int, between(60, 31_536_000, "seconds")] = 86_400
    crl_interval: Annotated[int, between(30, 31_536_000, "seconds")] = 43_200
    ocsp_validity: Annotated[int, between(60, 2_592_000, "seconds")] = 43_200
    retention_days: Annotated[int, between(0, 36_500, "days")] = 0


class Ct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Certificate Transparency log: its name, and whose certificates it takes beside those of this CA."""

    origin: Origin = ""
    extra_roots: Files = ()


class Api(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interfaces over HTTPS and plain HTTP: where they listen, their limits, and the own certificate."""

    addresses: Addresses = LOOPBACK
    port: Port = 8443
    http_addresses: Addresses = LOOPBACK
    http_port: Port = 8080
    max_body_bytes: Annotated[int, between(1024, 16_777_216, "bytes")] = 65_536
    request_timeout: Annotated[float, between(0.1, 600.0, "seconds")] = 10.0
    body_timeout: Annotated[float, between(0.1, 600.0, "seconds")] = 5.0
    max_connections: Annotated[int, between(1, 65_536)] = 1024
    rate_limit: Annotated[float, between(0.01, 1_000_000.0, "requests per second")] = 1000.0
    rate_burst: Annotated[int, between(1, 1_000_000, "requests")] = 2000
    public_rate: Annotated[float, between(0.01, 1_000_000.0, "requests per second")] = 200.0
    public_burst: Annotated[int, between(1, 1_000_000, "requests")] = 1000
    unauthorized_rate: Annotated[float, between(0.01, 1_000_000.0, "requests per second")] = 5.0
    unauthorized_burst: Annotated[int, between(1, 1_000_000, "requests")] = 20
    names: Hosts = ()
    certificate_validity: Annotated[int, between(60, 34_560_000, "seconds")] = 86_400


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error, and how."""

    level: LogLevel = "info"
    format: LogFormat = "console"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of one running tree."""

    mode: Mode = "development"
    server: Server
    supervisor: Supervisor = Supervisor()
    monitoring: Monitoring = Monitoring()
    ct: Ct = Ct()
    ca: Ca = Ca()
    api: Api = Api()
    log: Log = Log()

    @property
    def paths(self) -> Paths:
        """Every file and socket that belongs to this tree."""
        return Paths(Path(self.server.data_dir), Path(self.server.runtime_dir))

    @property
    def status_url(self) -> str:
        """The base of the URLs in certificates, without a slash at its end: `ca.status_url`, or what follows from
        `server.domain` and `api.http_port`.
        """
        if self.ca.status_url:
            return self.ca.status_url
        port = "" if self.api.http_port == 80 else f":{self.api.http_port}"
        return f"http://{self.server.domain}{port}"


MODE_DEFAULTS: Final[Mapping[Mode, Mapping[str, object]]] = MappingProxyType(
    {
        "development": MappingProxyType({}),
        "production": MappingProxyType(
            {
                "monitoring.collection_interval": 10.0,
                "monitoring.health_check_interval": 30.0,
                "api.addresses": ("0.0.0.0", "::"),  # noqa: S104 - clients are on other hosts
                "api.http_addresses": ("0.0.0.0", "::"),  # noqa: S104 - so are those who verify certificates
                "api.http_port": 80,
                "log.format": "json",
            }
        ),
    }
)
