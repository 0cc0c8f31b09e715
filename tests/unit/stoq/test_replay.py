"""The replay window: nothing twice, nothing out of time, nobody's id forgotten for another's."""

import pytest

from services.stoq.messages import FromTheFuture, Replayed, TooOld, WindowFull
from services.stoq.replay import ReplayWindow

NOW = 1_000_000
SPAN = 1_600  # so that a slot is 100


def number(n: int) -> bytes:
    return n.to_bytes(16, "big")


def test_the_same_id_of_another_sender_is_another_message() -> None:
    window = ReplayWindow(SPAN, 10, 10)
    window.admit("a", number(1), NOW, NOW)
    window.admit("b", number(1), NOW, NOW)
    with pytest.raises(Replayed):
        window.admit("a", number(1), NOW, NOW)


def test_an_id_stays_refused_at_whichever_time_it_claims_to_be() -> None:
    window = ReplayWindow(SPAN, 10, 10)
    window.admit("a", number(1), NOW, NOW)
    for time_ms in (NOW - SPAN, NOW + 1, NOW + SPAN):
        with pytest.raises(Replayed):
            window.admit("a", number(1), time_ms, NOW)


def test_a_message_of_the_future_is_remembered_until_it_is_too_old_itself() -> None:
    window = ReplayWindow(SPAN, 10, 10)
    window.admit("a", number(1), NOW + SPAN, NOW)
    with pytest.raises(Replayed):
        window.admit("a", number(1), NOW + SPAN, NOW + 2 * SPAN)
    with pytest.raises(TooOld):
        window.admit("a", number(1), NOW + SPAN, NOW + 2 * SPAN + 1)


def test_what_is_too_old_is_forgotten_a_slot_later_at_most() -> None:
    window = ReplayWindow(SPAN, 1, 1)
    window.admit("a", number(1), NOW, NOW)
    with pytest.raises(WindowFull):
        window.admit("a", number(2), NOW + SPAN, NOW + SPAN)
    window.admit("b", number(2), NOW + SPAN + 100, NOW + SPAN + 100)
    assert len(window) == 1


def test_who_fills_the_window_is_refused_and_forgets_nothing_and_others_are_served() -> None:
    window = ReplayWindow(SPAN, 3, 10)
    for n in range(3):
        window.admit("a", number(n), NOW, NOW)
    with pytest.raises(WindowFull):
        window.admit("a", number(3), NOW, NOW)
    for n in range(3):
        with pytest.raises(Replayed):
            window.admit("a", number(n), NOW, NOW)
    window.admit("b", number(0), NOW, NOW)


def test_no_more_senders_than_set_are_in_the_window() -> None:
    window = ReplayWindow(SPAN, 3, 1)
    window.admit("a", number(0), NOW, NOW)
    with pytest.raises(WindowFull):
        window.admit("b", number(0), NOW, NOW)
    assert len(window) == 1


def test_a_clock_that_is_set_back_brings_nothing_back() -> None:
    window = ReplayWindow(SPAN, 10, 10)
    window.admit("a", number(1), NOW, NOW)
    window.check_time(NOW + 3 * SPAN, NOW + 3 * SPAN)
    assert len(window) == 0
    with pytest.raises(TooOld):
        window.admit("a", number(1), NOW, NOW)


def test_an_empty_window_after_a_restart_takes_nothing_from_before() -> None:
    window = ReplayWindow(SPAN, 10, 10, since_ms=NOW + SPAN)
    with pytest.raises(TooOld):
        window.admit("a", number(1), NOW + SPAN - 1, NOW)
    window.admit("a", number(1), NOW + SPAN, NOW)


def test_what_is_refused_for_its_time_is_not_remembered() -> None:
    window = ReplayWindow(SPAN, 10, 10)
    with pytest.raises(TooOld):
        window.admit("a", number(1), NOW - SPAN - 1, NOW)
    with pytest.raises(FromTheFuture):
        window.admit("a", number(1), NOW + SPAN + 1, NOW)
    assert len(window) == 0
    window.admit("a", number(1), NOW, NOW)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_window_without_room_does_not_construct(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="room"):
        ReplayWindow(*sizes)
