"""History: selected figures of each component over time, in a bounded ring; and how much of that time it served (pure).

Rules:
- One row for each collection, kept for `retention_seconds`. At most `MAX_ROWS` rows: a longer retention keeps one row
  in several, so the memory is bounded by MAX_ROWS * MAX_COLUMNS * 8 bytes, whatever the settings say.
- A figure that was not known is NaN inside and None outside, never zero.
- Columns are named `component.figure`; one that appears later has no value before that.
"""

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Final

SECOND: Final = 1_000_000_000
MAX_ROWS: Final = 3600
MAX_COLUMNS: Final = 256
AVAILABILITY_SLICES: Final = 60
MIN_OBSERVED_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Series:
    """Figures over time: `times_ns` (monotonic) and for each name as many values, None where unknown."""

    times_ns: tuple[int, ...]
    columns: Mapping[str, tuple[float | None, ...]]


class History:
    """A ring of rows, stored by column."""

    def __init__(self, retention_seconds: float, interval_seconds: float) -> None:
        """Raises ValueError for a retention or interval that is not positive."""
        if retention_seconds <= 0 or interval_seconds <= 0:
            raise ValueError("retention and interval must be positive")
        self.spacing_ns = int(max(interval_seconds, retention_seconds / MAX_ROWS) * SECOND)
        self._rows = max(2, min(MAX_ROWS, int(retention_seconds * SECOND / self.spacing_ns)))
        self._retention_ns = int(retention_seconds * SECOND)
        self._times = array("q", bytes(8 * self._rows))
        self._columns: dict[str, array[float]] = {}
        self._written = 0

    def __len__(self) -> int:
        """How many rows are held."""
        return min(self._written, self._rows)

    def due(self, now: int) -> bool:
        """Whether the last row is far enough away for another one."""
        return not self._written or now - self._times[(self._written - 1) % self._rows] >= 0.98 * self.spacing_ns

    def record(self, row: Mapping[str, float | None], now: int) -> None:
        """Add a row. Columns beyond `MAX_COLUMNS` are left out."""
        place = self._written % self._rows
        self._times[place] = now
        for column in self._columns.values():
            column[place] = nan
        for name, value in row.items():
            if name not in self._columns and len(self._columns) < MAX_COLUMNS:
                self._columns[name] = array("d", [nan]) * self._rows
            if value is not None and name in self._columns:
                self._columns[name][place] = value
        self._written += 1

    def series(self, component: str, since_ns: int, now: int) -> Series:
        """Return the figures of `component` from `since_ns` on, the oldest first; names without the component."""
        oldest = max(since_ns, now - self._retention_ns)
        held = range(self._written - len(self), self._written)
        places = [row % self._rows for row in held if self._times[row % self._rows] >= oldest]
        prefix = f"{component}."
        columns = {name[len(prefix) :]: column for name, column in self._columns.items() if name.startswith(prefix)}
        return Series(
            tuple(self._times[place] for place in places),
            {name: tuple(_known(column[place]) for place in places) for name, column in columns.items()},
        )

    @property
    def components(self) -> tuple[str, ...]:
        """The components that have figures."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self._columns))


def _known(value: float) -> float | None:
    return None if isnan(value) else value


@dataclass(frozen=True, slots=True)
class Served:
    """For how long a component was observed, and did not serve."""

    observed_ns: int
    down_ns: int

    @property
    def share(self) -> float:
        """The share of the time during which it served, between 0.0 and 1.0."""
        return 1.0 - self.down_ns / self.observed_ns


class Availability:
    """The share of the retained time during which one component served; counted from when it first did."""

    def __init__(self, retention_seconds: float) -> None:
        self._slice_ns = int(retention_seconds * SECOND / AVAILABILITY_SLICES)
        self._slices: deque[list[int]] = deque(maxlen=AVAILABILITY_SLICES)
        self._last: tuple[int, bool] | None = None

    def observe(self, serving: bool, now: int) -> None:
        """Take in whether it serves at `now`; the time since the last observation counts as it was then."""
        if self._last is None:
            self._last = (now, True) if serving else None
            return
        before, served = self._last
        if not self._slices or now - self._slices[-1][0] >= self._slice_ns:
            self._slices.append([now, 0, 0])
        self._slices[-1][1] += (now - before) * served
        self._slices[-1][2] += now - before
        self._last = (now, serving)

    @property
    def has_served(self) -> bool:
        """Whether it ever served."""
        return self._last is not None

    @property
    def served(self) -> Served | None:
        """What was observed; None until that is a minute."""
        observed = sum(each[2] for each in self._slices)
        if observed < MIN_OBSERVED_SECONDS * SECOND:
            return None
        return Served(observed, observed - sum(each[1] for each in self._slices))

    @property
    def share(self) -> float | None:
        """The share of the time during which it served; None until it has been observed for a minute."""
        served = self.served
        return served.share if served else None
