"""`trustchain status|start|stop|restart`: the control socket's clients."""

import sys
from typing import NoReturn

import click
import msgspec

from config.cli import settings_options
from config.loader import Loaded
from supervisor.control_client import NotRunningError, ask
from supervisor.messages import Reply, Request

ASK_SECONDS = 10.0
"""How long the supervisor may take to answer what it can answer at once."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--deaths", is_flag=True, help="Also how workers died: when, of what, and their last words.")
@settings_options
def status(loaded: Loaded, as_json: bool, deaths: bool) -> None:
    """Show the supervisor and its workers."""
    reply = _ask(loaded, Request(command="status", deaths=deaths), ASK_SECONDS)
    if reply.status is None:
        _fail(reply.message)
    if as_json:
        document = msgspec.to_builtins(reply.status)
        if deaths:
            document["deaths"] = msgspec.to_builtins(reply.deaths)
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
        return
    from supervisor.table import show_deaths, show_status  # noqa: PLC0415 - rich is slow to import

    show_status(reply.status)
    if deaths:
        show_deaths(reply.deaths)


@click.command()
@click.argument("service")
@settings_options
def start(loaded: Loaded, service: str) -> None:
    """Start a service that was stopped or has failed, and wait until it is ready."""
    _command(loaded, "start", service)


@click.command()
@click.argument("service")
@settings_options
def stop(loaded: Loaded, service: str) -> None:
    """Drain a service and stop it; it stays stopped until it is started, or the supervisor is."""
    _command(loaded, "stop", service)


@click.command()
@click.argument("service")
@settings_options
def restart(loaded: Loaded, service: str) -> None:
    """Drain a service, start it anew, and wait until it is ready. No connection is refused meanwhile."""
    _command(loaded, "restart", service)


def _command(loaded: Loaded, command: str, service: str) -> None:
    limits = loaded.settings.supervisor
    patience = ASK_SECONDS + limits.drain_timeout + limits.ready_timeout
    reply = _ask(loaded, Request(command=command, service=service), patience)
    if not reply.ok:
        _fail(reply.message)
    click.echo(reply.message)


def _ask(loaded: Loaded, request: Request, timeout: float) -> Reply:
    try:
        return ask(loaded.settings.paths.control_socket, request, timeout)
    except NotRunningError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"trustchain: {message}", err=True)
    sys.exit(1)
