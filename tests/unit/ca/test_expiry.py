"""The radar: schedules, states and their order."""

import pytest

from services.ca.hierarchy.hierarchy import validity_of
from services.ca.inventory.expiry import OWN_KINDS, Item, overdue_kinds, radar
from services.ca.inventory.messages import ExpiryState
from tests.unit.ca.authorities import hierarchy_of

DAY = 86_400
MADE = 1_800_000_000
LEAF = Item.scheduled("leaf", "host.example", MADE, MADE + 90 * DAY, "0a")
RETIRED = Item(kind="intermediate", name="CN=old", not_after=MADE + DAY)


@pytest.mark.parametrize(
    ("day", "later", "state"),
    [
        (0, 0, "ok"),
        (60, -1, "ok"),
        (60, 0, "due"),
        (75, -1, "due"),
        (75, 0, "overdue"),
        (90, 0, "overdue"),
        (90, 1, "expired"),
    ],
)
def test_renewal_is_due_after_two_thirds_and_overdue_when_half_of_the_rest_is_gone(
    day: int, later: int, state: str
) -> None:
    assert LEAF.state(MADE + day * DAY + later) == state


def test_what_nothing_takes_the_place_of_is_well_until_it_ends_and_never_late() -> None:
    assert [RETIRED.state(MADE + seconds) for seconds in (0, DAY, DAY + 1)] == ["ok", "ok", "expired"]
    assert not RETIRED.late(MADE + DAY + 1)
    assert overdue_kinds([RETIRED], MADE + 9 * DAY) == frozenset()


def test_a_kind_is_overdue_when_one_of_its_items_is_late_or_has_ended() -> None:
    items = [
        Item.scheduled("crl", "01/0", MADE, MADE + DAY),
        Item.scheduled("crl", "01/1", MADE, MADE + 90 * DAY),
        Item.scheduled("root", "CN=root", MADE, MADE + 90 * DAY),
        Item.scheduled("api", "localhost", MADE, MADE + 12 * DAY),
    ]
    assert overdue_kinds(items, MADE) == frozenset()
    assert overdue_kinds(items, MADE + 5 * DAY) == {"crl"}
    assert overdue_kinds(items, MADE + 10 * DAY) == {"crl", "api"}


def test_the_most_urgent_comes_first_then_what_ends_first() -> None:
    names: dict[ExpiryState, int] = {"ok": 1, "due": 70, "overdue": 80, "expired": 100}
    items = [
        Item.scheduled("leaf", f"{state} {later}", MADE - day * DAY + later, MADE - day * DAY + later + 90 * DAY)
        for state, day in names.items()
        for later in (1, 0)
    ]
    told = radar(items, MADE)
    assert [item.name for item in told] == [
        f"{state} {later}" for state in ("expired", "overdue", "due", "ok") for later in (0, 1)
    ]
    assert [item.state for item in told[::2]] == ["expired", "overdue", "due", "ok"]


def test_a_schedule_is_whole_and_in_order() -> None:
    with pytest.raises(ValueError, match="half a schedule"):
        Item(kind="crl", name="01/0", not_after=9, renew_at=3)
    with pytest.raises(ValueError, match="overdue before it is due"):
        Item(kind="crl", name="01/0", not_after=9, renew_at=5, overdue_at=4)


def test_the_certificates_of_the_authority_are_items() -> None:
    item = Item.of_certificate("root", hierarchy_of().root)
    validity = validity_of(hierarchy_of().root)
    assert item.name == hierarchy_of().root.subject.rfc4514_string()
    assert item.not_after == validity.not_after
    assert item.serial is not None
    assert int(item.serial, 16) == hierarchy_of().root.serial_number
    assert item.renew_at == validity.not_after - (validity.not_after - validity.not_before) // 3


def test_leaves_are_no_alarm_of_the_authority() -> None:
    assert "leaf" not in OWN_KINDS
