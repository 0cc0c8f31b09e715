"""Operations and their slots."""

from collections.abc import Callable

import pytest

from services.consensus.operation import Operation, change_registry, issue, revoke, rotate
from tests.unit.consensus.validators import NETWORK, OTHER_NETWORK

KEY_HASH = bytes(range(32))


def test_one_serial_number_of_one_issuer_is_one_slot_whatever_is_to_be_signed() -> None:
    one, other = issue(NETWORK, KEY_HASH, 5, b"one"), issue(NETWORK, KEY_HASH, 5, b"other")
    assert one.slot_digest == other.slot_digest
    assert one.digest != other.digest


def test_what_differs_in_anything_else_is_another_slot() -> None:
    operations = [
        issue(NETWORK, KEY_HASH, 5, b"one"),
        issue(NETWORK, KEY_HASH, 6, b"one"),
        issue(NETWORK, bytes(32), 5, b"one"),
        issue(OTHER_NETWORK, KEY_HASH, 5, b"one"),
        revoke(NETWORK, KEY_HASH, 5, "superseded", 1),
        rotate(NETWORK, b"before", b"after"),
        rotate(NETWORK, b"another before", b"after"),
        change_registry(NETWORK, 1, bytes(32)),
        change_registry(NETWORK, 2, bytes(32)),
    ]
    assert len({each.slot_digest for each in operations}) == len(operations)
    assert len({each.digest for each in operations}) == len(operations)


def test_a_revocation_is_bound_to_its_reason_and_time() -> None:
    said = [("superseded", 1), ("superseded", 2), ("keyCompromise", 1)]
    operations = [revoke(NETWORK, KEY_HASH, 5, reason, at) for reason, at in said]
    assert len({each.slot_digest for each in operations}) == 1
    assert len({each.digest for each in operations}) == 3


def test_one_state_of_the_hierarchy_is_followed_by_one_other() -> None:
    one, other = rotate(NETWORK, b"before", b"after"), rotate(NETWORK, b"before", b"something else")
    assert one.slot_digest == other.slot_digest
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "make",
    [
        lambda: Operation(NETWORK[:-1], "issue", b"a", bytes(32)),
        lambda: Operation(NETWORK, "issue", b"a", bytes(31)),
        lambda: Operation(NETWORK, "issue", b"", bytes(32)),
        lambda: Operation(NETWORK, "issue", bytes(65), bytes(32)),
        lambda: Operation(NETWORK, "renew", b"a", bytes(32)),  # type: ignore[arg-type] # what is to be refused
        lambda: issue(NETWORK, KEY_HASH, 0, b""),
        lambda: issue(NETWORK, KEY_HASH, 2**160, b""),
        lambda: issue(NETWORK, b"", 1, b""),
        lambda: change_registry(NETWORK, 0, bytes(32)),
        lambda: change_registry(NETWORK, 2**63, bytes(32)),
    ],
)
def test_what_is_no_operation_cannot_be_made(make: Callable[[], Operation]) -> None:
    with pytest.raises(ValueError, match=r"is named|are named|there is no|follows another"):
        make()
