"""State-changing requests: done once, answered as often as they are asked, bounded for each peer."""

from dataclasses import replace

import pytest
from msgspec import structs

from services.stoq.frames import Request
from services.stoq.idempotency import (
    Again,
    Conflict,
    Full,
    IdempotencyTable,
    InProgress,
    Limits,
    New,
    NotBegun,
    digest,
)

NOW = 1_000_000
LIMITS = Limits(keep_ms=1_000, max_per_peer=3, max_octets=100, max_peers=2)
ONE, TWO, THREE, FOUR = (bytes((n,)) * 16 for n in range(4))
REQUEST = Request("ca", "issue", ONE, 5_000, "", b"body")
DIGEST = digest(REQUEST)


def done(table: IdempotencyTable, request_id: bytes, reply: bytes = b"done", now_ms: int = NOW) -> None:
    assert table.begin("a", request_id, DIGEST, now_ms) == New()
    table.settle("a", request_id, reply, now_ms)


def test_a_request_is_done_once_and_answered_again() -> None:
    table = IdempotencyTable(LIMITS)
    assert table.begin("a", ONE, DIGEST, NOW) == New()
    assert table.begin("a", ONE, DIGEST, NOW) == InProgress()
    table.settle("a", ONE, b"done", NOW)
    assert table.begin("a", ONE, DIGEST, NOW) == Again(b"done")
    assert table.begin("a", ONE, DIGEST, NOW + 999) == Again(b"done")


def test_another_request_with_its_id_is_a_conflict_before_and_after_it_is_done() -> None:
    table = IdempotencyTable(LIMITS)
    table.begin("a", ONE, DIGEST, NOW)
    assert table.begin("a", ONE, bytes(32), NOW) == Conflict()
    table.settle("a", ONE, b"done", NOW)
    assert table.begin("a", ONE, bytes(32), NOW) == Conflict()


def test_the_ids_of_peers_are_apart() -> None:
    table = IdempotencyTable(LIMITS)
    done(table, ONE)
    assert table.begin("b", ONE, bytes(32), NOW) == New()


def test_a_reply_is_kept_as_long_as_set_after_it_was_given() -> None:
    table = IdempotencyTable(LIMITS)
    table.begin("a", ONE, DIGEST, NOW)
    table.settle("a", ONE, b"done", NOW + 500)
    assert table.begin("a", ONE, DIGEST, NOW + 1_499) == Again(b"done")
    assert table.begin("a", ONE, DIGEST, NOW + 1_500) == New()


def test_what_is_in_progress_is_never_forgotten() -> None:
    table = IdempotencyTable(LIMITS)
    table.begin("a", ONE, DIGEST, NOW)
    assert table.begin("a", ONE, DIGEST, NOW + 10**9) == InProgress()


def test_what_was_given_up_may_begin_again_and_leaves_nothing() -> None:
    table = IdempotencyTable(LIMITS)
    table.begin("a", ONE, DIGEST, NOW)
    table.give_up("a", ONE)
    assert len(table) == 0
    assert table.begin("a", ONE, bytes(32), NOW) == New()


def test_a_peer_that_is_full_begins_nothing_new_but_is_answered() -> None:
    table = IdempotencyTable(LIMITS)
    done(table, ONE)
    done(table, TWO)
    table.begin("a", THREE, DIGEST, NOW)
    assert table.begin("a", FOUR, DIGEST, NOW) == Full()
    assert table.begin("a", ONE, DIGEST, NOW) == Again(b"done")
    assert table.begin("a", THREE, DIGEST, NOW) == InProgress()
    assert table.begin("b", FOUR, DIGEST, NOW) == New()
    assert table.begin("a", FOUR, DIGEST, NOW + 1_000) == New()


def test_a_peer_whose_replies_are_large_begins_nothing_new_until_they_are_forgotten() -> None:
    table = IdempotencyTable(LIMITS)
    done(table, ONE, bytes(99))
    done(table, TWO, bytes(1), NOW + 1)
    assert table.begin("a", THREE, DIGEST, NOW + 999) == Full()
    assert table.begin("a", THREE, DIGEST, NOW + 1_000) == New()


def test_no_more_peers_than_set_are_in_the_table_and_those_who_left_make_room() -> None:
    table = IdempotencyTable(LIMITS)
    done(table, ONE)
    table.begin("b", ONE, DIGEST, NOW)
    assert table.begin("c", ONE, DIGEST, NOW) == Full()
    assert table.begin("c", ONE, DIGEST, NOW + 1_000) == New()


def test_a_clock_that_is_set_back_forgets_nothing_early() -> None:
    table = IdempotencyTable(LIMITS)
    done(table, ONE)
    done(table, TWO, now_ms=NOW - 5_000)
    assert table.begin("a", TWO, DIGEST, NOW + 999) == Again(b"done")
    assert table.begin("a", ONE, DIGEST, NOW + 999) == Again(b"done")


@pytest.mark.parametrize("state", ["unknown", "settled", "given up"])
def test_only_what_is_in_progress_is_settled(state: str) -> None:
    table = IdempotencyTable(LIMITS)
    if state == "settled":
        done(table, ONE)
    elif state == "given up":
        table.begin("a", ONE, DIGEST, NOW)
        table.give_up("a", ONE)
    with pytest.raises(NotBegun):
        table.settle("a", ONE, b"", NOW)
    with pytest.raises(NotBegun):
        table.give_up("a", ONE)


def test_the_digest_is_of_what_is_done_and_not_of_how_it_is_asked() -> None:
    assert digest(structs.replace(REQUEST, deadline_ms=1, trace=f"00-{'a' * 32}-{'b' * 16}-01")) == DIGEST
    changes = ({"service": "cai", "method": "ssue"}, {"method": "renew"}, {"body": b"bodi"}, {"service": "ra"})
    assert len({DIGEST, *(digest(structs.replace(REQUEST, **change)) for change in changes)}) == 5


@pytest.mark.parametrize("name", ["keep_ms", "max_per_peer", "max_octets", "max_peers"])
def test_limits_of_nothing_do_not_construct(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        replace(LIMITS, **{name: 0})
