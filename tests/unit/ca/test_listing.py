"""Cursors of lists, and which index a query walks."""

import base64

import pytest

from services.ca.inventory import listing
from services.ca.inventory.listing import MAX_INTEGER, Order, Position, backwards, next_cursor, query
from services.ca.messages import MAX_CURSOR_CHARACTERS, ListCertificates, Refusal

NOW = 1_800_000_000


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_a_cursor_brings_back_the_position_that_it_was_made_of() -> None:
    cursor = next_cursor("newest", Position(NOW, 17))
    asked = query(ListCertificates(cursor=cursor), NOW)
    assert (asked.parameters["key"], asked.parameters["row"]) == (NOW, 17)


def test_a_cursor_of_a_search_brings_back_its_name() -> None:
    cursor = next_cursor("name", Position("elpmaxe.*.", 17))
    asked = query(ListCertificates(cursor=cursor, search="example"), NOW)
    assert (asked.parameters["key"], asked.parameters["row"]) == ("elpmaxe.*.", 17)
    assert (asked.parameters["first"], asked.parameters["end"]) == ("elpmaxe.*.", "elpmaxe/")


@pytest.mark.parametrize("order", ["newest", "expiry", "issue", "revocation"])
def test_the_longest_cursor_fits_its_limit(order: Order) -> None:
    assert len(next_cursor(order, Position(MAX_INTEGER, MAX_INTEGER))) <= MAX_CURSOR_CHARACTERS


def test_the_longest_name_fits_into_a_cursor() -> None:
    (longest,) = backwards(["a" * 253])
    cursor = next_cursor("name", Position(longest, MAX_INTEGER))
    assert len(cursor) <= MAX_CURSOR_CHARACTERS
    assert query(ListCertificates(cursor=cursor, search="a" * 253), NOW).parameters["key"] == longest
    assert backwards(["a" * 254]) == []


@pytest.mark.parametrize(
    "search", ["", ".", "..", "a..b", "a b", "x@example", "https://example", "é.example", "%", "a" * 254]
)
def test_what_is_no_domain_is_not_searched_for(search: str) -> None:
    with pytest.raises(Refusal) as caught:
        query(ListCertificates(search=search), NOW)
    assert (caught.value.kind, caught.value.field) == ("malformed", "search")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "====",
        "é",
        encoded(""),
        encoded("newest"),
        encoded("newest:1"),
        encoded("newest:1:x"),
        encoded("newest:-1:1"),
        encoded("newest:1:1 "),
        encoded("oldest:1:1"),
        encoded(f"newest:1:{MAX_INTEGER + 1}"),
        encoded("newest:1:" + "9" * 100),
        encoded("newest:1:1") + "AAAA",
        encoded("newest:1:1") + "\n",
        encoded("newest:1:11").rstrip("="),
        encoded("newest:١:1"),
        encoded("newest:elpmaxe.:1"),
        encoded("name::1"),
        encoded("name:ELPMAXE.:1"),
        encoded("name:elp:maxe.:1"),
    ],
)
def test_what_is_no_cursor_is_malformed(cursor: str) -> None:
    with pytest.raises(Refusal) as caught:
        query(ListCertificates(cursor=cursor), NOW)
    assert (caught.value.kind, caught.value.field) == ("malformed", "cursor")


def test_a_cursor_of_the_other_order_is_refused() -> None:
    newest = next_cursor("newest", Position(NOW, 1))
    with pytest.raises(Refusal, match="other filters"):
        query(ListCertificates(cursor=newest, status="valid"), NOW)
    expiry = next_cursor("expiry", Position(NOW, 1))
    with pytest.raises(Refusal, match="other filters"):
        query(ListCertificates(cursor=expiry), NOW)


@pytest.mark.parametrize(
    ("request_", "order"),
    [
        (ListCertificates(), "newest"),
        (ListCertificates(profile="tls-server"), "newest"),
        (ListCertificates(name="host.example", status="valid"), "newest"),
        (ListCertificates(status="expired"), "expiry"),
        (ListCertificates(expires_before=NOW, profile="tls-server"), "expiry"),
        (ListCertificates(expires_after=NOW, issuer="01"), "expiry"),
        (ListCertificates(status="valid", requester="bob"), "newest"),
        (ListCertificates(search="example", status="valid"), "name"),
        (ListCertificates(search="example", name="host.example"), "newest"),
        (ListCertificates(status="revoked"), "revocation"),
        (ListCertificates(status="revoked", expires_before=NOW), "expiry"),
        (ListCertificates(issued_after=NOW, issuer="01"), "issue"),
        (ListCertificates(issuer="01", profile="tls-server"), "newest"),
    ],
)
def test_the_first_filter_that_narrows_most_gives_the_order(request_: ListCertificates, order: str) -> None:
    assert query(request_, NOW).order == order


@pytest.mark.parametrize(
    ("request_", "first", "last"),
    [
        (ListCertificates(), 0, MAX_INTEGER),
        (ListCertificates(status="valid"), NOW, MAX_INTEGER),
        (ListCertificates(status="expired"), 0, NOW - 1),
        (ListCertificates(expires_before=NOW + 10), 0, NOW + 9),
        (ListCertificates(status="valid", expires_before=NOW + 10), NOW, NOW + 9),
        (ListCertificates(status="expired", expires_before=NOW + 10), 0, NOW - 1),
        (ListCertificates(expires_before=-(2**70)), 0, -1),
        (ListCertificates(expires_before=2**70), 0, MAX_INTEGER),
        (ListCertificates(expires_after=NOW + 5), NOW + 5, MAX_INTEGER),
        (ListCertificates(expires_after=NOW + 5, expires_before=NOW + 9), NOW + 5, NOW + 8),
        (ListCertificates(expires_after=NOW - 5, status="valid"), NOW, MAX_INTEGER),
        (ListCertificates(expires_after=2**70), MAX_INTEGER, MAX_INTEGER),
        (ListCertificates(expires_after=-1), 0, MAX_INTEGER),
    ],
)
def test_the_last_valid_second_is_valid_and_not_before_itself(
    request_: ListCertificates, first: int, last: int
) -> None:
    parameters = listing.query(request_, NOW).parameters
    assert (parameters["earliest"], parameters["latest"]) == (first, last)
