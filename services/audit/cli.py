"""`trustchain audit` and `trustchain verify`: both work from files alone, with no server.

Rules:
- Exit codes: 0 when nothing contradicts, or everything holds; 1 when something does not; 78 when the files cannot be
  read, because then nobody knows.
- Results go to standard output. Progress goes to standard error, and only to a terminal.
- What is read was written by others: what is not printable is never given to a terminal.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from config.cli import settings_options
from config.inheritance import EXIT_CONFIG
from config.loader import Loaded
from config.problems import ConfigError
from config.profile_files import load_profiles
from config.schema import Settings
from services.audit import verification
from services.audit.anchors import anchors, read
from services.audit.authority_files import authorities_in
from services.audit.databases import AuditImpossible, open_database
from services.audit.examination import Examination
from services.audit.report import Report
from services.ca.evidence.evidence import MAX_EVIDENCE_OCTETS
from services.ca.storage import MIGRATIONS
from services.errors import ConfigurationError, StorageUnavailable
from services.terminal import printable

PROGRESS_SECONDS: Final = 0.2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
def audit(loaded: Loaded, as_json: bool) -> None:
    """Compare record, log and revocation lists with each other, from the files alone."""
    try:
        report = _audited(loaded.settings)
    except (ConfigurationError, ConfigError, StorageUnavailable) as error:
        click.echo(f"trustchain: nothing can be said: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    if as_json:
        click.echo(json.dumps(report.document(), indent=2))
    else:
        for line in report.lines():
            click.echo(printable(line))
    sys.exit(0 if report.is_clean else 1)


def _audited(settings: Settings) -> Report:
    paths, report, progress = settings.paths, Report(), _Progress()
    quiet = [name for name, one in load_profiles(settings).items() if not one.document.transparency]
    with open_database(paths.ca_dir / "certificates.db", len(MIGRATIONS)) as record:
        examination = Examination(
            record=record,
            authorities=authorities_in(paths.ca_dir),
            ct_dir=paths.ct_dir,
            ca_dir=paths.ca_dir,
            unlogged_profiles=quiet,
            now=int(time.time()),
            progress=progress.show,
        )
        for one in examination.observations():
            report.take(one)
    progress.end()
    report.certificates, report.entries = examination.certificates, examination.entries
    report.lists = examination.lists
    return report


class _Progress:
    """One line on a terminal, rewritten."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0

    def show(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._shown >= PROGRESS_SECONDS:
            self._shown = now
            click.echo(f"\r{what}: {done} of {total} ({100 * done // max(1, total)} %)\x1b[K", err=True, nl=False)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), metavar="FILE", help="Trusted root certificates, PEM.")
@click.option("--log-key", type=click.Path(path_type=Path), metavar="FILE", help="Public key of the log, PEM.")
@click.option("--at", metavar="TIME", help="Judge by this time (ISO 8601, or seconds since 1970); default: now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@settings_options
def verify(loaded: Loaded, file: Path, root: Path | None, log_key: Path | None, at: str | None, as_json: bool) -> None:
    """Verify an evidence file, with no server: needs the root and the key of the log, and trusts nothing else."""
    try:
        trusted = anchors(loaded.settings.paths, root, log_key)
        octets = read(file, MAX_EVIDENCE_OCTETS)
        moment = int(time.time()) if at is None else _moment(at)
    except AuditImpossible as error:
        click.echo(f"trustchain: nothing can be said: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    checks = verification.verify(octets, trusted, moment)
    if as_json:
        told = [{"check": check.name, "passed": check.passed, "text": check.text} for check in checks]
        click.echo(json.dumps({"verified": verification.passed(checks), "checks": told}, indent=2))
    else:
        for check in checks:
            click.echo(printable(f"{'ok    ' if check.passed else 'FAILED'}  {check.name:<12}  {check.text}"))
    sys.exit(0 if verification.passed(checks) else 1)


def _moment(text: str) -> int:
    try:
        moment = datetime.fromtimestamp(int(text), UTC) if text.isdecimal() else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise AuditImpossible(f"--at {text!r} is no time: give one such as 2026-11-24T16:00:00Z") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
