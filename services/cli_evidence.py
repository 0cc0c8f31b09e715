"""Commands that ask a running tree what it can prove, and what contradicts: `evidence`, `findings`.

Rules: evidence is written exactly as the API gives it, octet for octet, because every octet of it is sealed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from config.cli import settings_options
from config.loader import Loaded
from services.api.durable import File, write_files
from services.ca.evidence.messages import Evidence
from services.ca.reconciliation.messages import Findings
from services.cli import serial_argument, told
from services.cli_client import ApiClient, CommandError

MODE: Final = 0o644


@click.command()
@click.argument("serial")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there; default: standard output."
)
@settings_options
@told
def evidence(loaded: Loaded, serial: str, out: Path | None) -> None:
    """Get all that proves a certificate, in one file; `trustchain verify` checks it without any server."""
    found = ApiClient(loaded.settings).get(f"/v1/certificates/{serial_argument(serial)}/evidence", Evidence)
    octets = msgspec.json.encode(found) + b"\n"
    if out is None:
        sys.stdout.buffer.write(octets)
        return
    try:
        write_files([File(out, octets, MODE)])
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"evidence     {out}")
    click.echo(f"verify       trustchain verify {out}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
@told
def findings(loaded: Loaded, as_json: bool) -> None:
    """List what contradicts between record, log and revocation lists. Exit code 1 when something does."""
    found = ApiClient(loaded.settings).get("/v1/findings", Findings)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        for one in found.findings:
            click.echo(f"{_time(one.found_at)}  {one.kind}  {one.subject}: {one.text}")
        if found.count > len(found.findings):
            click.echo(f"... and {found.count - len(found.findings)} more")
        swept = "not yet" if found.swept_at is None else _time(found.swept_at)
        click.echo(
            f"{found.count} open; the log is followed to entry {found.log_position} of {found.log_size}; "
            f"everything was last compared: {swept}"
        )
    sys.exit(1 if found.count else 0)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
