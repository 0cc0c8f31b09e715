"""`trustchain health` and `trustchain metrics`: what a running tree says about itself.

Rules: they ask the monitoring endpoints over HTTP, as everybody else does; nothing is read from the block here. Exit
codes of `health`: 0 healthy, 1 degraded, 2 unhealthy or critical, 3 unknown (nothing answers, or not TrustChain does).
The standard library's client is used because one request must not cost the start of an event loop.
"""

import http.client
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from config.cli import settings_options
from config.loader import Loaded
from config.schema import Monitoring
from monitoring.export import MetricsExporter
from monitoring.scoring import SECOND, span

EXIT_CODES: Final = {"healthy": 0, "degraded": 1, "unhealthy": 2, "critical": 2}
UNKNOWN: Final = 3
TIMEOUT_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 << 20
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class UnreachableError(Exception):
    """Monitoring does not answer; the text says where it was looked for and what to check."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole document of /health.")
@settings_options
def health(loaded: Loaded, as_json: bool) -> None:
    """Say how healthy the running tree is.

    Exit code: 0 healthy, 1 degraded, 2 unhealthy or critical, 3 unknown.
    """
    try:
        _, body = fetch(loaded.settings.monitoring, "/health")
        document = parsed(body, loaded.settings.monitoring)
    except UnreachableError as error:
        click.echo(json.dumps({"status": "unknown", "issues": [str(error)]}) if as_json else f"unknown: {error}")
        sys.exit(UNKNOWN)
    click.echo(body.decode().rstrip("\n") if as_json else summary(document))
    sys.exit(EXIT_CODES[document["status"]])


@click.command()
@click.option(
    "--format", "format_name", metavar="FORMAT", help="json, prometheus, plaintext or csv [monitoring.export_format]."
)
@settings_options
def metrics(loaded: Loaded, format_name: str | None) -> None:
    """Print all metrics of the running tree."""
    monitoring = loaded.settings.monitoring
    chosen = format_name or monitoring.export_format
    formats = MetricsExporter().formats
    if chosen not in formats:
        raise click.BadParameter(f"{chosen!r} is not one of {', '.join(formats)}", param_hint="--format")
    try:
        status, body = fetch(monitoring, f"/metrics?format={chosen}")
    except UnreachableError as error:
        raise click.ClickException(str(error)) from error
    if status != http.HTTPStatus.OK:
        raise click.ClickException(f"monitoring answered {status} instead of metrics: {body[:200]!r}")
    click.echo(body.decode(), nl=False)


def fetch(monitoring: Monitoring, path: str) -> tuple[int, bytes]:
    """GET `path` from the first monitoring address that answers; return status and body. Raises UnreachableError."""
    failures = []
    for address in monitoring.addresses:
        host = _ANY.get(address, address)
        connection = http.client.HTTPConnection(host, monitoring.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{host} port {monitoring.port}: {str(error) or type(error).__name__}")
        finally:
            connection.close()
    raise UnreachableError(
        f"monitoring does not answer ({'; '.join(failures)}); is `trustchain run` running with these settings?"
    )


def parsed(body: bytes, monitoring: Monitoring) -> Mapping[str, Any]:
    """Read a document of `/health`. Raises UnreachableError for anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("status") not in EXIT_CODES or "components" not in document:
        raise UnreachableError(f"port {monitoring.port} answers, but not as TrustChain; does another program use it?")
    return document


def summary(document: Mapping[str, Any]) -> str:
    """Return the lines for a terminal: the whole first, then each component, then the issues."""
    uptime = span(int(document["uptime_seconds"] * SECOND))
    lines = [f"{document['status']}  score {document['health_score']:.2f}  up {uptime}"]
    components = document["components"]
    down = {each["component"]: each["since"] for each in document["alerts"] if each["name"] == "component_down"}
    width = max((len(name) for name in components), default=0)
    for name, each in components.items():
        line = f"  {name:<{width}}  {each['status']:<9}  {each['score']:.2f}"
        # An alert outlasts what it tells by a while.
        is_down = name in down and EXIT_CODES[each["status"]] == EXIT_CODES["critical"]
        lines.append(f"{line}  down since {down[name]}" if is_down else line)
    lines += [f"- {issue}" for issue in document["issues"]]
    return "\n".join(lines)
