"""The `trustchain` command: a table of sub-commands and where each one is found.

Rules:
- A command's module is imported when the command is used, and not before: `trustchain status` is run by cron jobs.
- Before any of TrustChain's packages is imported the command makes sure that they are TrustChain's.
- Exit codes: 0 for success, 78 for a configuration error, 1 for everything else. An option that does not exist is a
  configuration error too: systemd must not try it again, and 2 has a meaning for `trustchain health`.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

import click

from supervisor.errors import CONFIGURATION_ERROR, StartError
from supervisor.packages import check_packages

COMMANDS: Final = MappingProxyType(
    {
        "run": "supervisor.cli_run:run",
        "server": "supervisor.cli_run:run",
        "status": "supervisor.cli_control:status",
        "start": "supervisor.cli_control:start",
        "stop": "supervisor.cli_control:stop",
        "restart": "supervisor.cli_control:restart",
        "health": "monitoring.cli:health",
        "metrics": "monitoring.cli:metrics",
        "block": "monitoring.block_cli:block",
        "config": "config.cli:config",
        "root": "services.cli:root",
        "issue": "services.cli:issue",
        "certs": "services.cli:certs",
        "revoke": "services.cli:revoke",
        "ca": "services.cli_ca:ca",
        "evidence": "services.cli_evidence:evidence",
        "findings": "services.cli_evidence:findings",
        "accept-findings": "services.cli_evidence:accept_findings",
        "audit": "services.audit.cli:audit",
        "verify": "services.audit.cli:verify",
        "inventory": "services.cli_inventory:inventory",
        "expiry": "services.cli_inventory:expiry",
    }
)
"""MODULE:ATTRIBUTE of each sub-command."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def __init__(self, *args: Any, places: Mapping[str, str] = COMMANDS, **kwargs: Any) -> None:
        """`places`: MODULE:ATTRIBUTE by name of the command."""
        super().__init__(*args, **kwargs)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return every name, in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - see above
        """Return the command of that name, imported now; None if there is none."""
        place = self._places.get(cmd_name)
        return None if place is None else load(place)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the options before the sub-command."""
        with _usage_error_as_configuration_error():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Read the sub-command's options and run it."""
        with _usage_error_as_configuration_error():
            return super().invoke(ctx)


@contextmanager
def _usage_error_as_configuration_error() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.exit_code = CONFIGURATION_ERROR  # type: ignore[misc] # click reads it from the instance
        raise


def load(place: str) -> click.Command:
    """Import a command from MODULE:ATTRIBUTE. Exits with 78 if a package is not TrustChain's own."""
    try:
        check_packages()
    except StartError as error:
        click.echo(f"trustchain: {error}", err=True)
        sys.exit(error.exit_code)
    module, _, attribute = place.partition(":")
    command = getattr(import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{place} is not a command")
    return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="trustchain", prog_name="trustchain")
def main() -> None:
    """TrustChain: a certificate authority that supervises and measures itself."""


def server() -> None:
    """`trustchain-server`: the same as `trustchain run`."""
    main.main(["server", *sys.argv[1:]], prog_name="trustchain-server")
