"""Log-linear histograms of non-negative integers in a fixed number of buckets. Pure.

Eight buckets to an octave, so a bucket is never wider than 12.5 % of its lower bound; values below 16 are kept exactly.
Durations are recorded in nanoseconds, sizes in bytes. 320 buckets reach 2**42 (73 minutes, or 4 TiB); a larger value is
counted in the last bucket and still enters the sum in full, a negative one counts as 0. The sum is an f64, exact up to
2**53 (104 days, 9 PB). Two histograms add bucket by bucket, which is how the workers of one service are combined.

    value v           bucket
    0 .. 15           v
    16 .. 2**42 - 1   8 * shift + (v >> shift)   with shift = v.bit_length() - 4
    2**42 ..          319
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import sub

import msgspec

BUCKETS = 320
CELLS = BUCKETS + 1
"""Cells of one histogram: the sum of all values (f64), then the buckets (u64)."""

SCALES = {"seconds": 1e-9}
"""What one recorded unit is worth in the exported unit; 1 where the unit is not listed."""


def scale_of(unit: str) -> float:
    """Factor from recorded integers (nanoseconds, bytes) to the exported unit (seconds, bytes)."""
    return SCALES.get(unit, 1.0)


SHIFTS = tuple(max(0, bits - 4) for bits in range(43))
"""By bit length: how far a value is shifted to the right to keep the four bits that pick its bucket.

It ends where the buckets end: a value of more bits is found in neither of these tables, and belongs in the last bucket.
"""

FIRST_BUCKETS = tuple(8 * shift for shift in SHIFTS)
"""By bit length: what those four bits are added to."""


def bucket_of(value: int) -> int:
    """Index of the bucket that counts `value`."""
    value = max(value, 0)
    bits = value.bit_length()
    return FIRST_BUCKETS[bits] + (value >> SHIFTS[bits]) if bits < len(SHIFTS) else BUCKETS - 1


def lower_bound(bucket: int) -> int:
    """Smallest value that falls in `bucket`."""
    shift = bucket // 8 - 1
    return bucket if shift <= 0 else (bucket - 8 * shift) << shift


LOWER_BOUNDS = tuple(lower_bound(bucket) for bucket in range(BUCKETS + 1))
"""Bucket i counts the values v with LOWER_BOUNDS[i] <= v < LOWER_BOUNDS[i + 1]."""

_SECONDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_BYTES = tuple(float(4**power) for power in range(3, 16))
_COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10000.0, 100000.0, 1000000.0)
LADDERS = {"seconds": _SECONDS, "bytes": _BYTES}


def _cuts(unit: str, ladder: tuple[float, ...]) -> tuple[tuple[float, int], ...]:
    """For each `le`, how many of the lowest buckets lie wholly at or below it."""
    recorded = [round(bound / scale_of(unit)) for bound in ladder]
    return tuple((le, bisect_right(LOWER_BOUNDS, value + 1) - 1) for le, value in zip(ladder, recorded, strict=True))


_CUTS = {unit: _cuts(unit, ladder) for unit, ladder in LADDERS.items()}
_COUNT_CUTS = _cuts("", _COUNTS)


class HistogramValue(msgspec.Struct, frozen=True, gc=False):
    """What a histogram held at one moment. `sum` and all bounds are in recorded units (nanoseconds, bytes)."""

    sum: float
    buckets: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return sum(self.buckets)

    def quantile(self, q: float) -> float | None:
        """The value below which the fraction `q` (0 to 1) of the recorded ones lie; None if there are none.

        Interpolates inside the bucket, so it is off by at most the width of one bucket (12.5 %).
        Raises ValueError for a `q` outside 0..1.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not {q}")
        running = list(accumulate(self.buckets))
        if not running or not running[-1]:
            return None
        rank = max(q * running[-1], 1e-9)
        bucket = bisect_left(running, rank)
        before = running[bucket - 1] if bucket else 0
        low, high = LOWER_BOUNDS[bucket], LOWER_BOUNDS[bucket + 1]
        return low + (high - low) * (rank - before) / self.buckets[bucket]

    def merged(self, other: "HistogramValue") -> "HistogramValue":
        """Both histograms together."""
        return HistogramValue.total((self, other))

    @classmethod
    def total(cls, parts: "Sequence[HistogramValue]") -> "HistogramValue":
        """All of `parts` together, at least one."""
        columns = zip(*(part.buckets for part in parts), strict=True)
        return cls(sum(part.sum for part in parts), tuple(map(sum, columns)))

    def since(self, earlier: "HistogramValue") -> "HistogramValue":
        """What was recorded after `earlier`; all of it if the histogram was reset in between."""
        buckets = tuple(map(sub, self.buckets, earlier.buckets))
        if self.sum < earlier.sum or min(buckets, default=0) < 0:
            return self
        return HistogramValue(self.sum - earlier.sum, buckets)

    def classic(self, unit: str) -> tuple[tuple[float, int], ...]:
        """Cumulative (`le`, count) pairs of the fixed ladder of `unit`, without `+Inf` (which is `count`).

        `le` is in the exported unit. A value counts under `le` once its whole bucket lies at or below it, so a count
        is never too high and lags by less than one bucket width.
        """
        running = (0, *accumulate(self.buckets))
        return tuple((le, running[lowest]) for le, lowest in _CUTS.get(unit, _COUNT_CUTS))


EMPTY = HistogramValue(0.0, (0,) * BUCKETS)
