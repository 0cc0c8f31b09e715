"""What all parts of certificate status share: clock, randomness, log, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.ca.status.metrics import StatusMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """`now` gives seconds since the Unix epoch; `backdate` is how far in the past what is signed begins, in seconds."""

    metrics: StatusMetrics
    log: Any
    now: Callable[[], int]
    random_octets: Callable[[int], bytes]
    backdate: int
