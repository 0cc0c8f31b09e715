"""Commands around the inventory: `inventory`, `expiry`.

Rules: as in `services.cli`. `trustchain expiry` ends with exit code 1 when something of the authority's own should have
been renewed by now, so that a cron job needs nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Final

import click
import msgspec

from config.cli import settings_options
from config.loader import Loaded
from services.ca.inventory.messages import (
    DEFAULT_TOP,
    MAX_TOP,
    MAX_WITHIN,
    ExpiryItem,
    ExpiryReport,
    InventorySummary,
    RecordSize,
    Tally,
)
from services.ca.messages import DEFAULT_PAGE, MAX_PAGE
from services.cli import shown, shown_time, told
from services.cli_client import ApiClient
from services.cli_duration import duration, shown_span

_MIB: Final = 1 << 20


@click.command()
@click.option(
    "--top", type=click.IntRange(1, MAX_TOP), default=DEFAULT_TOP, show_default=True, help="Values of each kind."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
@told
def inventory(loaded: Loaded, top: int, as_json: bool) -> None:
    """Count what is on record: by profile, issuer and requester, what ends soon, how the record grows."""
    found = ApiClient(loaded.settings).get("/v1/inventory", InventorySummary, {"top": top})
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for line in _inventory_lines(found, int(time.time())):
        click.echo(line)


@click.command()
@click.option("--within", metavar="TIME", callback=duration(MAX_WITHIN), default="30d", help="Default: 30d.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_PAGE, show_default=True, help="Of leaves.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
@told
def expiry(loaded: Loaded, within: int, limit: int, as_json: bool) -> None:
    """List what ends and is to be renewed; exit code 1 if something of the authority's own is overdue."""
    found = ApiClient(loaded.settings).get("/v1/expiry", ExpiryReport, {"within": within, "limit": limit})
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        for item in (*found.items, *found.leaves):
            click.echo(_expiry_line(item))
        if found.more:
            click.echo("... and perhaps more; see them with --limit or a shorter --within", err=True)
    # What nothing is to take the place of may end in peace.
    if any(item.state in ("overdue", "expired") and item.renew_at is not None for item in found.items):
        sys.exit(1)


def _inventory_lines(found: InventorySummary, now: int) -> Iterator[str]:
    yield (
        f"certificates  {found.certificates}: {found.valid} valid, {found.expired} expired; {found.revoked} revoked; "
        f"{found.unfinished} unfinished"
    )
    for each in found.expiring:
        within = f"within {shown_span(each.within_seconds)}"
        yield f"expiring      {within:<12}  {each.certificates}, {each.unrenewed} not renewed"
    for title, tallies in (("profile", found.profiles), ("issuer", found.issuers), ("requester", found.requesters)):
        yield from _tally_lines(title, tallies)
    yield from (f"issued        {shown_time(day.day)[:10]}    {day.certificates}" for day in found.issued[-7:])
    yield _record_line(found.record, now)
    if found.retention_days or found.deleted:
        kept = f"kept {found.retention_days} d after they expire" if found.retention_days else "kept for ever"
        complete = f"complete for what ends from {shown_time(found.complete_from)} on"
        yield f"retention     {kept}; {found.deleted} deleted, {complete}"


def _tally_lines(title: str, tallies: list[Tally]) -> Iterator[str]:
    for tally in tallies:
        yield f"{title:<12}  {tally.certificates:>8}  {shown([tally.value])}"


def _record_line(record: RecordSize, now: int) -> str:
    size = f"record        {record.octets / _MIB:.1f} MiB, {record.octets_per_day / _MIB:+.2f} MiB a day"
    free = f"{size}; {record.disk_free_octets / _MIB:.0f} MiB of the disk are free"
    return free if record.full_at is None else f"{free}, for {shown_span(max(0, record.full_at - now))}"


def _expiry_line(item: ExpiryItem) -> str:
    renewal = "never    " if item.renew_at is None else f"renew {shown_time(item.renew_at)}"
    return f"{item.state:<8}  {item.kind:<12}  ends {shown_time(item.not_after)}  {renewal}  {shown([item.name])}"
