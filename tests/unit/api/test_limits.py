"""Token buckets: what they promise to those who are limited and to the memory of the server."""

import pytest

from services.api.limits import NANOSECONDS, TokenBuckets, address_key, retry_after_seconds

NOW = 1_000 * NANOSECONDS


def taken_at_once(buckets: TokenBuckets, key: str, now_ns: int) -> int:
    count = 0
    while buckets.take(key, now_ns) == 0:
        count += 1
    return count


def test_a_fresh_key_may_take_its_whole_burst_at_once() -> None:
    assert taken_at_once(TokenBuckets(5.0, 20, 10), "a", NOW) == 20


def test_after_the_burst_tokens_come_back_at_the_rate() -> None:
    buckets = TokenBuckets(5.0, 20, 10)
    taken_at_once(buckets, "a", NOW)
    assert taken_at_once(buckets, "a", NOW + NANOSECONDS) == 5
    assert taken_at_once(buckets, "a", NOW + 2 * NANOSECONDS) == 5


def test_a_rest_never_earns_more_than_the_burst() -> None:
    buckets = TokenBuckets(5.0, 20, 10)
    taken_at_once(buckets, "a", NOW)
    assert taken_at_once(buckets, "a", NOW + 3600 * NANOSECONDS) == 20


def test_waiting_as_long_as_told_is_exactly_enough() -> None:
    buckets = TokenBuckets(3.0, 2, 10)
    taken_at_once(buckets, "a", NOW)
    wait_ns = buckets.take("a", NOW)
    assert buckets.take("a", NOW + wait_ns - 1) == 1
    assert buckets.take("a", NOW + wait_ns) == 0


def test_refused_requests_do_not_lengthen_the_wait() -> None:
    buckets = TokenBuckets(1.0, 1, 10)
    buckets.take("a", NOW)
    assert {buckets.take("a", NOW) for _ in range(100)} == {NANOSECONDS}


def test_keys_do_not_pay_for_each_other() -> None:
    buckets = TokenBuckets(1.0, 1, 10)
    assert (buckets.take("a", NOW), buckets.take("b", NOW)) == (0, 0)


def test_no_more_keys_are_kept_than_allowed_and_the_least_recently_used_goes() -> None:
    buckets = TokenBuckets(1.0, 1, 3)
    for key in "abc":
        buckets.take(key, NOW)
    buckets.take("a", NOW)  # refused, but in use
    buckets.take("d", NOW)
    assert len(buckets) == 3
    assert buckets.take("a", NOW) > 0
    assert buckets.take("b", NOW) == 0


def test_a_clock_that_stands_still_or_a_huge_one_does_not_break_the_arithmetic() -> None:
    buckets = TokenBuckets(1_000_000.0, 1_000_000, 2)
    assert all(buckets.take("a", 2**62) == 0 for _ in range(10))


@pytest.mark.parametrize(("rate", "burst", "keys"), [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_limit_that_allows_nothing_cannot_be_made(rate: float, burst: int, keys: int) -> None:
    with pytest.raises(ValueError, match="rate limit"):
        TokenBuckets(rate, burst, keys)


@pytest.mark.parametrize(("wait_ns", "seconds"), [(1, 1), (NANOSECONDS, 1), (NANOSECONDS + 1, 2), (0, 1)])
def test_retry_after_is_rounded_up_to_whole_seconds(wait_ns: int, seconds: int) -> None:
    assert retry_after_seconds(wait_ns) == seconds


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("not an address", "not an address"),
    ],
)
def test_an_ipv6_host_is_its_64_bit_network(address: str, key: str) -> None:
    assert address_key(address) == key
