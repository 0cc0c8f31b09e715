"""How long signed things may be kept, and who has them already (RFC 5019, section 6; RFC 9110, section 13)."""

import pytest

from services.api.freshness import caching_headers, http_date, is_known

THIS_UPDATE, NEXT_UPDATE = 784_111_777, 784_111_777 + 3600


def test_a_date_is_written_as_http_writes_it() -> None:
    assert http_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110, section 5.6.7


def test_what_is_signed_for_a_span_may_be_kept_until_its_end() -> None:
    assert caching_headers("n", THIS_UPDATE, NEXT_UPDATE, THIS_UPDATE + 600.5) == {
        "ETag": '"n"',
        "Cache-Control": "public, max-age=2999, no-transform, must-revalidate",
        "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "Expires": "Sun, 06 Nov 1994 09:49:37 GMT",
    }


@pytest.mark.parametrize(
    ("this_update", "next_update", "now"),
    [
        (THIS_UPDATE, NEXT_UPDATE, NEXT_UPDATE),
        (THIS_UPDATE, NEXT_UPDATE, NEXT_UPDATE - 0.5),
        (THIS_UPDATE, NEXT_UPDATE, NEXT_UPDATE + 10_000),
        (0, 0, 0.0),
        (0, NEXT_UPDATE, 0.0),
    ],
)
def test_what_has_no_time_left_is_not_kept(this_update: int, next_update: int, now: float) -> None:
    assert caching_headers("n", this_update, next_update, now) == {"ETag": '"n"'}


def test_a_span_beyond_what_http_can_tell_ends_with_the_year_9999() -> None:
    headers = caching_headers("n", THIS_UPDATE, 10**15, THIS_UPDATE)
    assert headers["Expires"] == "Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize("sent", ['"a"', 'W/"a"', '"b", "a"', '"b",W/"a" , "c"', "*", " * "])
def test_a_client_that_names_the_version_has_it(sent: str) -> None:
    assert is_known(sent, "a")


@pytest.mark.parametrize("sent", ["", "a", '"b"', '"aa"', "'a'", '"a', '"A"', "w/a", ", ,"])
def test_a_client_that_does_not_has_not(sent: str) -> None:
    assert not is_known(sent, "a")


def test_a_list_longer_than_any_clients_is_not_read_to_its_end() -> None:
    assert not is_known(", ".join(f'"{n}"' for n in range(10_000)), "9999")
