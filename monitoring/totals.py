"""Finds, among all series of a service's workers, those that its health is judged by (pure).

The main operation of service X is the operation `trustchain_X_requests`; event-loop lag is a family of every worker.
Where they stand in a worker's table is remembered as long as the table stays the same, because a table has hundreds of
series and is read at every tick.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import reduce
from typing import Final

from monitoring.families import Family
from monitoring.histogram import EMPTY, HistogramValue
from monitoring.snapshot import Series, SlotSnapshot
from monitoring.window import Totals

LAG_FAMILY: Final = "trustchain_worker_event_loop_lag_seconds"


class SeriesFinder:
    """Finds the series of some families in slots, and decodes no others."""

    def __init__(self, families: AbstractSet[str]) -> None:
        """`families`: their names."""
        self._wanted = families
        self._places: dict[int, tuple[tuple[Family, ...], list[int]]] = {}

    def found(self, slot: SlotSnapshot) -> list[Series]:
        """Return the series of these families in the slot."""
        families, places = self._places.get(slot.slot, ((), []))
        if not slot.families or families is not slot.families or not slot.series:
            places = [place for place, series in enumerate(slot.series) if series.name in self._wanted]
            self._places[slot.slot] = (slot.families, places)
        return [slot.series[place] for place in places]


class TotalsReader:
    """Reads the totals of one service."""

    def __init__(self, service: str) -> None:
        self._requests, self._durations = (f"trustchain_{service}_requests_{part}" for part in ("total", "seconds"))
        self._finder = SeriesFinder({self._requests, self._durations, LAG_FAMILY})

    def read(self, slots: Iterable[SlotSnapshot]) -> Totals:
        """Return the totals of all workers of the service together."""
        counts = {"ok": 0, "rejected": 0, "error": 0}
        histograms: dict[str, list[HistogramValue]] = {self._durations: [], LAG_FAMILY: []}
        for series in (series for slot in slots for series in self._finder.found(slot)):
            if isinstance(series.value, HistogramValue):
                histograms[series.name].append(series.value)
            else:
                counts[dict(series.labels).get("result", "ok")] += int(series.value)
        durations, lag = (_together(histograms[name]) for name in (self._durations, LAG_FAMILY))
        return Totals(**counts, durations=durations, lag=lag)


def _together(histograms: list[HistogramValue]) -> HistogramValue:
    # A histogram that has not changed stays the same object, which tells the window that nothing happened.
    return reduce(HistogramValue.merged, histograms) if histograms else EMPTY
