"""How long a service does not answer after something was done to its worker."""

import signal
import statistics
import time
from collections.abc import Callable, Sequence

from tests.rig import processes
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Tree

_PAUSE = 0.002
_CSR = signing_request("recovery.example.test", key=new_key())


def answers(tree: Tree, service: str) -> bool:
    """Whether `service` gives one successful answer now, asked over a new connection."""
    if service == "monitoring":
        return tree.monitoring("/health/live").status == 200
    if service == "ca":
        return tree.issue(_CSR).status == 201
    return tree.api("GET", "/ct/v1/get-sth" if service == "ct" else "/v1/ca/roots").status == 200


def kill(pid: int) -> None:
    """SIGKILL."""
    processes.send(pid, signal.SIGKILL)


def recovery(tree: Tree, service: str, pid: int, harm: Callable[[int], None], within: float = 20.0) -> float:
    """Seconds from `harm(pid)` to the first successful answer of `service` by another process than `pid`."""
    before = processes.identify(pid)
    assert before is not None, f"{service} {pid} is not running"
    began = time.monotonic()
    harm(pid)
    while True:
        answered = _answers_despite_resets(tree, service)
        elapsed = time.monotonic() - began
        # A process that was frozen or blocked may answer first what it had already taken.
        if answered and processes.identify(pid) != before:
            return elapsed
        assert elapsed < within, f"no other process answered as {service} within {within:g} s"
        time.sleep(_PAUSE)


def figures(seconds: Sequence[float]) -> str:
    """Median, least and greatest, in milliseconds."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"median {middle * 1e3:6.1f} ms   min {low * 1e3:6.1f} ms   max {high * 1e3:6.1f} ms   of {len(seconds)}"


def _answers_despite_resets(tree: Tree, service: str) -> bool:
    """As `answers`. A refused connection is an error: the supervisor holds the socket, so there always is a backlog."""
    try:
        return answers(tree, service)
    except ConnectionRefusedError:
        raise
    except OSError:
        return False
