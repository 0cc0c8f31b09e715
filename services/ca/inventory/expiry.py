"""The expiry radar: everything of an authority that ends, and whether its renewal is due. Pure.

Rules:
- Each kind has a schedule. Without one of its own a certificate is to be renewed when two thirds of its lifetime are
  over, and is overdue when half of the last third is gone too: until then a renewal that fails is tried again in peace.
- What was replaced and only ends (a retired intermediate) has no schedule: it is `ok` until it is `expired`, and never
  overdue.
- A leaf is due only if nothing has renewed it: no certificate of the same profile for the same names ends later. Its
  renewal is its owner's business, so it is shown and counted, and never an alarm of the authority.
- The key of the certificate log has no certificate and no end: its age is not an expiry, and it is not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from services.ca.hierarchy.hierarchy import validity_of
from services.ca.inventory.messages import ExpiryItem, ExpiryKind, ExpiryState
from services.ca.serials import serial_text

# What the metric of overdue renewals tells of: everything but the leaves.
OWN_KINDS: Final[tuple[ExpiryKind, ...]] = ("root", "intermediate", "crl", "responder", "api")
_URGENCY: Final[tuple[ExpiryState, ...]] = ("expired", "overdue", "due", "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that ends. Times are seconds since the Unix epoch; `not_after` is the last second in which it serves.

    `renew_at` and `overdue_at` are None for what nothing is to take the place of. Raises ValueError when one is given
    without the other, or they are not in order.
    """

    kind: ExpiryKind
    name: str
    not_after: int
    renew_at: int | None = None
    overdue_at: int | None = None
    serial: str | None = None

    def __post_init__(self) -> None:
        if (self.renew_at is None) != (self.overdue_at is None):
            raise ValueError(f"{self.kind} {self.name}: half a schedule")
        if self.renew_at is not None and self.overdue_at is not None and self.renew_at > self.overdue_at:
            raise ValueError(f"{self.kind} {self.name}: overdue before it is due")

    @classmethod
    def scheduled(cls, kind: ExpiryKind, name: str, not_before: int, not_after: int, serial: str | None = None) -> Item:
        """An item with the usual schedule for a lifetime from `not_before` to `not_after`."""
        lifetime = max(0, not_after - not_before)
        return cls(
            kind=kind,
            name=name,
            not_after=not_after,
            renew_at=not_after - lifetime // 3,
            overdue_at=not_after - lifetime // 6,
            serial=serial,
        )

    @classmethod
    def of_certificate(cls, kind: ExpiryKind, certificate: x509.Certificate) -> Item:
        """An item with the usual schedule for a certificate."""
        validity = validity_of(certificate)
        name, serial = certificate.subject.rfc4514_string(), serial_text(certificate.serial_number)
        return cls.scheduled(kind, name, validity.not_before, validity.not_after, serial)

    def state(self, now: int) -> ExpiryState:
        """How it stands. `now` is in seconds since the Unix epoch."""
        if now > self.not_after:
            return "expired"
        if self.overdue_at is not None and now >= self.overdue_at:
            return "overdue"
        return "due" if self.renew_at is not None and now >= self.renew_at else "ok"

    def late(self, now: int) -> bool:
        """Whether it should have been renewed by now and was not."""
        return self.overdue_at is not None and self.state(now) in ("overdue", "expired")


def radar(items: Iterable[Item], now: int) -> list[ExpiryItem]:
    """What is said of the items, the most urgent first, then what ends first."""
    told = [
        ExpiryItem(
            kind=item.kind,
            name=item.name,
            serial=item.serial,
            not_after=item.not_after,
            renew_at=item.renew_at,
            state=item.state(now),
        )
        for item in items
    ]
    return sorted(told, key=lambda item: (_URGENCY.index(item.state), item.not_after, item.kind, item.name))


def overdue_kinds(items: Iterable[Item], now: int) -> frozenset[ExpiryKind]:
    """The kinds of which something should have been renewed by now and was not."""
    return frozenset(item.kind for item in items if item.late(now))
