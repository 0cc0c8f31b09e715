"""Pages over the certificates that were issued: which index is walked, where the last page ended. Pure.

Rules:
- A page starts where the last one ended (keyset), never at a count of rows: it takes as long in the last of a million
  rows as in the first.
- One filter picks the index: the name, else the expiry, else revocation, else the profile, else none. The others are
  looked at row by row, for at most MAX_EXAMINED rows: a page may therefore be short, or empty, and still have a
  successor.
- A cursor is opaque to clients, holds two numbers and nothing secret, and fits only a query in the same order.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, Literal

from services.ca.messages import ListCertificates, Refusal

MAX_EXAMINED: Final = 2_000
MAX_INTEGER: Final = 2**63 - 1  # of SQLite, section 2 of its "Datatypes"

Order = Literal["newest", "expiry", "revoked"]
Parameters = dict[str, str | int]

_CURSOR: Final = re.compile(r"(newest|expiry|revoked):([0-9]{1,19}):([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page. `not_after` counts only in the order of expiry."""

    not_after: int
    row: int


@dataclass(frozen=True, slots=True)
class Query:
    """One page, as SQL over the storage's tables: `walked` rows come in order, those that `matches` are answered.

    `row` is what the rows are ordered by, beside the expiry.
    """

    order: Order
    walked: str
    matches: str
    parameters: Parameters
    row: str = "c.id"


def query(request: ListCertificates, now: int) -> Query:
    """How to find the page. `now` is in seconds since the Unix epoch. Raises Refusal("malformed") for a bad cursor."""
    earliest, latest = _expiry(request, now)
    by_expiry = request.name is None and (earliest, latest) != (0, MAX_INTEGER)
    by_revocation = request.status == "revoked" and request.name is None and not by_expiry
    order: Order = "expiry" if by_expiry else "revoked" if by_revocation else "newest"
    start = _start(request.cursor, order)
    parameters: Parameters = {
        "earliest": earliest,
        "begin": max(earliest, start.not_after),
        "latest": latest,
        "not_after": start.not_after,
        "row": start.row,
        "examined": MAX_EXAMINED,
    }
    if request.profile is not None:
        parameters["profile"] = request.profile
    if request.name is not None:
        parameters["name"] = request.name.lower()
    matches = "c.not_after BETWEEN :earliest AND :latest"
    if request.profile is not None:
        matches += " AND c.profile = :profile"
    if by_revocation:
        return Query(order, _BY_REVOCATION, matches, parameters, row="r.id")
    if request.status is not None:
        matches += _REVOKED if request.status == "revoked" else _NOT_REVOKED
    return Query(order, _walked(request, by_expiry=by_expiry), matches, parameters)


def next_cursor(order: Order, position: Position) -> str:
    """What the client sends back to get the page after `position`."""
    return urlsafe_b64encode(f"{order}:{position.not_after}:{position.row}".encode("ascii")).decode("ascii")


_REVOKED: Final = " AND EXISTS (SELECT 1 FROM revocations WHERE serial = c.serial)"
_NOT_REVOKED: Final = " AND NOT EXISTS (SELECT 1 FROM revocations WHERE serial = c.serial)"
_BY_REVOCATION: Final = (
    "revocations AS r CROSS JOIN certificates AS c ON c.serial = r.serial WHERE r.id < :row "
    "ORDER BY r.id DESC LIMIT :examined"
)


def _walked(request: ListCertificates, *, by_expiry: bool) -> str:
    if request.name is not None:
        return (
            "names AS n CROSS JOIN certificates AS c ON c.id = n.id WHERE n.name = :name AND n.id < :row "
            "ORDER BY n.id DESC LIMIT :examined"
        )
    if by_expiry:
        return (
            "certificates AS c INDEXED BY issued_by_expiry WHERE c.state = 'issued' "
            "AND c.not_after BETWEEN :begin AND :latest AND (c.not_after, c.id) > (:not_after, :row) "
            "ORDER BY c.not_after, c.id LIMIT :examined"
        )
    if request.profile is not None:
        return (
            "certificates AS c INDEXED BY issued_by_profile WHERE c.state = 'issued' AND c.profile = :profile "
            "AND c.id < :row ORDER BY c.id DESC LIMIT :examined"
        )
    return "certificates AS c WHERE c.id < :row ORDER BY c.id DESC LIMIT :examined"


def _expiry(request: ListCertificates, now: int) -> tuple[int, int]:
    """The first and last `not_after` asked for. The last valid second itself is still valid."""
    earliest, latest = 0, MAX_INTEGER
    if request.status == "valid":
        earliest = now
    elif request.status == "expired":
        latest = now - 1
    if request.expires_before is not None:
        latest = min(latest, max(request.expires_before - 1, -1))
    return earliest, latest


def _start(cursor: str | None, order: Order) -> Position:
    if cursor is None:
        return Position(-1, 0 if order == "expiry" else MAX_INTEGER)
    try:
        text = urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except ValueError:
        raise _refused() from None
    parts = _CURSOR.fullmatch(text)
    if parts is None or urlsafe_b64encode(text.encode("ascii")).decode("ascii") != cursor:
        raise _refused()
    if parts[1] != order:
        raise Refusal("malformed", "cursor", "this cursor belongs to a list with other filters: begin without a cursor")
    position = Position(int(parts[2]), int(parts[3]))
    if max(position.not_after, position.row) > MAX_INTEGER:
        raise _refused()
    return position


def _refused() -> Refusal:
    return Refusal("malformed", "cursor", "this is not a cursor that a list gave: begin without one")
