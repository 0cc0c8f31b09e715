"""Commands around certificates: `root`, `issue`, `certs`, `revoke`.

Rules: what a command was asked for goes to standard output, what it has to say about a failure to standard error with
exit code 1. Cryptography is imported only where a key is made: the other commands start in half the time.
"""

from __future__ import annotations

import functools
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, get_args

import click
import msgspec

from config.cli import settings_options
from config.loader import Loaded
from config.schema import Settings
from services.ca.inventory.messages import MAX_WITHIN
from services.ca.messages import MAX_PAGE, Certificate, CertificatePage, RevocationReason
from services.ca.status.messages import Revoked
from services.cli_client import ApiClient, CommandError, no_root
from services.cli_duration import duration

_PEM_END: Final = "-----END CERTIFICATE-----"

P = ParamSpec("P")
R = TypeVar("R")
_within = duration(MAX_WITHIN)

MAX_SERIAL_DIGITS: Final = 40


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a CommandError into a message and exit code 1."""

    @functools.wraps(command)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CommandError as error:
            raise click.ClickException(str(error)) from error

    return telling


@click.command()
@click.option("--fingerprint", is_flag=True, help="Print its path and SHA-256 fingerprint instead.")
@settings_options
@told
def root(loaded: Loaded, fingerprint: bool) -> None:
    """Print the root certificates that clients have to trust, the active one first."""
    path = loaded.settings.paths.root_certificate
    pem = _root_pem(loaded.settings)
    if not fingerprint:
        click.echo(pem, nl=not pem.endswith("\n"))
        return
    click.echo(path)
    first, end, _ = pem.partition(_PEM_END)  # those that follow are earlier roots
    click.echo(f"SHA-256 fingerprint: {sha256(ssl.PEM_cert_to_DER_cert(first + end)).digest().hex(':').upper()}")


def _root_pem(settings: Settings) -> str:
    try:
        return settings.paths.root_certificate.read_text(encoding="ascii")
    except FileNotFoundError:
        raise CommandError(no_root(settings)) from None
    except OSError as error:
        raise CommandError(f"{settings.paths.root_certificate} cannot be read: {error.strerror}") from error


@click.command()
@click.option("--dns", multiple=True, metavar="NAME", help="DNS name, also a wildcard; may be repeated.")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="IP address; may be repeated.")
@click.option("--email", multiple=True, metavar="ADDRESS", help="E-mail address; may be repeated.")
@click.option("--uri", multiple=True, metavar="URI", help="URI; may be repeated.")
@click.option("--profile", metavar="NAME", help="Certificate profile; default: ca.default_profile.")
@click.option("--validity", type=click.IntRange(1), metavar="SECONDS", help="Lifetime; default: ca.default_validity.")
@click.option("--key-type", type=click.Choice(["p256", "ed25519", "rsa3072"]), default="p256", show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR", help="For the files."
)
@click.option("--force", is_flag=True, help="Replace files that are in DIR already.")
@settings_options
@told
def issue(loaded: Loaded, **options: Any) -> None:
    """Create a key, have it certified, and write key.pem, certificate.pem, chain.pem and fullchain.pem to DIR."""
    from services.cli_issue import Order, carry_out  # noqa: PLC0415 - loads cryptography; the other commands start faster

    issued, files = carry_out(loaded.settings, Order(**options))
    click.echo(f"serial       {issued.serial}")
    click.echo(f"names        {shown(issued.names)}")
    click.echo(f"not after    {shown_time(issued.not_after)}")
    click.echo(f"key          {files.key}")
    click.echo(f"certificate  {files.certificate}")
    click.echo(f"chain        {files.chain}")
    click.echo(f"full chain   {files.fullchain}")


@click.command()
@click.argument("serial")
@click.option(
    "--reason", type=click.Choice(get_args(RevocationReason)), default="unspecified", show_default=True, help="Why."
)
@settings_options
@told
def revoke(loaded: Loaded, serial: str, reason: str) -> None:
    """Revoke the certificate with this serial number, for ever."""
    path = f"/v1/certificates/{serial_argument(serial)}/revoke"
    revoked = ApiClient(loaded.settings).post(path, {"reason": reason}, Revoked)
    click.echo(f"serial       {revoked.serial}")
    click.echo(f"revoked at   {shown_time(revoked.revoked_at)}")
    click.echo(f"reason       {revoked.reason}")
    click.echo(f"CRL number   {'its signing lags; the next one' if revoked.crl_number is None else revoked.crl_number}")


def serial_argument(text: str) -> str:
    """A serial number as other programs print it, as the API takes it."""
    digits = text.replace(":", "").lower()
    if not 0 < len(digits) <= MAX_SERIAL_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise CommandError(f"{text[:64]!r} is not a serial number; `trustchain certs` lists them")
    return digits


@click.command()
@click.option("--name", metavar="NAME", help="Only certificates that carry this whole name.")
@click.option("--search", metavar="DOMAIN", help="Only certificates with a name in this domain.")
@click.option("--requester", metavar="WHO", help="Only certificates that this requester got.")
@click.option("--issuer", metavar="SERIAL", help="Only certificates of the issuer with this serial number.")
@click.option("--profile", metavar="NAME", help="Only certificates of this profile.")
@click.option("--status", type=click.Choice(["valid", "expired", "revoked"]), help="Only these.")
@click.option("--expires-within", metavar="TIME", callback=_within, help="Only what ends within 12h, 7d or the like.")
@click.option("--issued-within", metavar="TIME", callback=_within, help="Only what was issued within this time.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most this many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, certificates included.")
@settings_options
@told
def certs(loaded: Loaded, limit: int, as_json: bool, **filters: Any) -> None:
    """List the certificates that were issued, newest first; what is asked for by expiry, soonest first."""
    found, more = _listed(ApiClient(loaded.settings), _parameters(filters, int(time.time())), limit)
    if as_json:
        click.echo(json.dumps({"certificates": msgspec.to_builtins(found), "more": more}, indent=2))
        return
    for certificate in found:
        click.echo(_line(certificate))
    if more:
        click.echo(f"... and more; see them with --limit {2 * limit}", err=True)


def _parameters(options: Mapping[str, str | int | None], now: int) -> dict[str, str | int]:
    """The options that were given, as query parameters."""
    given = {name: value for name, value in options.items() if value is not None}
    if (seconds := given.pop("expires_within", None)) is not None:
        given |= {"expires_after": now, "expires_before": now + int(seconds) + 1}
    if (seconds := given.pop("issued_within", None)) is not None:
        given["issued_after"] = max(0, now - int(seconds))
    return given


def _listed(client: ApiClient, filters: Mapping[str, str | int], limit: int) -> tuple[list[Certificate], bool]:
    """Up to `limit` certificates, and whether there are more."""
    found: list[Certificate] = []
    parameters: dict[str, str | int] = {**filters}
    while True:
        parameters["limit"] = min(MAX_PAGE, limit - len(found))
        page = client.get("/v1/certificates", CertificatePage, parameters)
        found += page.certificates
        if page.next_cursor is None or len(found) >= limit:
            return found, page.next_cursor is not None
        parameters["cursor"] = page.next_cursor


def _line(certificate: Certificate) -> str:
    columns = f"{certificate.serial:<32}  {certificate.status:<7}  {shown_time(certificate.not_after)}"
    return f"{columns}  {certificate.profile:<17}  {shown(certificate.names)}"


def shown(names: Sequence[str]) -> str:
    """Names on one line. A terminal obeys what is not printable, and who asked for a certificate chose its names."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in ", ".join(names))


def shown_time(seconds: int) -> str:
    """A time in seconds since the Unix epoch, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
