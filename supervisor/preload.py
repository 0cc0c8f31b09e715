"""Imported by the fork server before it serves: what every worker forked from it starts with.

Rules:
- Importing has an effect only in a process whose environment holds `PRELOAD`, and takes it out of there. That is the
  fork server, to which `multiprocessing` lets us pass nothing else.
- A module that cannot be imported must not keep the others from running: its own worker meets the error again.
"""

import gc
import importlib
import os
import traceback
from typing import Final

from setproctitle import setproctitle

from supervisor import orphan

PRELOAD: Final = "TRUSTCHAIN_PRELOAD"
"""Environment variable: modules to import, separated by colons."""

ONLY_FOR_FORK_SERVER: Final = (PRELOAD, "PYTHONPATH", "PYTHONSAFEPATH")
"""Variables set for the fork server that no worker is to see."""

BEFORE_ITS_WORK: Final = ("supervisor.entry", "multiprocessing.popen_forkserver", "encodings.ascii", "encodings.idna")
"""What every worker would import between its fork and the first line of its service: milliseconds of each recovery."""

fork_server = 0
"""Process id of the fork server; every process forked from it inherits the value. 0: this is another process."""


def prepare(modules: tuple[str, ...]) -> int:
    """Make this process the fork server and import `modules`. Return its process id."""
    # No worker exists yet. Should the supervisor be dead already, the fork server finds its pipe closed and leaves.
    orphan.die_with(os.getppid())
    # ^C in a terminal is for the supervisor alone: it goes to the whole process group.
    os.setpgrp()
    for module in (*BEFORE_ITS_WORK, *modules):
        try:
            importlib.import_module(module)
        except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, the worker itself meets it again and dies of it
            traceback.print_exc()
    # What is here now stays: collecting it in a worker would only copy the pages that it shares.
    gc.collect()
    gc.freeze()
    return os.getpid()


if PRELOAD in os.environ:
    # First of all: it looks for the arguments below the first variable, and taking that one away would hide them.
    setproctitle("trustchain: fork server")
    _modules = tuple(filter(None, os.environ[PRELOAD].split(":")))
    for _variable in ONLY_FOR_FORK_SERVER:
        os.environ.pop(_variable, None)
    fork_server = prepare(_modules)
