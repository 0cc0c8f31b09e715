"""Connections: what strangers can hold, and what they cannot do to others."""

from dataclasses import replace

import pytest

from services.stoq.connections import (
    NANOSECONDS,
    Accept,
    Connections,
    Decision,
    Drop,
    Limits,
    Retry,
    address_key,
)

NOW = 1_000 * NANOSECONDS
LIMITS = Limits(
    max_connections=6,
    max_connections_of_address=3,
    max_handshakes=4,
    max_handshakes_of_address=2,
    handshake_ns=10 * NANOSECONDS,
    rate=1_000_000.0,
    burst=1_000,
    always_retry=False,
    retry_from=1.0,
    retry_until=0.25,
)


def name(n: int) -> bytes:
    return n.to_bytes(8, "big")


def arrive(
    connections: Connections, n: int, address: str | None = None, now_ns: int = NOW, *, validated: bool = True
) -> Decision:
    return connections.arrive(name(n), address or f"192.0.2.{n}", now_ns, validated=validated)


def established(limits: Limits, *addresses: str) -> Connections:
    connections = Connections(limits)
    for n, address in enumerate(addresses):
        assert arrive(connections, n, address) == Accept()
        assert connections.establish(name(n), NOW)
    return connections


def test_handshakes_in_progress_are_limited_in_all() -> None:
    connections = Connections(LIMITS)
    assert [arrive(connections, n) for n in range(4)] == [Accept()] * 4
    assert arrive(connections, 4) == Drop("handshakes")
    connections.establish(name(0), NOW)
    assert arrive(connections, 4) == Accept()


def test_connections_are_limited_in_all() -> None:
    connections = established(LIMITS, *(f"192.0.2.{n}" for n in range(6)))
    assert arrive(connections, 6) == Drop("connections")
    assert arrive(connections, 6, validated=False) == Drop("connections")
    connections.close(name(3))
    assert arrive(connections, 6) == Accept()


def test_an_address_has_no_more_handshakes_than_set_and_others_are_served() -> None:
    connections = Connections(LIMITS)
    assert [arrive(connections, n, "192.0.2.1") for n in range(2)] == [Accept()] * 2
    assert arrive(connections, 2, "192.0.2.1") == Drop("handshakes-of-address")
    assert arrive(connections, 3, "192.0.2.2") == Accept()


def test_an_address_has_no_more_connections_than_set_and_others_are_served() -> None:
    connections = established(LIMITS, *["192.0.2.1"] * 3)
    assert arrive(connections, 3, "192.0.2.1") == Drop("connections-of-address")
    assert arrive(connections, 4, "192.0.2.2") == Accept()
    connections.close(name(0))
    assert arrive(connections, 3, "192.0.2.1") == Accept()


def test_who_may_have_forged_an_address_is_asked_for_it_before_it_is_dropped_for_it() -> None:
    connections = Connections(LIMITS)
    for n in range(2):
        arrive(connections, n, "192.0.2.1")
    assert arrive(connections, 2, "192.0.2.1", validated=False) == Retry("address")


def test_a_host_does_not_multiply_by_its_addresses() -> None:
    connections = Connections(LIMITS)
    arrive(connections, 0, "2001:db8::1")
    arrive(connections, 1, "2001:db8::ffff:2")
    assert arrive(connections, 2, "2001:db8::3%eth0") == Drop("handshakes-of-address")
    assert arrive(connections, 3, "2001:db8:0:1::1") == Accept()


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_address_is_an_ipv4_address_or_a_64th_prefix(address: str, key: str) -> None:
    assert address_key(address) == key


def test_if_set_so_no_connection_begins_without_a_validated_address() -> None:
    connections = Connections(replace(LIMITS, always_retry=True))
    assert arrive(connections, 0, validated=False) == Retry("always")
    assert len(connections) == 0
    assert arrive(connections, 0) == Accept()


def test_many_handshakes_ask_for_addresses_until_they_are_few_again() -> None:
    connections = Connections(replace(LIMITS, retry_from=0.75, retry_until=0.25))
    for n in range(2):
        assert arrive(connections, n, validated=False) == Accept()
    assert arrive(connections, 2) == Accept()
    assert arrive(connections, 3, validated=False) == Retry("many-handshakes")
    assert arrive(connections, 3) == Accept()
    for n in range(2):
        connections.establish(name(n), NOW)
    assert connections.handshakes == 2
    assert arrive(connections, 4, validated=False) == Retry("many-handshakes")
    connections.close(name(2))
    assert arrive(connections, 4, validated=False) == Accept()


def test_new_connections_have_a_burst_and_then_a_rate() -> None:
    connections = Connections(replace(LIMITS, max_handshakes=6, rate=2.0, burst=3))
    assert [arrive(connections, n) for n in range(4)] == [Accept(), Accept(), Accept(), Drop("rate")]
    assert arrive(connections, 4, now_ns=NOW + NANOSECONDS // 2 - 1) == Drop("rate")
    assert arrive(connections, 4, now_ns=NOW + NANOSECONDS // 2) == Accept()


def test_who_is_asked_for_an_address_or_dropped_takes_nothing_of_the_rate() -> None:
    connections = Connections(replace(LIMITS, always_retry=True, rate=1.0, burst=2))
    arrive(connections, 0)
    for _ in range(10):
        assert arrive(connections, 1, validated=False) == Retry("always")
        assert arrive(connections, 0) == Drop("known")
    assert arrive(connections, 1) == Accept()
    for _ in range(10):
        assert arrive(connections, 2) == Drop("rate")
    assert arrive(connections, 2, now_ns=NOW + NANOSECONDS) == Accept()


def test_a_handshake_that_takes_too_long_is_overdue_and_makes_room() -> None:
    connections = Connections(LIMITS)
    for n in range(4):
        arrive(connections, n, now_ns=NOW + n)
    connections.establish(name(1), NOW + 5)
    due = NOW + LIMITS.handshake_ns
    assert connections.next_overdue_ns == due
    assert connections.overdue(due - 1) == []
    assert connections.overdue(due + 2) == [name(0), name(2)]
    assert connections.overdue(due + 2) == []
    assert (len(connections), connections.handshakes, connections.next_overdue_ns) == (2, 1, due + 3)


def test_a_handshake_that_is_complete_is_never_overdue() -> None:
    connections = established(LIMITS, "192.0.2.1")
    assert connections.next_overdue_ns is None
    assert connections.overdue(NOW * 1_000) == []
    assert len(connections) == 1


@pytest.mark.parametrize("late_ns", [0, 1])
def test_a_handshake_that_ends_too_late_does_not_count_as_complete(late_ns: int) -> None:
    connections = Connections(LIMITS)
    arrive(connections, 0)
    assert not connections.establish(name(0), NOW + LIMITS.handshake_ns + late_ns)
    assert connections.overdue(NOW + LIMITS.handshake_ns) == [name(0)]


def test_a_connection_is_established_once_and_only_if_it_arrived() -> None:
    connections = established(LIMITS, "192.0.2.1")
    assert not connections.establish(name(0), NOW)
    assert not connections.establish(name(1), NOW)


def test_an_id_that_is_taken_is_not_taken_again() -> None:
    connections = established(LIMITS, "192.0.2.1")
    assert arrive(connections, 0) == Drop("known")
    assert len(connections) == 1


def test_closing_what_is_gone_changes_nothing() -> None:
    connections = established(LIMITS, "192.0.2.1", "192.0.2.1")
    connections.close(name(0))
    connections.close(name(0))
    connections.close(name(9))
    assert len(connections) == 1


def test_nothing_remains_of_who_has_left() -> None:
    connections = Connections(LIMITS)
    for n in range(200):
        arrive(connections, n, f"10.0.0.{n}")
        if n % 2:
            connections.establish(name(n), NOW)
        connections.close(name(n))
    kept = (connections._addresses, connections._handshakes, connections._of, connections._handshakes_of)
    assert [len(each) for each in kept] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"max_handshakes": 7},
        {"max_handshakes_of_address": 5},
        {"max_handshakes_of_address": 0},
        {"max_connections_of_address": 7},
        {"max_connections_of_address": 0},
        {"handshake_ns": 0},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"burst": 0},
        {"retry_from": 0.25},
        {"retry_from": 1.1},
        {"retry_until": -0.1},
    ],
)
def test_limits_that_contradict_each_other_do_not_construct(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"limited|handshake|retry_until"):
        replace(LIMITS, **change)  # type: ignore[arg-type]
