"""A log of events for tests: it keeps what it is told."""

from typing import Any


class EventLog:
    """Keeps the events, with their values."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    warning = error = info

    def of(self, event: str) -> list[dict[str, Any]]:
        """What was said with each event of this name."""
        return [values for name, values in self.events if name == event]
