"""Sliding windows over counters and histograms: what happened lately, from totals that only grow (pure).

Rules:
- A window keeps a bounded number of samples, a little apart; what happened is the newest minus the oldest in the span.
- A counter that went backwards (its block was rebuilt) empties the window: no rate is ever negative.
- Below `MIN_REQUESTS` there is no rate and no percentile: one unlucky request is not an outage, nor is silence.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from monitoring.histogram import EMPTY, HistogramValue, scale_of

MIN_REQUESTS: Final = 10
SAMPLES_PER_SPAN: Final = 30
_SECONDS: Final = scale_of("seconds")


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the block was created: of requests by result, their durations, and event-loop delays."""

    ok: int = 0
    rejected: int = 0
    error: int = 0
    durations: HistogramValue = EMPTY
    lag: HistogramValue = EMPTY


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened within the last `seconds`."""

    seconds: float
    ok: int
    rejected: int
    error: int
    durations: HistogramValue
    lag: HistogramValue

    @property
    def requests(self) -> int:
        """How many requests ended."""
        return self.ok + self.rejected + self.error

    @property
    def per_second(self) -> float | None:
        """Requests per second; None while the window is shorter than a second."""
        return self.requests / self.seconds if self.seconds >= 1.0 else None

    @property
    def error_rate(self) -> float | None:
        """Failed requests as a share of all; None when there were too few to tell."""
        return self.error / self.requests if self.requests >= MIN_REQUESTS else None

    @property
    def success_rate(self) -> float | None:
        """Requests that did not fail, as a share of all; None when there were too few to tell."""
        return None if self.error_rate is None else 1.0 - self.error_rate

    def duration(self, q: float) -> float | None:
        """The quantile `q` of request durations in seconds; None when there were too few to tell."""
        return _quantile(self.durations, q)

    def lag_p99(self) -> float | None:
        """The 99th percentile of event-loop delays in seconds; None when there were too few to tell."""
        return _quantile(self.lag, 0.99)


QUIET: Final = Traffic(0.0, 0, 0, 0, EMPTY, EMPTY)


class Window:
    """Samples of one component's totals over the last `span_ns`."""

    def __init__(self, span_ns: int) -> None:
        self._span = span_ns
        self._spacing = span_ns // SAMPLES_PER_SPAN
        self._samples: deque[tuple[int, Totals]] = deque()
        self._newest: tuple[int, Totals] | None = None

    def add(self, totals: Totals, now: int) -> None:
        """Take in the totals read at `now`; they are kept if the last kept ones are far enough away."""
        if self._newest is not None and _went_back(self._newest[1], totals):
            self._samples.clear()
        self._newest = (now, totals)
        if not self._samples or now - self._samples[-1][0] >= self._spacing:
            self._samples.append(self._newest)
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._span:
            self._samples.popleft()

    def traffic(self, span_ns: int | None = None) -> Traffic:
        """What happened in the window, or in the last `span_ns` of it (a little longer if samples are far apart)."""
        if self._newest is None:
            return QUIET
        now, newest = self._newest
        start, oldest = self._newest if not self._samples else self._samples[0]
        if span_ns is not None:
            start, oldest = next((s for s in reversed(self._samples) if now - s[0] >= span_ns), (start, oldest))
        return Traffic(
            (now - start) * _SECONDS,
            newest.ok - oldest.ok,
            newest.rejected - oldest.rejected,
            newest.error - oldest.error,
            _since(newest.durations, oldest.durations),
            _since(newest.lag, oldest.lag),
        )


def _since(later: HistogramValue, earlier: HistogramValue) -> HistogramValue:
    return EMPTY if later is earlier else later.since(earlier)


def _went_back(earlier: Totals, later: Totals) -> bool:
    return later.ok < earlier.ok or later.rejected < earlier.rejected or later.error < earlier.error


def _quantile(histogram: HistogramValue, q: float) -> float | None:
    if histogram is EMPTY or histogram.count < MIN_REQUESTS:
        return None
    value = histogram.quantile(q)
    return None if value is None else value * _SECONDS
