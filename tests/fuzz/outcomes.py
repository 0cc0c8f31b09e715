"""What an attempt to parse ends with, and what every problem that comes out of it must be."""

import json
from collections.abc import Callable
from typing import TypeVar

from services.api.problems import KINDS, Problem

T = TypeVar("T")


def well_formed(problem: Problem, body: bytes) -> None:
    document = json.loads(problem.document("id"))
    assert document["status"] == KINDS[problem.kind].status
    assert document["detail"].isprintable()
    assert problem.position is None or 0 <= problem.position <= len(body)
    assert problem.field is None or problem.field.isprintable()
    assert len(document["detail"]) < 400


def outcome(attempt: Callable[[], T]) -> T | Problem:
    """What `attempt` returns, or the problem that it raises; any other exception is a failure of the test."""
    try:
        return attempt()
    except Problem as problem:
        return problem
