"""Commands that ask a running tree what it can prove, and what contradicts: `evidence`, `findings`,
`accept-findings`.

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
from services.ca.reconciliation.contradictions import FINDING_KINDS
from services.ca.reconciliation.messages import AcceptedFindings, Findings, FindingState
from services.cli import serial_argument, told
from services.cli_client import ApiClient, CommandError
from services.terminal import printable

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
@click.option("--accepted", is_flag=True, help="List what was accepted instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
@told
def findings(loaded: Loaded, as_json: bool, accepted: bool) -> None:
    """List what contradicts between record, log and revocation lists. Exit code 1 when something open does."""
    state: FindingState = "accepted" if accepted else "open"
    found = ApiClient(loaded.settings).get(f"/v1/findings?state={state}", Findings)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        for one in found.findings:
            click.echo(printable(f"{_time(one.found_at)}  {one.kind}  {one.subject}: {one.text}"))
            if (by := one.acceptance) is not None:
                click.echo(printable(f"    accepted {_time(by.accepted_at)} by {by.accepted_by}: {by.reason}"))
        more = (found.accepted if accepted else found.count) - len(found.findings)
        if more > 0:
            click.echo(f"... and {more} more")
        swept = "not yet" if found.swept_at is None else _time(found.swept_at)
        followed = f"the log is followed to entry {found.log_position} of {found.log_size}"
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(found.kinds.items()))
        counted = f"{found.count} open{f' ({kinds})' if kinds else ''}, {found.accepted} accepted"
        click.echo(f"{counted}; {followed}; everything was last compared: {swept}")
    sys.exit(1 if found.count else 0)


@click.command("accept-findings")
@click.argument("kind", type=click.Choice(FINDING_KINDS), metavar="KIND")
@click.argument("subject", required=False)
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many are meant.")
@click.option("--reason", required=True, help="Why; kept with the findings.")
@settings_options
@told
def accept_findings(loaded: Loaded, kind: str, subject: str | None, count: int, reason: str) -> None:
    """Accept open findings of a kind, or the one about SUBJECT, as `trustchain findings` lists them.

    They stand, and alarm nobody any more, as long as the same octets contradict. `trustchain audit` still tells them.
    Nothing is accepted when more or fewer are open than COUNT.
    """
    asked = {"kind": kind, "count": count, "reason": reason} | ({} if subject is None else {"subject": subject})
    done = ApiClient(loaded.settings).post("/v1/findings/accept", asked, AcceptedFindings)
    click.echo(f"{done.count} accepted" if done.count else "0 accepted: they were before")


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
