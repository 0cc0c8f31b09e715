"""Cursors of lists, and which index a query walks."""

import base64

import pytest

from services.ca import listing
from services.ca.listing import MAX_INTEGER, Position, next_cursor, query
from services.ca.messages import MAX_CURSOR_CHARACTERS, ListCertificates, Refusal

NOW = 1_800_000_000


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def test_a_cursor_brings_back_the_position_that_it_was_made_of() -> None:
    cursor = next_cursor("newest", Position(NOW, 17))
    asked = query(ListCertificates(cursor=cursor), NOW)
    assert (asked.parameters["key"], asked.parameters["row"]) == (NOW, 17)


def test_the_longest_cursor_fits_its_limit() -> None:
    assert len(next_cursor("newest", Position(MAX_INTEGER, MAX_INTEGER))) <= MAX_CURSOR_CHARACTERS


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
    ],
)
def test_only_a_question_about_expiry_alone_is_answered_by_expiry(request_: ListCertificates, order: str) -> None:
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
    ],
)
def test_the_last_valid_second_is_valid_and_not_before_itself(
    request_: ListCertificates, first: int, last: int
) -> None:
    parameters = listing.query(request_, NOW).parameters
    assert (parameters["earliest"], parameters["latest"]) == (first, last)
