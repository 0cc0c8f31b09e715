"""Waiting for something to become true, with a deadline: the only way in which a test of running processes waits."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def eventually(what: str, attempt: Callable[[], _T | None], within: float, every: float = 0.02) -> _T:
    """The first true result of `attempt`, asked each `every` seconds; AssertionError naming `what` after `within`.

    An AssertionError or OSError raised by `attempt` counts as "not yet" and is told in the end.
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            result = attempt()
        except (AssertionError, OSError) as reason:
            last = reason
        else:
            if result:
                return result
            last = result
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last: {last!r})")
        time.sleep(every)
