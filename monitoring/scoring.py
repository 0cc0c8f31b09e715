"""What a component loses of its score, and for which reason (pure).

A score is 1.0 minus the losses below, never less than 0.0. Nothing is lost inside a threshold; crossing one costs at
least `LEAST`, which is just enough to leave the state healthy.

| factor     | nothing is lost while                    | most is lost when                                            |
|------------|------------------------------------------|--------------------------------------------------------------|
| liveness   | ready, heartbeat younger than half of    | 1.00 stopped, backoff, failed, no worker, heartbeat older    |
|            | its timeout                              | than its timeout; 0.60 starting or draining                  |
| probe      | passed within the last 3 probe intervals | 0.90 failed for its own cause or the environment's, silent   |
|            |                                          | for 6 intervals; 0.50 a dependency's; 0.11 not probed yet    |
| success    | the share of errors is below its         | 0.90 half of all requests fail                               |
|            | threshold                                |                                                              |
| latency    | p99 is within its target                 | 0.15 p99 at 4 times the target                               |
| saturation | memory below 90 % of its limit, event-   | 0.90 memory at 125 % of its limit; 0.15 lag p99 at 2.5 s     |
|            | loop lag p99 below 0.25 s                |                                                              |
| restarts   | none within 5 minutes                    | 0.12 three or more; 0.04 for each before that                |
| block      | the worker's slot can be read            | 0.75 its slot of the metrics block is damaged                |
| space      | 10 % or 256 MiB of the data directory's  | 0.90 below 1 % and below 16 MiB (component `storage`; 0.25   |
|            | file system are free, or 5000 inodes     | for /dev/shm, which only the next start would miss)          |
| forecast   | no record fills the disk within 14 days  | 0.11 it will, at the rate at which it grows now (`storage`)  |
| findings   | nothing contradicts what must hold       | 0.15 something does; it still serves                         |
| renewal    | what ends is renewed in time             | 0.11 something was not; nothing if there are findings, whose |
|            |                                          | loss says enough                                             |

Rules: what is slow still serves, so slowness alone degrades and no more. No traffic is not a failure, and fewer than
`window.MIN_REQUESTS` requests say nothing. Each loss names its cause, because only a worker's own fault is cured by
replacing it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from monitoring.facts import Disk

SECOND: Final = 1_000_000_000
LEAST: Final = 0.11
RESTART_WINDOW_SECONDS: Final = 300
LAG_LIMIT_SECONDS: Final = 0.25
STALE_PROBE_INTERVALS: Final = 3
SILENT_PROBE_INTERVALS: Final = 6
FORECAST_SECONDS: Final = 14 * 86_400
_UNITS: Final = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
MIB: Final = 1 << 20
MB: Final = 1_000_000


class HealthState(StrEnum):
    """How well a component serves."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    CRITICAL = "critical"

    @classmethod
    def of(cls, score: float) -> "HealthState":
        """Return the state that a score stands for."""
        if score >= 0.9:
            return cls.HEALTHY
        if score >= 0.7:
            return cls.DEGRADED
        return cls.UNHEALTHY if score >= 0.3 else cls.CRITICAL

    @property
    def serving(self) -> bool:
        """Whether work is being done, if not perfectly."""
        return self in (HealthState.HEALTHY, HealthState.DEGRADED)


class Cause(StrEnum):
    """Whose fault a loss is. Only `OWN` is cured by replacing the worker."""

    NONE = "none"
    OWN = "own"
    DEPENDENCY = "dependency"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Loss:
    """What one factor takes off the score, with the sentence for the operator (empty when nothing is lost)."""

    factor: str
    amount: float = 0.0
    issue: str = ""
    cause: Cause = Cause.NONE


def beyond(value: float, threshold: float, worst: float, most: float) -> float:
    """Return nothing up to `threshold`, then from `LEAST` to `most`, which is reached at `worst`."""
    if value <= threshold:
        return 0.0
    if value >= worst or worst <= threshold:
        return most
    return LEAST + (most - LEAST) * (value - threshold) / (worst - threshold)


def span(ns: int) -> str:
    """Return a duration as people read it: "0.3 s", "12 s", "5 min", "2 h 3 min", "3 d 4 h"."""
    value = ns / SECOND
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    for unit, name, smaller, smaller_name in _UNITS:
        if value >= 2 * unit:
            many, rest = divmod(int(value), unit)
            return f"{many} {name} {rest // smaller} {smaller_name}" if rest >= smaller else f"{many} {name}"
    raise AssertionError(value)  # the last unit takes all that is left


def success_loss(who: str, errors: int, requests: int, min_success_rate: float, window: float) -> Loss:
    """Judge the share of failed requests; refusals that the caller deserved are not failures."""
    share = errors / requests
    amount = beyond(share, 1.0 - min_success_rate, max(0.5, 1.0 - min_success_rate), 0.9)
    if not amount:
        return Loss("success")
    issue = (
        f"{who}: success rate {1 - share:.1%} over the last {window:.0f} s is below {min_success_rate:.1%} "
        f"({errors} of {requests} requests failed); its log says why"
    )
    return Loss("success", amount, issue)


def latency_loss(who: str, p99: float, target: float, window: float) -> Loss:
    """Judge the 99th percentile in seconds against its target in seconds."""
    amount = beyond(p99, target, 4 * target, 0.15)
    if not amount:
        return Loss("latency")
    issue = f"{who}: p99 {p99 * 1000:.1f} ms over the last {window:.0f} s is above {target * 1000:g} ms"
    return Loss("latency", amount, issue)


def memory_loss(who: str, resident: int, limit: float) -> Loss:
    """Judge resident bytes against the limit in bytes."""
    amount = beyond(resident / limit, 0.9, 1.25, 0.9)
    if not amount:
        return Loss("saturation")
    side = "above" if resident > limit else "near"
    issue = f"{who}: memory {resident / MB:.0f} MB is {side} its limit of {limit / MB:.0f} MB (max_memory_mb)"
    return Loss("saturation", amount, issue, Cause.OWN)


def lag_loss(who: str, lag: float, window: float) -> Loss:
    """Judge the 99th percentile of the event loop's delay, in seconds."""
    amount = beyond(lag, LAG_LIMIT_SECONDS, 10 * LAG_LIMIT_SECONDS, 0.15)
    if not amount:
        return Loss("saturation")
    issue = (
        f"{who}: event loop late by {lag * 1000:.0f} ms (p99 over the last {window:.0f} s), more than "
        f"{LAG_LIMIT_SECONDS * 1000:.0f} ms; the host or this worker is overloaded"
    )
    return Loss("saturation", amount, issue)


def restarts_loss(who: str, restarts: int, latest_age: int) -> Loss:
    """Judge how often a worker was restarted lately; the last time `latest_age` ns ago."""
    if not restarts:
        return Loss("restarts")
    times = "once" if restarts == 1 else f"{restarts} times"
    issue = (
        f"{who}: restarted {times} within {RESTART_WINDOW_SECONDS // 60} minutes, last {span(latest_age)} ago; "
        "`trustchain status --deaths` shows why"
    )
    return Loss("restarts", min(0.12, 0.04 * restarts), issue)


def disk_loss(what: str, disk: Disk, most: float) -> Loss:
    """Judge the room on a file system: scarce only when both little in bytes and little in share."""
    where = f"{what} ({disk.path}"
    if not disk.total:
        return Loss("space", most, f"storage: {where}) could not be read; check that it is mounted", Cause.ENVIRONMENT)
    amount = _shortage(disk.free, disk.total, 256 * MIB, 16 * MIB, most)
    if amount:
        word = "is full" if disk.free < MIB else "is almost full"
        issue = f"storage: {where}, {_bytes(disk.free)} free of {_bytes(disk.total)}) {word}; free some space"
        return Loss("space", amount, issue, Cause.ENVIRONMENT)
    amount = _shortage(disk.free_inodes, disk.total_inodes, 5000, 100, most) if disk.total_inodes else 0.0
    if amount:
        issue = f"storage: {where}) has {disk.free_inodes} of {disk.total_inodes} inodes left; remove some files"
        return Loss("space", amount, issue, Cause.ENVIRONMENT)
    return Loss("space")


def findings_loss(who: str, findings: Mapping[str, int]) -> Loss:
    """Judge what contradicts what must hold: the numbers of open findings by kind."""
    if not findings:
        return Loss("findings")
    total = sum(findings.values())
    what = "1 finding contradicts" if total == 1 else f"{total} findings contradict"
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(findings.items()))
    issue = f"{who}: {what} what must hold ({kinds}); `trustchain findings` lists them, `trustchain audit` checks all"
    return Loss("findings", 0.15, issue)


def renewal_loss(who: str, overdue: Sequence[str], *, counted: bool) -> Loss:
    """Judge what should have been renewed by now; without `counted` it is told and costs nothing."""
    if not overdue:
        return Loss("renewal")
    verb = "is" if len(overdue) == 1 else "are"
    issue = (
        f"{who}: {', '.join(overdue)} {verb} overdue for renewal; `trustchain expiry` says when each one ends, "
        "its log why it was not renewed"
    )
    return Loss("renewal", LEAST if counted else 0.0, issue)


def forecast_loss(filling: Mapping[str, float]) -> Loss:
    """Judge when the records of services fill the disk: seconds from now, by service."""
    service, seconds = min(filling.items(), key=lambda each: each[1], default=("", FORECAST_SECONDS))
    if seconds >= FORECAST_SECONDS:
        return Loss("forecast")
    left = span(int(seconds * SECOND))
    issue = (
        f"storage: at its present rate the record of {service} fills the data directory in {left}; "
        "free some space, or set how long its rows are kept"
    )
    return Loss("forecast", LEAST, issue, Cause.ENVIRONMENT)


def _shortage(free: int, total: int, low: int, empty: int, most: float) -> float:
    by_amount = beyond(-free, -low, -empty, most)
    by_share = beyond(-free / total, -0.10, -0.01, most)
    return min(by_amount, by_share)


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
