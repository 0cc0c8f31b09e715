"""What a person is told when everything is ready: where things are, and the first commands to try.

Rules: the supervisor knows no PKI. It prints what the topology and the paths say, and of the root certificate only what
can be said of any PEM file: the SHA-256 of what it encodes.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path

from config.schema import Settings
from config.topology import Listener, Service

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - shown as the address at which a person finds it


def announcement(settings: Settings, services: Iterable[Service], options: str, fingerprint: str | None) -> list[str]:
    """Return the lines. `options` are those of the command line, because every other command needs them too."""
    paths = settings.paths
    urls = {service.name: _urls(service.listeners) for service in services}
    lines = [f"TrustChain is ready ({settings.mode}), data in {paths.data_dir}", ""]
    lines += [f"  {name}: {', '.join(found)}" for name, found in urls.items() if found]
    if fingerprint is not None:
        lines += [f"  root certificate: {paths.root_certificate}", f"  SHA-256 fingerprint: {fingerprint}"]
        lines += [f"  administrator's token: {paths.admin_token}"]
    command = f" {options}" if options else ""
    lines += ["", "Try:", f"  trustchain status{command}"]
    lines += [f"  curl {url}health" for url in urls.get("monitoring", ())[:1]]
    if fingerprint is not None:
        lines += [f"  trustchain issue{command} --dns www.{settings.server.domain} --out ."]
    return [*lines, ""]


def fingerprint(certificate: Path) -> str | None:
    """Return the SHA-256 of the first certificate in a PEM file as openssl prints it; None if there is none."""
    try:
        text = certificate.read_text("ascii")
        _, _, rest = text.partition("-----BEGIN CERTIFICATE-----")
        encoded, end, _ = rest.partition("-----END CERTIFICATE-----")
        der = base64.b64decode("".join(encoded.split()), validate=True) if end else b""
    except (OSError, UnicodeDecodeError, binascii.Error):
        return None
    return hashlib.sha256(der).digest().hex(":").upper() if der else None


def _urls(listeners: Iterable[Listener]) -> tuple[str, ...]:
    return tuple(_url(each) for each in listeners if each.kind == "tcp" and each.name in ("http", "https"))


def _url(listener: Listener) -> str:
    address = _ANY.get(listener.address, listener.address)
    host = f"[{address}]" if ":" in address else address
    return f"{listener.name}://{host}:{listener.port}/"
