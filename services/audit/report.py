"""What an audit says: each finding as it comes, and a summary. Pure.

Rules:
- Every finding is told with its evidence. Notes are counted, and the first ones of each kind are told.
- Memory: at most MAX_TOLD findings and a few notes of each kind are kept for the JSON document; all are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from services.ca.reconciliation.contradictions import Finding, Note, Observation

MAX_TOLD: Final = 10_000
NOTES_TOLD: Final = 5


@dataclass
class Report:
    """What was found so far. `certificates`, `entries` and `lists` are how many were looked at."""

    certificates: int = 0
    entries: int = 0
    lists: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    def take(self, one: Observation) -> None:
        """Count it, and keep it if there is room."""
        if isinstance(one, Note):
            self.noted[one.kind] += 1
            if self.noted[one.kind] <= NOTES_TOLD:
                self.notes.append(one)
            return
        self.found[one.kind] += 1
        if len(self.findings) < MAX_TOLD:
            self.findings.append(one)

    @property
    def is_clean(self) -> bool:
        """Whether nothing contradicts anything."""
        return not self.found

    def lines(self) -> Iterator[str]:
        """The report for people."""
        for finding in self.findings:
            yield f"FINDING {finding.kind} ({finding.severity}), {finding.subject}: {finding.text}"
            for name, digest in finding.digests.items():
                yield f"    SHA-256 of {name}: {digest}"
        hidden = self.found.total() - len(self.findings)
        if hidden:
            yield f"... and {hidden} more findings"
        for note in self.notes:
            yield f"note {note.kind}, {note.subject}: {note.text}"
        for kind, count in sorted(self.noted.items()):
            if count > NOTES_TOLD:
                yield f"note {kind}: {count} in all"
        yield (
            f"{self.certificates} certificates, {self.entries} log entries and {self.lists} revocation lists compared: "
            f"{_counted(self.found)}"
        )

    def document(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "clean": self.is_clean,
            "certificates": self.certificates,
            "entries": self.entries,
            "lists": self.lists,
            "findings": [
                {
                    "kind": one.kind,
                    "severity": one.severity,
                    "subject": one.subject,
                    "text": one.text,
                    "digests": dict(one.digests),
                }
                for one in self.findings
            ],
            "finding_counts": dict(sorted(self.found.items())),
            "notes": [{"kind": one.kind, "subject": one.subject, "text": one.text} for one in self.notes],
            "note_counts": dict(sorted(self.noted.items())),
        }


def _counted(found: Counter[str]) -> str:
    total = found.total()
    if not total:
        return "nothing contradicts"
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(found.items()))
    return f"{total} {'finding' if total == 1 else 'findings'} ({kinds})"
