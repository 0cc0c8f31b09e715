"""Too many certificates for one name, or for the same names at once: what the log alone shows. Pure.

Rules:
- The time is the log's: the newest timestamp that was seen in it. An entry with an older one is counted at that time.
  The same entries lead to the same findings and the same octets, whoever follows them, and wherever he paused.
- `rate`: more than `rate_limit` certificates for a name within `rate_window`. A wildcard also counts for the name that
  it is registered under. Only the newest `rate_limit` + 1 of a name are remembered: more decide nothing.
- `duplicate`: a certificate for exactly the same names, while more than `duplicates` others that were logged within
  `duplicate_window` are still valid. A renewal at a normal point of the lifetime has none of those.
- One certificate counts once, however it was logged: contents that the newest certificates of these names have already
  are no other certificate. One without names is not counted.
- A finding is one episode. It opens with the entries that show it, all later certificates of its subject belong to it,
  and it closes when there was none for a whole window. A subject has at most one open finding of each kind.
- Of names, and of sets of names, at most `max_names` are remembered: those with a certificate within the window. While
  all places are taken further ones are not watched, and `not_watched` counts them.
- Entries come one by one, in the order of the log. Another one changes nothing and raises OutOfOrder.
- With other limits after a restart what is remembered stays; it is cut to the new limits with the next certificate.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, Protocol, TypeVar, get_args

from services.consensus.logged_names import LoggedCertificate

Kind = Literal["duplicate", "rate"]
What = Literal["opened", "updated", "closed"]

MAX_EVIDENCE: Final = 16
_MAX_SECONDS: Final = 366 * 86_400
_MAX_COUNTED: Final = 10_000
_MAX_WATCHED: Final = 1_000_000


class OutOfOrder(ValueError):
    """The entry is not the next one of the log."""

    def __init__(self, index: int, position: int) -> None:
        super().__init__(f"the entry {index}, where {position} is the next one")


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on it is too many. Windows are in seconds."""

    duplicates: int = 3
    duplicate_window: int = 300
    rate_limit: int = 100
    rate_window: int = 3600
    max_names: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.duplicates <= _MAX_COUNTED or not 1 <= self.rate_limit <= _MAX_COUNTED:
            raise ValueError(f"what is counted goes from 1 to {_MAX_COUNTED}")
        if not 1 <= self.duplicate_window <= _MAX_SECONDS or not 1 <= self.rate_window <= _MAX_SECONDS:
            raise ValueError(f"a window goes from 1 to {_MAX_SECONDS} seconds")
        if not 1 <= self.max_names <= _MAX_WATCHED:
            raise ValueError(f"the names that are remembered go from 1 to {_MAX_WATCHED}")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One episode. `opened_at` and `last_at`: milliseconds since the Unix epoch, by the log; `count`: certificates.

    `subject`: the name, or the digest of a set of names. `indices` and `timestamps` are the evidence: the entries that
    opened it, the newest MAX_EVIDENCE of them, and those that followed as long as there is room.
    """

    kind: Kind
    subject: str
    opened_at: int
    last_at: int
    count: int
    indices: tuple[int, ...]
    timestamps: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or not self.subject or not 0 <= self.opened_at <= self.last_at:
            raise ValueError("an anomaly has a known kind, a subject, and times in order")
        if not 0 < len(self.indices) == len(self.timestamps) <= min(MAX_EVIDENCE, self.count):
            raise ValueError("the evidence is at least one entry, and no more than were counted or are kept")

    def followed_by(self, index: int, timestamp: int) -> Anomaly:
        """The same episode with one certificate more."""
        indices, timestamps = self.indices, self.timestamps
        if len(indices) < MAX_EVIDENCE:
            indices, timestamps = (*indices, index), (*timestamps, timestamp)
        return Anomaly(self.kind, self.subject, self.opened_at, timestamp, self.count + 1, indices, timestamps)


@dataclass(frozen=True, slots=True)
class Change:
    """What an entry did to a finding."""

    what: What
    anomaly: Anomaly


def subject_of(names: Iterable[str]) -> str:
    """What stands for a set of names: SHA-256, hexadecimal, of them in order, each on its line."""
    return sha256("\n".join(sorted(names)).encode("ascii")).hexdigest()


class Counted:
    """The newest certificates of a name: all of their times, and the indices of the last MAX_EVIDENCE."""

    __slots__ = ("anomaly", "indices", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.indices = array("q")
        self.anomaly: Anomaly | None = None

    @property
    def last_at(self) -> int:
        """When the newest one was logged."""
        return self.times[-1]

    def add(self, name: str, index: int, now: int, limits: Limits) -> Change | None:
        """Count one more."""
        times, indices = self.times, self.indices
        times.append(now)
        indices.append(index)
        gone = max(bisect_right(times, now - 1000 * limits.rate_window), len(times) - limits.rate_limit - 1)
        if gone > 0:
            del times[:gone]
        surplus = len(indices) - min(len(times), MAX_EVIDENCE)
        if surplus > 0:
            del indices[:surplus]
        if self.anomaly is not None:
            self.anomaly = self.anomaly.followed_by(index, now)
            return Change("updated", self.anomaly)
        if len(times) <= limits.rate_limit:
            return None
        shown = tuple(times[-len(indices) :])
        self.anomaly = Anomaly("rate", name, now, now, len(times), tuple(indices), shown)
        return Change("opened", self.anomaly)


@dataclass(frozen=True, slots=True)
class Issued:
    """One of the certificates for a set of names. `not_after`: seconds; `contents`: SHA-256 of what is signed."""

    at: int
    index: int
    not_after: int
    contents: bytes


class Run:
    """The newest certificates for one set of names that were valid when they were logged."""

    __slots__ = ("anomaly", "issued", "last_at")

    def __init__(self) -> None:
        self.issued: list[Issued] = []
        self.last_at = 0
        self.anomaly: Anomaly | None = None

    def has(self, contents: bytes) -> bool:
        """Whether it is one of them already."""
        return any(each.contents == contents for each in self.issued)

    def add(self, subject: str, new: Issued, limits: Limits) -> Change | None:
        """Count one more."""
        now, after = new.at, new.at - 1000 * limits.duplicate_window
        others = [each for each in self.issued if each.at > after and each.not_after >= now // 1000]
        kept = others if new.not_after < now // 1000 else [*others, new]
        self.issued = kept[-limits.duplicates - 1 :]
        self.last_at = now
        if self.anomaly is not None:
            self.anomaly = self.anomaly.followed_by(new.index, now)
            return Change("updated", self.anomaly)
        if len(others) <= limits.duplicates:
            return None
        shown = [*others, new][-MAX_EVIDENCE:]
        indices, times = tuple(each.index for each in shown), tuple(each.at for each in shown)
        self.anomaly = Anomaly("duplicate", subject, now, now, len(others) + 1, indices, times)
        return Change("opened", self.anomaly)


class Watched(Protocol):
    """What is remembered of a name, or of a set of them."""

    anomaly: Anomaly | None

    @property
    def last_at(self) -> int:
        """When the newest certificate was logged."""


W = TypeVar("W", bound=Watched)


class State:
    """All that is remembered at a position of the log: `position` is the index of the next entry.

    `clock`: the newest timestamp, milliseconds. `not_watched`: names and sets of names that there was no place for;
    `seen_again`: entries that told of a certificate once more; `unread`: entries that could not be read.
    `names` and `sets` have whoever was longest without a certificate first.
    """

    __slots__ = ("clock", "names", "not_watched", "position", "seen_again", "sets", "unread")

    def __init__(self, position: int = 0) -> None:
        if position < 0:
            raise ValueError("a position is not negative")
        self.position = position
        self.clock = 0
        self.not_watched = 0
        self.seen_again = 0
        self.unread = 0
        self.names: OrderedDict[str, Counted] = OrderedDict()
        self.sets: OrderedDict[str, Run] = OrderedDict()

    @property
    def open(self) -> tuple[Anomaly, ...]:
        """The findings that are open."""
        watched: tuple[Watched, ...] = (*self.sets.values(), *self.names.values())
        return tuple(each.anomaly for each in watched if each.anomaly is not None)

    def skip(self, index: int) -> None:
        """Go on behind an entry that cannot be read. Raises OutOfOrder."""
        self._check(index)
        self.position += 1
        self.unread += 1

    def passed(self, timestamp: int, limits: Limits) -> tuple[Change, ...]:
        """What closes when nothing comes: `timestamp` is that of a head whose entries were all observed."""
        self.clock = max(self.clock, timestamp)
        return tuple(self._closed(limits))

    def observe(self, certificate: LoggedCertificate, limits: Limits) -> tuple[Change, ...]:
        """Count the certificate of the next entry; the state changes in its place. Raises OutOfOrder."""
        self._check(certificate.index)
        changes = list(self.passed(certificate.timestamp, limits))
        self.position += 1
        if certificate.names:
            changes += self._counted(certificate, limits)
        return tuple(changes)

    def _check(self, index: int) -> None:
        if index != self.position:
            raise OutOfOrder(index, self.position)

    def _counted(self, certificate: LoggedCertificate, limits: Limits) -> Iterator[Change]:
        subject = subject_of(certificate.names)
        run = self.sets.get(subject)
        if run is not None and run.has(certificate.contents):
            self.seen_again += 1
            return
        if run is None and len(self.sets) < limits.max_names:
            run = self.sets[subject] = Run()
        if run is None:
            self.not_watched += 1
        else:
            self.sets.move_to_end(subject)
            new = Issued(self.clock, certificate.index, certificate.not_after, certificate.contents)
            if change := run.add(subject, new, limits):
                yield change
        yield from self._counted_names(certificate, limits)

    def _counted_names(self, certificate: LoggedCertificate, limits: Limits) -> Iterator[Change]:
        names, now = self.names, self.clock
        for name in (*certificate.names, *certificate.registered_under):
            counted = names.get(name)
            if counted is not None:
                names.move_to_end(name)
            elif len(names) < limits.max_names:
                counted = names[name] = Counted()
            else:
                self.not_watched += 1
                continue
            if change := counted.add(name, certificate.index, now, limits):
                yield change

    def _closed(self, limits: Limits) -> Iterator[Change]:
        yield from _emptied(self.sets, self.clock - 1000 * limits.duplicate_window)
        yield from _emptied(self.names, self.clock - 1000 * limits.rate_window)


def _emptied(watched: OrderedDict[str, W], until: int) -> Iterator[Change]:
    """Forget all that had no certificate after `until`; open findings among them close."""
    while watched and next(iter(watched.values())).last_at <= until:
        _, gone = watched.popitem(last=False)
        if gone.anomaly is not None:
            yield Change("closed", gone.anomaly)
