"""How much memory callers without a token may occupy: free for all, bounded for one address, bounded for all."""

import pytest

from services.api.holdings import FREE_OCTETS, SHARES, Holding, Holdings

SHARE = 1_000_000
MOST = SHARES * SHARE


def test_what_is_small_is_not_counted() -> None:
    holdings = Holdings(MOST)
    assert all(Holding(holdings, "a").reaches(FREE_OCTETS) for _ in range(10_000))
    assert holdings.total == 0


def test_an_address_has_its_share_over_all_its_connections_and_no_more() -> None:
    holdings = Holdings(MOST)
    first, second = Holding(holdings, "a"), Holding(holdings, "a")
    assert first.reaches(SHARE - 100_000)
    assert second.reaches(100_000)
    assert not Holding(holdings, "a").reaches(FREE_OCTETS + 1)
    assert Holding(holdings, "b").reaches(FREE_OCTETS + 1)
    second.release()
    assert Holding(holdings, "a").reaches(100_000)


def test_all_addresses_together_have_no_more_than_there_is() -> None:
    holdings = Holdings(MOST)
    held = [Holding(holdings, str(number)) for number in range(SHARES)]
    assert all(each.reaches(SHARE) for each in held)
    assert not Holding(holdings, "another").reaches(FREE_OCTETS + 1)
    held[0].release()
    assert Holding(holdings, "another").reaches(FREE_OCTETS + 1)


def test_one_thing_larger_than_a_share_can_be_had_when_nothing_else_is_held() -> None:
    holdings = Holdings(MOST)
    large = Holding(holdings, "a")
    assert large.reaches(3 * SHARE)
    assert not Holding(holdings, "a").reaches(FREE_OCTETS + 1)
    large.release()
    assert Holding(holdings, "a").reaches(FREE_OCTETS + 1)
    assert not Holding(holdings, "b").reaches(MOST)


def test_what_grows_is_counted_once() -> None:
    holdings = Holdings(MOST)
    body = Holding(holdings, "a")
    assert all(body.reaches(octets) for octets in (100_000, 200_000, 300_000, 300_000, 50))
    assert holdings.total == 300_000
    body.release()
    body.release()
    assert holdings.total == 0


def test_a_refusal_counts_nothing() -> None:
    holdings = Holdings(MOST)
    held, other = Holding(holdings, "a"), Holding(holdings, "a")
    assert held.reaches(SHARE)
    assert not other.reaches(SHARE)
    other.release()
    assert holdings.total == SHARE


def test_a_closed_connection_holds_nothing_whatever_its_last_request_still_does() -> None:
    holdings = Holdings(MOST)
    closed = Holding(holdings, "a")
    assert closed.reaches(SHARE)
    closed.end()
    assert closed.reaches(SHARE)
    assert holdings.total == 0


def test_a_bound_that_cannot_be_shared_does_not_construct() -> None:
    with pytest.raises(ValueError, match="too little"):
        Holdings(SHARES - 1)
