"""The first code of ours in a new worker process, up to its service's own `main`.

Rules: the worker dies with the fork server, and does not begin if the supervisor is gone. Its standard output and error
go to the supervisor. SIGINT is the supervisor's business. A core dump would hold private keys: there is none.
"""

import faulthandler
import gc
import importlib
import io
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

from setproctitle import setproctitle

from config.inheritance import Inheritance
from supervisor import orphan, preload


def enter(module: str, inheritance: Inheritance, log: "Connection[bytes, bytes]") -> None:
    """Become the worker `MODULE.__main__`; returns when it has ended by itself."""
    if not preload.fork_server:
        raise RuntimeError("the fork server did not import supervisor.preload: we might outlive the supervisor")
    orphan.die_with(preload.fork_server)
    if _supervisor_is_gone(inheritance):
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _redirect_output(log)
    faulthandler.enable()
    title = inheritance.service if not inheritance.index else f"{inheritance.service} {inheritance.index}"
    setproctitle(f"trustchain: {title}")
    main = importlib.import_module(f"{module}.__main__").main
    gc.freeze()
    main(inheritance)


def _supervisor_is_gone(inheritance: Inheritance) -> bool:
    """Look for end of file on the leash. The supervisor may have died between its request and our birth."""
    inheritance.leash.setblocking(False)
    try:
        return inheritance.leash.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        inheritance.leash.setblocking(True)


def _redirect_output(log: "Connection[bytes, bytes]") -> None:
    for descriptor in (1, 2):
        os.dup2(log.fileno(), descriptor)
    log.close()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The fork server's streams may be block-buffered; a line must be out before the process can die.
            stream.reconfigure(line_buffering=True)
