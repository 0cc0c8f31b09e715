"""Evidence proves what it says, or nothing: whatever octet is changed, it is refused."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from services.audit.verification import passed, verify
from services.ca.evidence import evidence
from tests.unit.audit.journal import Journal, anchors
from tests.unit.ca.authorities import NOW


@cache
def octets() -> bytes:
    """A whole file, its ending newline included."""
    journal = Journal()
    for number in range(5):
        journal.issue(f"host{number}.example.test")
    return evidence.encode(journal.evidence(journal.rows[2])) + b"\n"


def test_the_file_itself_is_accepted() -> None:
    assert passed(verify(octets(), anchors(), NOW + 2))


@given(st.data())
def test_no_octet_can_be_changed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(octets()) - 1))
    changed = bytearray(octets())
    changed[at] ^= data.draw(st.integers(1, 255))
    assert not passed(verify(bytes(changed), anchors(), NOW + 2)), at


def test_no_single_bit_can_be_changed_anywhere() -> None:
    whole = octets()
    accepted = []
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        if passed(verify(bytes(changed), anchors(), NOW + 2)):
            accepted.append(at)
    assert accepted == []


@given(st.data())
def test_nothing_can_be_cut_off_or_put_in(data: st.DataObject) -> None:
    whole = octets()
    at = data.draw(st.integers(0, len(whole) - 2))
    cut = whole[:at] + whole[at + data.draw(st.integers(1, 40)) :]
    longer = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at:]
    for changed in (cut, longer):
        if changed not in {whole, whole[:-1]}:
            assert not passed(verify(changed, anchors(), NOW + 2))
