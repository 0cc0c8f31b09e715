"""Evidence comes from anybody: whatever it is, checks come back, and never an exception."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.audit.verification import passed, verify
from services.ca.evidence import evidence
from services.ca.evidence.evidence import EvidenceError
from services.ca.evidence.messages import Evidence
from services.ca.reconciliation.certified import Unreadable, difference, load, of_contents, serial_of_tbs
from tests.unit.audit.journal import Journal, anchors, issuer
from tests.unit.ca.authorities import NOW


@cache
def honest() -> Evidence:
    """What the examples are made from."""
    journal = Journal()
    for number in range(3):
        journal.issue(f"host{number}.example.test")
    return journal.evidence(journal.rows[1])


@given(st.binary(max_size=2000))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(EvidenceError):
        evidence.parse(octets)
    assert not passed(verify(octets, anchors(), NOW))


def _replacement(name: str) -> st.SearchStrategy[Any]:
    return {
        "chain": st.lists(st.sampled_from(honest().chain) | st.text(max_size=300), min_size=2, max_size=4),
        "ocsp": st.binary(min_size=1, max_size=200) | st.integers(0, len(honest().ocsp) - 1).map(_cut),
        "issued_at": st.integers(0, 2**63 - 1),
        "composed_at": st.integers(0, 2**63 - 1),
        "scts": st.lists(st.binary(max_size=200), min_size=1, max_size=3),
        "leaf_index": st.integers(0, 2**40 - 1),
        "audit_path": st.lists(st.binary(min_size=32, max_size=32), max_size=40),
        "tree_size": st.integers(1, 2**40 - 1),
        "timestamp": st.integers(0, 2**63 - 1),
        "signature": st.binary(min_size=1, max_size=200),
        "checkpoint": st.text(min_size=1, max_size=300),
    }[name]


def _cut(length: int) -> bytes:
    return honest().ocsp[: length + 1]


@given(st.data())
def test_any_part_may_be_nonsense_and_only_checks_fail(data: st.DataObject) -> None:
    whole = honest()
    assert whole.log is not None
    name = data.draw(st.sampled_from(["chain", "ocsp", "issued_at", "composed_at"]))
    in_log = data.draw(
        st.sampled_from(["scts", "leaf_index", "audit_path", "tree_size", "timestamp", "signature", "checkpoint"])
    )
    log = msgspec.structs.replace(whole.log, **{in_log: data.draw(_replacement(in_log))})
    changed = msgspec.structs.replace(whole, log=log, **{name: data.draw(_replacement(name))})
    at = data.draw(st.integers(0, 2**40))
    verify(evidence.encode(evidence.sealed(changed, issuer().private_key)), anchors(), at)


@given(st.binary(max_size=300))
def test_serial_numbers_are_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(Unreadable):
        assert serial_of_tbs(octets) >= 0


@given(st.integers(0, 2000), st.binary(max_size=4))
def test_contents_without_a_signature_are_compared_or_refused(place: int, octets: bytes) -> None:
    row = Journal().issue()
    assert row.certificate is not None
    contents = load(row.certificate).tbs_certificate_bytes
    assert not difference(of_contents(contents), row)
    place %= len(contents)
    with contextlib.suppress(Unreadable):
        difference(of_contents(contents[:place] + octets + contents[place + len(octets) :]), row)
