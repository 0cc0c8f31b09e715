"""`trustchain config check|show`, and the options with which every command finds its settings.

Rules: a configuration error is printed to standard error, one line for each problem, and the exit code is 78
(EX_CONFIG of sysexits.h).
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, NoReturn, TypeVar

import click

from config.inheritance import EXIT_CONFIG
from config.keys import KEYS
from config.loader import Loaded, load
from config.problems import ConfigError, as_toml
from config.profile_files import load_profiles
from config.schema import Settings

R = TypeVar("R")

_ORIGIN_COLUMN = 44


def settings_options(command: Callable[Concatenate[Loaded, ...], R]) -> Callable[..., R]:
    """Give a command `--config`, `--mode`, `--data-dir` and `--set`, and call it with the settings they lead to.

    The command gets a `Loaded` as its first argument. Place this below `click.command`.
    """

    @click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="TOML file to read.")
    @click.option("--mode", metavar="MODE", help="development (default) or production.")
    @click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where keys and databases live.")
    @click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
    @functools.wraps(command)
    def with_settings(
        *args: Any,
        config_file: Path | None,
        mode: str | None,
        data_dir: Path | None,
        overrides: tuple[str, ...],
        **kwargs: Any,
    ) -> R:
        return command(load_or_exit(config_file, mode, data_dir, overrides), *args, **kwargs)

    return with_settings


def load_or_exit(
    config_file: Path | None, mode: str | None, data_dir: Path | None, overrides: tuple[str, ...]
) -> Loaded:
    """Return the settings, or print what is wrong with them and leave with exit code 78."""
    try:
        return load(config_file, mode, data_dir, overrides)
    except ConfigError as error:
        _leave_for(error)


def _leave_for(error: ConfigError) -> NoReturn:
    count = len(error.problems)
    click.echo(f"trustchain: {count} configuration {'problem' if count == 1 else 'problems'}", err=True)
    for line in str(error).splitlines():
        click.echo(f"  {line}", err=True)
    sys.exit(EXIT_CONFIG)


@click.group()
def config() -> None:
    """Check the configuration, or show what it amounts to."""


@config.command()
@settings_options
def check(loaded: Loaded) -> None:
    """Say OK, or everything that is wrong with settings and certificate profiles (exit code 78)."""
    server = loaded.settings.server
    try:
        load_profiles(loaded.settings)
    except ConfigError as error:
        _leave_for(error)
    source = f"{loaded.file}" if loaded.file else "no configuration file"
    click.echo(f"OK: {source}, mode {loaded.settings.mode}, data directory {server.data_dir}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: {key: {value, origin}}.")
@settings_options
def show(loaded: Loaded, as_json: bool) -> None:
    """Print every effective value and where it came from.

    The output is itself a configuration file; the origins are its comments.
    """
    values = {path: value_of(loaded.settings, path) for path in KEYS}
    if as_json:
        described = {path: {"value": value, "origin": loaded.origins[path]} for path, value in values.items()}
        click.echo(json.dumps(described, indent=2))
    else:
        click.echo(as_annotated_toml(values, loaded.origins))


def value_of(settings: Settings, path: str) -> object:
    """Return the value at a key path of the schema."""
    return functools.reduce(getattr, path.split("."), settings)


def as_annotated_toml(values: Mapping[str, object], origins: Mapping[str, str]) -> str:
    """Return a TOML document of these settings, each with its origin as a comment."""
    lines: list[str] = []
    current = ""
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        if section != current:
            lines += ["", f"[{section}]"]
            current = section
        lines.append(f"{f'{name} = {as_toml(value)}':<{_ORIGIN_COLUMN}}  # {_one_line(origins[path])}")
    return "\n".join(lines)


def _one_line(origin: str) -> str:
    return origin if origin.isprintable() else as_toml(origin)
