"""From defaults, a TOML file and command-line options to one checked `Settings`.

Rules:
- Precedence, lowest first: default, default of the mode, file, `--mode` and `--data-dir`, `--set`.
- Everything that is wrong is reported at once, each with its place, what was found and what was expected.
- Every value remembers its origin, for `trustchain config show`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec

from config.consistency import Contradiction, contradictions
from config.directories import absolute, default_data_dir, default_runtime_dir
from config.keys import KEYS
from config.layers import Entry, file_layer, option_layer, override_layer
from config.problems import ConfigError, Problem, shortened
from config.schema import MODE_DEFAULTS, Mode, Settings

__all__ = ["ConfigError", "Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for every key path where its value came from; `file` is the configuration file, if any."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None = None


def load(
    config_file: Path | None = None,
    mode: str | None = None,
    data_dir: Path | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Return the effective settings. Raises ConfigError with everything that is wrong."""
    layers = [file_layer(config_file)] if config_file is not None else []
    directory = None if data_dir is None else str(data_dir)
    layers.append(option_layer({"mode": ("--mode", mode), "server.data_dir": ("--data-dir", directory)}))
    layers.append(override_layer(overrides))
    problems = [problem for layer in layers for problem in layer.problems]
    given: dict[str, Entry] = {}
    for layer in layers:
        given |= layer.entries
    good, ill_typed = _judged(given)
    wrong = {problem.key for problem in ill_typed}
    # What is wrong is replaced by its default, so that the rest can be judged in the same run.
    entries = _with_defaults(good)
    problems += ill_typed + _settle_directories(entries, environ)
    settings = _settings(entries)
    if "mode" not in wrong:
        found = (one for one in contradictions(settings) if wrong.isdisjoint({one.key, *one.because_of}))
        problems += [_as_problem(one, entries) for one in found]
    if problems:
        raise ConfigError(problems)
    return Loaded(settings, {path: entries[path].origin for path in KEYS}, config_file)


def _judged(given: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[Problem]]:
    """Separate values that their key takes, in the type of the schema, from those that it does not."""
    good: dict[str, Entry] = {}
    problems: list[Problem] = []
    for path, entry in given.items():
        try:
            good[path] = replace(entry, value=KEYS[path].judged(entry.value))
        except ValueError:
            problems.append(Problem(entry.origin, path, shortened(entry.value), KEYS[path].expected))
    return good, problems


def _with_defaults(given: Mapping[str, Entry]) -> dict[str, Entry]:
    """Put the given values over those of the mode, and these over the defaults, in the order of the schema."""
    mode = _mode(given)
    entries = {path: Entry(key.default, "default") for path, key in KEYS.items() if not key.is_directory}
    entries |= {path: Entry(value, f"mode {mode}") for path, value in MODE_DEFAULTS[mode].items()}
    return entries | dict(given)


def _mode(entries: Mapping[str, Entry]) -> Mode:
    # Only values that the schema takes get here, and it takes no other modes.
    return cast("Mode", entries["mode"].value) if "mode" in entries else "development"


def _settle_directories(entries: dict[str, Entry], environ: Mapping[str, str]) -> list[Problem]:
    """Put absolute directories into `entries`: the given ones, or those that the mode and the machine suggest."""
    mode = _mode(entries)
    problems = []

    def settle(path: str, default: Callable[[], Entry | Problem]) -> Entry:
        chosen = entries.get(path) or default()
        settled = absolute(path, chosen, environ) if isinstance(chosen, Entry) else chosen
        if isinstance(settled, Entry):
            return settled
        problems.append(settled)
        return Entry("/", settled.place)

    data_dir = entries["server.data_dir"] = settle("server.data_dir", lambda: default_data_dir(mode, environ))
    entries["server.runtime_dir"] = settle("server.runtime_dir", lambda: default_runtime_dir(mode, data_dir, environ))
    if entries["ca.profiles_dir"].value:
        entries["ca.profiles_dir"] = settle("ca.profiles_dir", lambda: entries["ca.profiles_dir"])
    return problems


def _settings(entries: Mapping[str, Entry]) -> Settings:
    document: dict[str, Any] = {}
    for path in KEYS:
        *sections, name = path.split(".")
        node = document
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = entries[path].value
    return msgspec.convert(document, Settings)


def _as_problem(contradiction: Contradiction, entries: Mapping[str, Entry]) -> Problem:
    """Place a contradiction where something was said: one of the values is often just the default."""
    origins = [entries[path].origin for path in (contradiction.key, *contradiction.because_of)]
    said = [origin for origin in origins if not origin.startswith(("default", "mode "))]
    return Problem((said or origins)[0], contradiction.key, contradiction.found, contradiction.expected)
