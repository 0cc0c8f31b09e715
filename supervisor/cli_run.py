"""`trustchain run`: from the command line to a supervised tree."""

import shlex
import sys

import click

from config.cli import settings_options
from config.loader import Loaded
from config.topology import topology
from supervisor import startup
from supervisor.errors import StartError


@click.command()
@settings_options
def run(loaded: Loaded) -> None:
    """Start the tree and supervise it until SIGTERM or ^C."""
    try:
        code = startup.run(loaded.settings, topology(loaded.settings), given_options(sys.argv))
    except StartError as error:
        click.echo(f"trustchain: {error}", err=True)
        code = error.exit_code
    sys.exit(code)


def given_options(argv: list[str]) -> str:
    """Return the options of this command as a shell would read them: every other command takes the same ones."""
    return shlex.join(argv[2:] if argv[1:2] in (["run"], ["server"]) else argv[1:])
