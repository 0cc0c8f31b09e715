"""Revocations on record against revocation lists and OCSP answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ca.reconciliation.contradictions import Note
from services.ca.reconciliation.status_reconciliation import ListOnRecord, Recorded, of_answer, of_file, of_list
from services.ca.status import crl, ocsp
from services.ca.status.crl import Entry, Scope
from services.ca.status.ocsp import Status
from tests.unit.audit.journal import answer, issuer, issuer_name, root
from tests.unit.ca.authorities import NOW

URL = f"http://trust.localhost:8080/crl/{issuer_name()}/3.crl"
SERIAL = "ab" * 16


def recorded(number: int = 1, *, revoked_at: int = NOW, not_after: int = NOW + 86_400) -> Recorded:
    serial = f"{number:02x}" * 16
    return Recorded(number, serial, revoked_at, "keyCompromise", not_after)


def listing(*entries: Entry, number: int = 7, covered: int = 9, this_update: int = NOW) -> ListOnRecord:
    der = crl.sign(issuer(), Scope((URL,)), entries, number, this_update, this_update + 3600)
    return ListOnRecord(issuer_name(), 3, number, covered, der)


def entry(one: Recorded) -> Entry:
    return Entry(int(one.serial, 16), one.revoked_at, one.reason)


def kinds(stored: ListOnRecord, *on_record: Recorded, now: int = NOW) -> list[str]:
    return sorted(one.kind for one in of_list(stored, issuer().certificate, on_record, now))


def test_a_list_that_says_what_is_on_record_contradicts_nothing() -> None:
    on_record = [recorded(number) for number in (1, 2, 3)]
    assert kinds(listing(*map(entry, on_record)), *on_record) == []


def test_a_revocation_that_a_later_list_does_not_say_is_untold() -> None:
    assert kinds(listing(covered=1), recorded(1)) == ["revocation_untold"]


def test_a_revocation_after_the_list_was_signed_is_pending() -> None:
    (found,) = of_list(listing(covered=0), issuer().certificate, [recorded(1)], NOW)
    assert isinstance(found, Note)
    assert found.kind == "revocation_pending"


def test_a_revocation_of_what_expired_before_the_list_need_not_be_in_it() -> None:
    old = recorded(1, revoked_at=NOW - 100, not_after=NOW - 1)
    assert kinds(listing(), old) == []
    assert kinds(listing(), replace(old, not_after=NOW)) == ["revocation_untold"]


def test_a_list_that_says_more_than_the_record_means_the_record_was_put_back() -> None:
    assert kinds(listing(entry(recorded(1))), recorded(2, not_after=NOW - 1, revoked_at=1)) == ["revocation_unrecorded"]


@pytest.mark.parametrize("changed", [{"revoked_at": NOW - 1}, {"reason": "superseded"}])
def test_another_time_or_reason_in_the_list_differs(changed: dict[str, object]) -> None:
    one = recorded(1)
    assert kinds(listing(entry(one)), replace(one, **changed)) == ["revocation_differs"]  # type: ignore[arg-type] # by name


def test_a_list_that_is_overdue_is_a_note() -> None:
    assert kinds(listing(), now=NOW + 3601) == ["crl_overdue"]


def test_a_list_that_cannot_be_read_or_is_by_somebody_else_is_invalid() -> None:
    assert kinds(replace(listing(), der=b"no list")) == ["crl_invalid"]
    by_another = of_list(listing(), root(), [], NOW)
    assert [one.kind for one in by_another] == ["crl_invalid"]
    assert [one.kind for one in of_list(listing(), None, [], NOW)] == ["crl_invalid"]


def test_a_list_of_another_number_than_on_record_is_invalid() -> None:
    assert kinds(replace(listing(), number=8)) == ["crl_invalid"]


def test_a_published_file_may_be_as_new_as_the_record_or_older() -> None:
    stored, older = listing(number=7), listing(number=6)
    assert list(of_file(stored, "file a", stored.der, issuer().certificate)) == []
    assert list(of_file(stored, "file a", older.der, issuer().certificate)) == []


def test_a_published_file_that_is_newer_than_the_record_is_told() -> None:
    newer = listing(number=8)
    for stored in (listing(number=7), None):
        (found,) = of_file(stored, "file a", newer.der, issuer().certificate)
        assert (found.kind, found.subject) == ("crl_invalid", "file a")


def test_two_lists_with_one_number_are_told() -> None:
    stored, twin = listing(), listing(entry(recorded(1)))
    (found,) = of_file(stored, "file a", twin.der, issuer().certificate)
    assert "two lists" in found.text
    (found,) = of_file(stored, "file a", b"no list", issuer().certificate)
    assert "published file" in found.text


def test_an_answer_that_says_what_is_on_record_contradicts_nothing() -> None:
    asked = ocsp.parse(ocsp.request_for(ocsp.hashes_of(issuer().certificate)[0], int(SERIAL, 16)))
    for status in (Status("good"), Status("revoked", NOW), Status("unknown")):
        assert list(of_answer(answer(SERIAL, status), asked, issuer().certificate, status, NOW)) == []


def test_an_answer_that_says_something_else_or_does_not_verify_differs() -> None:
    asked = ocsp.parse(ocsp.request_for(ocsp.hashes_of(issuer().certificate)[0], int(SERIAL, 16)))
    revoked, good = Status("revoked", NOW), Status("good")
    for der, now in ((answer(SERIAL, good), NOW), (answer(SERIAL, revoked), NOW + 3601), (b"no answer", NOW)):
        (found,) = of_answer(der, asked, issuer().certificate, revoked, now)
        assert (found.kind, found.subject) == ("ocsp_differs", f"serial {SERIAL}")
