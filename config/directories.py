"""Where the data and runtime directories are when nobody says so, and what a path that was said means.

Rules: nothing is created here. Symbolic links are followed, so that every program that is given one of several names of
a data directory finds the same block and the same sockets.
"""

import os
from collections.abc import Mapping
from typing import Final

from config.layers import Entry
from config.problems import Problem
from config.schema import Mode

PRODUCTION_DATA_DIR: Final = "/var/lib/trustchain"
PRODUCTION_RUNTIME_DIR: Final = "/run/trustchain"

COMMAND_LINE: Final = frozenset({"--data-dir", "--set"})
"""Origins that mean a tree beside the one of the host."""


def default_data_dir(mode: Mode, environ: Mapping[str, str]) -> Entry | Problem:
    """Return the data directory of this mode on this machine."""
    if mode == "production":
        given = _first_directory(environ, "STATE_DIRECTORY")
        return given or Entry(PRODUCTION_DATA_DIR, "mode production")
    state_home = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state_home):  # the XDG specification: a relative one is to be ignored
        return Entry(os.path.join(state_home, "trustchain"), "environment XDG_STATE_HOME")
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        return Problem("default", "server.data_dir", "no HOME in the environment", "a directory, given by --data-dir")
    return Entry(os.path.join(home, ".local", "state", "trustchain"), "default")


def default_runtime_dir(mode: Mode, data_dir: Entry, environ: Mapping[str, str]) -> Entry:
    """Return the runtime directory that goes with a data directory, whose value is absolute.

    A data directory given on the command line gets its sockets inside it even in production: two trees on one host must
    not meet in /run/trustchain.
    """
    if mode == "production" and data_dir.origin not in COMMAND_LINE:
        given = _first_directory(environ, "RUNTIME_DIRECTORY")
        return given or Entry(PRODUCTION_RUNTIME_DIR, "mode production")
    return Entry(os.path.join(str(data_dir.value), "run"), "inside server.data_dir")


def absolute(key: str, entry: Entry, environ: Mapping[str, str]) -> Entry | Problem:
    """Return the entry with an absolute path. `~` is the home directory of `environ`."""
    path = str(entry.value)
    if path == "~" or path.startswith("~/"):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return Problem(entry.origin, key, f'"{path}" but no HOME in the environment', "an absolute path")
        path = home + path[1:]
    try:
        return Entry(os.path.realpath(os.path.join(entry.base, path)), entry.origin)
    except (OSError, ValueError) as error:
        return Problem(entry.origin, key, f'"{path}", which cannot be resolved ({error})', "an absolute path")


def _first_directory(environ: Mapping[str, str], variable: str) -> Entry | None:
    """systemd separates several directories with colons; the first one is the one named in the unit first."""
    first = environ.get(variable, "").partition(":")[0]
    return Entry(first, f"environment {variable}") if os.path.isabs(first) else None
