"""What the API's promises need of the HTTP library."""

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_no_http_library_is_accepted_that_queues_pipelined_requests_without_a_bound() -> None:
    """Bounded since 3.14.1: before, one connection that reads no answers takes memory as fast as it can send."""
    dependencies: list[str] = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    (floor,) = [text.partition(">=")[2] for text in dependencies if text.startswith("aiohttp>=")]
    assert tuple(map(int, floor.split("."))) >= (3, 14, 1)
