"""What a service says of itself in gauges that every service may declare, whatever it is (pure).

| family                                        | says                                                                |
|-----------------------------------------------|---------------------------------------------------------------------|
| trustchain_SERVICE_findings{kind=...}         | how many open findings contradict what must hold, by kind           |
| trustchain_SERVICE_renewals_overdue{item=...} | 1 when what ends should have been renewed and was not; its owner    |
|                                               | knows the schedule                                                  |
| trustchain_SERVICE_record_full_seconds        | until its record fills the disk at the present rate; 0: not known   |

Rules: the gauges of a worker without a process are left out, as in exports: they describe something that is no more. Of
several workers the findings are added up, an item counts once, and the disk is full when the first one says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from monitoring.snapshot import WITHOUT_PROCESS, SlotSnapshot
from monitoring.totals import SeriesFinder


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one service says. `full_after` is in seconds, None when it is not known."""

    findings: Mapping[str, int] = field(default_factory=dict)
    overdue: tuple[str, ...] = ()
    full_after: float | None = None

    @property
    def open_findings(self) -> int:
        """How many findings there are, of all kinds."""
        return sum(self.findings.values())


UNSPOKEN: Final = Conditions()


class ConditionsReader:
    """Reads the conditions of one service."""

    def __init__(self, service: str) -> None:
        """`service`: its name, as in the names of its families."""
        self._findings = f"trustchain_{service}_findings"
        self._overdue = f"trustchain_{service}_renewals_overdue"
        self._full = f"trustchain_{service}_record_full_seconds"
        self._finder = SeriesFinder({self._findings, self._overdue, self._full})

    def read(self, slots: Iterable[SlotSnapshot]) -> Conditions:
        """Return what all workers of the service say together."""
        findings: dict[str, int] = {}
        overdue: dict[str, None] = {}
        full: list[float] = []
        alive = (slot for slot in slots if slot.state not in WITHOUT_PROCESS)
        for series in (series for slot in alive for series in self._finder.found(slot)):
            value, label = series.value, next((text for _, text in series.labels), "")
            # A counter or histogram of that name is no condition, and a gauge may hold what is no number.
            if series.kind != "gauge" or not isinstance(value, float) or not 0 < value < float("inf"):
                continue
            if series.name == self._findings:
                findings[label] = findings.get(label, 0) + max(1, int(value))
            elif series.name == self._overdue:
                overdue[label] = None
            else:
                full.append(value)
        return (
            Conditions(findings, tuple(overdue), min(full, default=None)) if findings or overdue or full else UNSPOKEN
        )
