"""Pages over the certificates that were issued: which index is walked, where the last page ended. Pure.

Rules:
- A page starts where the last one ended (keyset), never at a count of rows: it takes as long in the last of a million
  rows as in the first.
- One filter picks the index: the first one given of name, search, requester, expiry, revocation, time of issue, issuer
  and profile. The others are looked at row by row, for at most MAX_EXAMINED rows: a page may therefore be short, or
  empty, and still have a successor.
- A search walks names that are written backwards, so that a domain and all below it are one stretch of the index. A
  certificate with several names in it is answered at the first of them only.
- A cursor is opaque to clients, holds a row, what the rows are ordered by and nothing secret, and fits only a query in
  the same order.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from services.ca.messages import ListCertificates, Refusal

MAX_EXAMINED: Final = 2_000
MAX_INTEGER: Final = 2**63 - 1  # of SQLite, section 2 of its "Datatypes"

Order = Literal["newest", "expiry", "issue", "revocation", "name"]
Key = int | str
Parameters = dict[str, str | int]

_ORDERS: Final[tuple[Order, ...]] = ("newest", "expiry", "issue", "revocation", "name")
# A DNS name has up to 253 characters (RFC 1035, section 2.3.4), backwards and with its end marked one more.
_CURSOR: Final = re.compile(rf"({'|'.join(_ORDERS)}):([a-z0-9_.*-]{{1,254}}):([0-9]{{1,19}})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_*-]+(\.[a-z0-9_*-]+)*", re.ASCII)
# What is none of these is an IP address, an e-mail address or a URI. The migration that fills the index says the same.
_DNS_NAME: Final = re.compile(r"(?=.*[^0-9.])[a-z0-9_.*-]{1,253}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: the row, and what rows are ordered by before that (0 in an order by rows alone)."""

    key: Key
    row: int


@dataclass(frozen=True, slots=True)
class Query:
    """One page, as SQL over the storage's tables: `walked` rows come in order, those that `matches` are answered.

    `key` and `row` say what makes the position of a row. `domain` is what is searched for, backwards.
    """

    order: Order
    walked: str
    matches: str
    parameters: Parameters
    key: str
    row: str
    domain: str | None = None

    def answers(self, key: Key, names: Iterable[str]) -> bool:
        """Whether a certificate with these names, found at the row with this key, is in what is searched for.

        A search comes by a certificate once for each of its names: it counts at the first.
        """
        if self.domain is None:
            return True
        found = [name for name in backwards(names) if name.startswith(self.domain)]
        return key == min(found) if self.order == "name" else bool(found)


@dataclass(frozen=True, slots=True)
class _Walk:
    order: Order
    walked: str
    key: str = "0"
    row: str = "c.id"


_BY_NAME: Final = _Walk(
    "newest",
    "names AS n CROSS JOIN certificates AS c ON c.id = n.id WHERE n.name = :name AND n.id < :row "
    "ORDER BY n.id DESC LIMIT :examined",
)
_BY_SEARCH: Final = _Walk(
    "name",
    "domains AS d CROSS JOIN certificates AS c ON c.id = d.id WHERE d.domain >= :first AND d.domain < :end "
    "AND (d.domain, d.id) > (:key, :row) ORDER BY d.domain, d.id LIMIT :examined",
    key="d.domain",
)
_BY_EXPIRY: Final = _Walk(
    "expiry",
    "certificates AS c INDEXED BY issued_by_expiry WHERE c.state = 'issued' AND c.not_after BETWEEN :first AND :latest "
    "AND (c.not_after, c.id) > (:key, :row) ORDER BY c.not_after, c.id LIMIT :examined",
    key="c.not_after",
)
_BY_REVOCATION: Final = _Walk(
    "revocation",
    "revocations AS r CROSS JOIN certificates AS c ON c.serial = r.serial WHERE r.id < :row "
    "ORDER BY r.id DESC LIMIT :examined",
    row="r.id",
)
_BY_ISSUE: Final = _Walk(
    "issue",
    "certificates AS c INDEXED BY issued_by_time WHERE c.state = 'issued' "
    "AND c.issued_at BETWEEN :issued_from AND :end AND (c.issued_at, c.id) < (:key, :row) "
    "ORDER BY c.issued_at DESC, c.id DESC LIMIT :examined",
    key="c.issued_at",
)
_BY_ROW: Final = _Walk("newest", "certificates AS c WHERE c.id < :row ORDER BY c.id DESC LIMIT :examined")


_REVOKED: Final = "EXISTS (SELECT 1 FROM revocations WHERE serial = c.serial)"


def _by(column: str) -> _Walk:
    return _Walk(
        "newest",
        f"certificates AS c INDEXED BY issued_by_{column} WHERE c.state = 'issued' AND c.{column} = :{column} "
        "AND c.id < :row ORDER BY c.id DESC LIMIT :examined",
    )


def query(request: ListCertificates, now: int) -> Query:
    """How to find the page. `now` is in seconds since the Unix epoch. Raises Refusal("malformed")."""
    domain = None if request.search is None else _searched(request.search)
    earliest, latest = _expiry(request, now)
    issued_from, issued_to = _within(request.issued_after, request.issued_before)
    walk = _walk(request, (earliest, latest), (issued_from, issued_to))
    start = _start(request.cursor, walk.order)
    parameters: Parameters = {
        "earliest": earliest,
        "latest": latest,
        "issued_from": issued_from,
        "issued_to": issued_to,
        "key": start.key,
        "row": start.row,
        "examined": MAX_EXAMINED,
    }
    # Where the walk begins: with the position alone the index would be entered at the beginning of the stretch.
    if domain is not None and walk.order == "name":
        parameters["first"] = max(domain, str(start.key))
        parameters["end"] = f"{domain[:-1]}/"  # the character after the dot
    elif walk.order == "expiry":
        parameters["first"] = max(earliest, int(start.key))
    elif walk.order == "issue":
        parameters["end"] = min(issued_to, int(start.key))
    if request.name is not None:
        parameters["name"] = request.name.lower()
    for column in ("requester", "issuer", "profile"):
        if (value := getattr(request, column)) is not None:
            parameters[column] = value
    return Query(walk.order, walk.walked, _matches(request), parameters, walk.key, walk.row, domain)


def next_cursor(order: Order, position: Position) -> str:
    """What the client sends back to get the page after `position`."""
    return urlsafe_b64encode(f"{order}:{position.key}:{position.row}".encode("ascii")).decode("ascii")


def backwards(names: Iterable[str]) -> list[str]:
    """The DNS names among the names of a certificate as a search finds them: backwards, each ended by a dot.

    So a domain is the beginning of every name below it, and of nothing else.
    """
    lowered = (name.lower() for name in names)
    return [f"{name[::-1]}." for name in lowered if _DNS_NAME.fullmatch(name)]


def _searched(text: str) -> str:
    domain = text.lower().removesuffix(".").removeprefix(".")
    if not _DOMAIN.fullmatch(domain):
        detail = "search for a DNS name: letters, digits, hyphens and dots; `name` finds other names, each as a whole"
        raise Refusal("malformed", "search", detail)
    return f"{domain[::-1]}."


def _walk(request: ListCertificates, expiry: tuple[int, int], issue: tuple[int, int]) -> _Walk:
    everything = (0, MAX_INTEGER)
    walks = (
        (request.name is not None, _BY_NAME),
        (request.search is not None, _BY_SEARCH),
        (request.requester is not None, _by("requester")),
        (expiry != everything, _BY_EXPIRY),
        (request.status == "revoked", _BY_REVOCATION),
        (issue != everything, _BY_ISSUE),
        (request.issuer is not None, _by("issuer")),
        (request.profile is not None, _by("profile")),
    )
    return next((walk for given, walk in walks if given), _BY_ROW)


def _matches(request: ListCertificates) -> str:
    """What is looked at row by row. Also what the walk has seen to: a filter must hold whichever index was walked."""
    conditions = ["c.not_after BETWEEN :earliest AND :latest", "c.issued_at BETWEEN :issued_from AND :issued_to"]
    conditions += [
        f"c.{column} = :{column}"
        for column in ("requester", "issuer", "profile")
        if getattr(request, column) is not None
    ]
    if request.status is not None:
        conditions.append(_REVOKED if request.status == "revoked" else f"NOT {_REVOKED}")
    return " AND ".join(conditions)


def _expiry(request: ListCertificates, now: int) -> tuple[int, int]:
    """The first and last `not_after` asked for. The last valid second itself is still valid."""
    earliest, latest = _within(request.expires_after, request.expires_before)
    if request.status == "valid":
        earliest = max(earliest, now)
    elif request.status == "expired":
        latest = min(latest, now - 1)
    return earliest, latest


def _within(after: int | None, before: int | None) -> tuple[int, int]:
    """The first and last second from `after` on and before `before`; the last is before the first if there is none."""
    first = 0 if after is None else min(max(after, 0), MAX_INTEGER)
    last = MAX_INTEGER if before is None else min(max(before - 1, -1), MAX_INTEGER)
    return first, last


def _start(cursor: str | None, order: Order) -> Position:
    if cursor is None:
        return _BEGINNINGS[order]
    try:
        text = urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except ValueError:
        raise _refused() from None
    parts = _CURSOR.fullmatch(text)
    if parts is None or urlsafe_b64encode(text.encode("ascii")).decode("ascii") != cursor:
        raise _refused()
    by_name = parts[1] == "name"
    if not by_name and not _NUMBER.fullmatch(parts[2]):
        raise _refused()
    if parts[1] != order:
        raise Refusal("malformed", "cursor", "this cursor belongs to a list with other filters: begin without a cursor")
    position = Position(parts[2] if by_name else int(parts[2]), int(parts[3]))
    if max(position.row, 0 if isinstance(position.key, str) else position.key) > MAX_INTEGER:
        raise _refused()
    return position


_BEGINNINGS: Final[dict[Order, Position]] = {
    "newest": Position(0, MAX_INTEGER),
    "expiry": Position(-1, 0),
    "issue": Position(MAX_INTEGER, MAX_INTEGER),
    "revocation": Position(0, MAX_INTEGER),
    "name": Position("", 0),
}


def _refused() -> Refusal:
    return Refusal("malformed", "cursor", "this is not a cursor that a list gave: begin without one")
