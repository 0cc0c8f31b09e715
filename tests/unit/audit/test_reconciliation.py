"""The record against the log: what an honest authority leaves contradicts nothing, and each lie is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from config.schema import Ca
from services import der as tlv
from services.ca.installation import new_hierarchy
from services.ca.reconciliation.certified import Unreadable, der, is_signed_by, load, serial_of_tbs, timestamps
from services.ca.reconciliation.contradictions import FINDING_KINDS, Finding, Note, Observation
from services.ca.reconciliation.reconciliation import Comparison, LoggedEntry, RecordRow
from services.ct.signing import LogSigner
from services.rfc6962.structures import PrecertEntry, X509Entry
from tests.unit.audit.journal import QUIET, Journal, authorities, certify_authority, issuer, log_signer, root
from tests.unit.ca.authorities import NOW

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2, section 2.4.2
COMPARISON = Comparison(authorities(), log_signer().verifier)


def compared(journal: Journal, *, thorough: bool = True, by: Comparison = COMPARISON) -> list[Observation]:
    found = list(by.range_of(journal.entries, journal.rows, journal.row_of, thorough=thorough))
    for row in journal.rows:
        if row.leaf_index is None:
            found += by.unlogged(row, thorough=thorough)
    return found


def kinds(found: list[Observation]) -> list[str]:
    return sorted(one.kind for one in found)


@pytest.fixture
def journal() -> Journal:
    made = Journal()
    for number in range(4):
        made.issue(f"host{number}.example.test")
    return made


@pytest.mark.parametrize("thorough", [True, False])
def test_an_honest_authority_leaves_nothing_to_tell(journal: Journal, thorough: bool) -> None:
    assert compared(journal, thorough=thorough) == []


def test_a_certificate_whose_entry_the_log_lost_is_unlogged(journal: Journal) -> None:
    lost = journal.entries.pop()
    (found,) = compared(journal)
    assert isinstance(found, Finding)
    assert (found.kind, found.subject) == ("unlogged", f"serial {journal.rows[-1].serial}")
    assert str(lost.index) in found.text
    assert set(found.digests) == {"certificate", "sct"}


def test_other_contents_in_the_log_than_in_the_certificate_differ(journal: Journal) -> None:
    entry, other = journal.entries[1], journal.entries[2]
    journal.entries[1] = replace(entry, entry=other.entry, pre_certificate=other.pre_certificate)
    assert kinds(compared(journal)) == ["entry_differs", "sct_invalid"]


def test_an_entry_under_the_key_of_a_stranger_differs(journal: Journal) -> None:
    entry = journal.entries[1].entry
    assert isinstance(entry, PrecertEntry)
    journal.entries[1] = replace(journal.entries[1], entry=PrecertEntry(b"k" * 32, entry.tbs_certificate))
    assert kinds(compared(journal)) == ["entry_differs", "sct_invalid"]


def test_another_precertificate_in_the_log_than_on_record_differs(journal: Journal) -> None:
    journal.entries[0] = replace(journal.entries[0], pre_certificate=journal.entries[1].pre_certificate)
    assert kinds(compared(journal)) == ["entry_differs"]


def test_a_timestamp_that_the_certificate_does_not_embed_is_invalid(journal: Journal) -> None:
    journal.rows[0] = replace(journal.rows[0], sct=journal.rows[1].sct)
    assert kinds(compared(journal)) == ["sct_invalid"]


def test_a_timestamp_by_another_key_is_invalid() -> None:
    journal = Journal()
    journal.issue()
    stranger = LogSigner(ec.generate_private_key(ec.SECP256R1())).verifier
    assert kinds(compared(journal, by=Comparison(authorities(), stranger))) == ["sct_invalid"]


def test_a_timestamp_whose_signature_is_wrong_is_found_by_the_thorough() -> None:
    journal = Journal()
    row = journal.issue()
    assert row.certificate is not None
    assert row.sct is not None
    broken = row.sct[:-1] + bytes((row.sct[-1] ^ 1,))
    journal.rows[0] = replace(row, sct=broken, certificate=row.certificate.replace(row.sct, broken))
    # The certificate's own signature breaks with it.
    assert kinds(compared(journal)) == ["sct_invalid", "signature_invalid"]


def test_a_timestamp_for_another_time_is_invalid(journal: Journal) -> None:
    journal.entries[3] = replace(journal.entries[3], timestamp=journal.entries[3].timestamp + 1)
    assert kinds(compared(journal, thorough=False)) == ["sct_invalid"]


def test_an_entry_of_our_issuer_whose_serial_number_is_not_on_record_is_unrecorded(journal: Journal) -> None:
    gone = journal.rows.pop()
    (found,) = compared(journal)
    assert isinstance(found, Finding)
    assert (found.kind, found.subject) == ("unrecorded", f"serial {gone.serial}")
    assert set(found.digests) == {"tbs_certificate", "precertificate"}
    assert found.severity == "critical"


def test_entries_of_other_authorities_are_none_of_our_business(journal: Journal) -> None:
    theirs = PrecertEntry(b"t" * 32, b"what they sign")
    journal.entries.append(LoggedEntry(4, NOW, theirs, b"", b"theirs"))
    other = new_hierarchy(Ca(), NOW)
    journal.entries.append(LoggedEntry(5, NOW, X509Entry(der(other.issuer.certificate)), b"", None))
    journal.entries.append(LoggedEntry(6, NOW, X509Entry(b"nothing that can be read"), b"", None))
    assert compared(journal) == []


def test_our_own_certificates_may_be_logged_by_whoever_has_them(journal: Journal) -> None:
    row = journal.rows[0]
    assert row.certificate is not None
    for certificate in (row.certificate, der(issuer().certificate), der(root())):
        journal.entries.append(LoggedEntry(len(journal.entries), NOW, X509Entry(certificate), b"", None))
    assert compared(journal) == []


def test_the_other_form_of_a_signature_which_anybody_can_write_makes_no_other_certificate(journal: Journal) -> None:
    row = journal.rows[0]
    assert row.certificate is not None
    for certificate in (row.certificate, der(issuer().certificate), der(root())):
        mirrored = with_mirrored_signature(certificate)
        assert mirrored != certificate
        assert is_signed_by(load(mirrored), load(der(issuer().certificate))) == (certificate == row.certificate)
        journal.entries.append(LoggedEntry(len(journal.entries), NOW, X509Entry(mirrored), b"", None))
    assert compared(journal) == []


def with_mirrored_signature(certificate: bytes) -> bytes:
    """The same certificate with (r, n - s) instead of (r, s), which verifies as well (P-256)."""
    parts = tlv.members(tlv.whole(certificate, tlv.SEQUENCE))
    r, s = decode_dss_signature(parts[2].value[1:])
    mirrored = encode_dss_signature(r, P256_ORDER - s)
    parts[2] = tlv.whole(tlv.encode(0x03, b"\x00" + mirrored), 0x03)
    return tlv.encode(tlv.SEQUENCE, b"".join(part.octets for part in parts))


def test_a_logged_final_certificate_that_is_not_on_record_is_unrecorded(journal: Journal) -> None:
    gone = journal.rows.pop()
    entry = journal.entries.pop()
    assert gone.certificate is not None
    journal.entries.append(LoggedEntry(entry.index, NOW, X509Entry(gone.certificate), b"", None))
    assert kinds(compared(journal)) == ["unrecorded"]


def test_an_authority_that_the_root_signed_and_nobody_here_knows_is_unrecorded(journal: Journal) -> None:
    hidden = certify_authority(ec.generate_private_key(ec.SECP256R1()), root().subject)
    journal.entries.append(LoggedEntry(4, NOW, X509Entry(der(hidden)), b"", None))
    assert kinds(compared(journal)) == ["unrecorded"]


def test_one_serial_number_with_two_contents_in_the_log_is_told(journal: Journal) -> None:
    other = Journal()
    twin = other.issue("evil.example.test")  # the same first serial number, other contents
    assert twin.serial == journal.rows[0].serial
    journal.entries.append(replace(other.entries[0], index=4))
    assert kinds(compared(journal)) == ["serial_twice"]


def test_one_serial_number_with_two_final_certificates_is_told(journal: Journal) -> None:
    twin = Journal().issue("evil.example.test")
    assert twin.certificate is not None
    journal.entries.append(LoggedEntry(4, NOW, X509Entry(twin.certificate), b"", None))
    assert kinds(compared(journal)) == ["serial_twice"]


def test_the_same_contents_logged_twice_are_a_note(journal: Journal) -> None:
    journal.entries.append(replace(journal.entries[0], index=4))
    (found,) = compared(journal)
    assert isinstance(found, Note)
    assert found.kind == "logged_again"


def test_a_place_that_two_certificates_name_is_told(journal: Journal) -> None:
    journal.rows[1] = replace(journal.rows[1], leaf_index=0)
    assert "leaf_twice" in kinds(compared(journal))


def test_a_reserved_row_whose_precertificate_is_logged_is_what_a_crash_leaves(journal: Journal) -> None:
    reserved = replace(
        journal.rows[2],
        state="reserved",
        certificate=None,
        precertificate=None,
        sct=None,
        leaf_index=None,
        issued_at=None,
    )
    journal.rows[2] = reserved
    found = compared(journal)
    assert kinds(found) == ["unfinished", "unfinished_logged"]
    assert all(isinstance(one, Note) for one in found)


@pytest.mark.parametrize("knows_its_place", [True, False])
def test_a_reserved_row_covers_no_other_contents_than_it_was_reserved_for(
    journal: Journal, knows_its_place: bool
) -> None:
    """Whoever has stolen a key would sign under serial numbers that crashes left behind."""
    reserved = replace(
        journal.rows[2],
        state="reserved",
        names=("what.was.asked.for.example.test",),
        certificate=None,
        precertificate=None,
        sct=None,
        leaf_index=2 if knows_its_place else None,
        issued_at=None,
    )
    journal.rows[2] = reserved
    (found,) = (one for one in compared(journal) if isinstance(one, Finding))
    assert (found.kind, found.subject) == ("serial_twice", f"serial {reserved.serial}")
    assert "what.was.asked.for" in found.text


def test_a_reserved_row_that_knows_its_place_is_what_a_crash_leaves_too(journal: Journal) -> None:
    journal.rows[2] = replace(journal.rows[2], state="reserved", certificate=None, issued_at=None)
    assert kinds(compared(journal)) == ["unfinished_logged"]


def test_a_reserved_row_with_another_precertificate_than_the_logged_one_was_signed_twice(journal: Journal) -> None:
    other = journal.rows[0].precertificate
    journal.rows[2] = replace(journal.rows[2], state="reserved", certificate=None, precertificate=other)
    assert kinds(compared(journal)) == ["serial_twice"]


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        lambda row: replace(row, serial="7f" * 16),
        lambda row: replace(row, subject="CN=another"),
        lambda row: replace(row, names=("another.example.test",)),
        lambda row: replace(row, not_before=row.not_before + 1),
        lambda row: replace(row, not_after=row.not_after - 1),
        lambda row: replace(row, certificate=b"not a certificate"),
        lambda row: replace(row, certificate=row.certificate + b"\0"),
    ],
)
def test_a_certificate_that_is_not_what_its_row_says_differs(
    journal: Journal, thorough: bool, change: Callable[[RecordRow], RecordRow]
) -> None:
    journal.rows[3] = change(journal.rows[3])
    assert kinds(compared(journal, thorough=thorough)) == ["row_differs"]


def test_a_certificate_that_its_issuer_did_not_sign_is_told(journal: Journal) -> None:
    row = journal.rows[0]
    assert row.certificate is not None
    journal.rows[0] = replace(row, certificate=row.certificate[:-1] + bytes((row.certificate[-1] ^ 1,)))
    assert kinds(compared(journal)) == ["signature_invalid"]


def test_a_row_of_an_issuer_that_is_not_here_is_told(journal: Journal) -> None:
    journal.rows[0] = replace(journal.rows[0], issuer="0123")
    assert kinds(compared(journal)) == ["issuer_unknown"]


def test_a_certificate_of_a_logged_profile_without_an_entry_is_unlogged() -> None:
    journal = Journal()
    journal.issue(logged=False)
    assert kinds(compared(journal)) == ["unlogged"]


def test_a_certificate_of_a_profile_that_is_not_logged_needs_no_entry() -> None:
    journal = Journal()
    journal.issue(logged=False)
    by = Comparison(authorities(), log_signer().verifier, unlogged_profiles=[QUIET])
    assert compared(journal, by=by) == []


def test_what_was_issued_before_there_was_a_log_is_a_note() -> None:
    journal = Journal()
    journal.issue(logged=False)
    by = Comparison(authorities(), log_signer().verifier, log_began=NOW + 1)
    assert kinds(compared(journal, by=by)) == ["before_log"]


def test_an_entry_of_ours_that_cannot_be_read_damages_the_log(journal: Journal) -> None:
    entry = journal.entries[0].entry
    assert isinstance(entry, PrecertEntry)
    journal.entries.append(LoggedEntry(4, NOW, PrecertEntry(entry.issuer_key_hash, b"\x30\x00"), b"", b"x"))
    assert kinds(compared(journal)) == ["log_damaged"]


def test_timestamps_are_read_as_they_were_embedded(journal: Journal) -> None:
    row = journal.rows[0]
    assert row.certificate is not None
    assert timestamps(x509.load_der_x509_certificate(row.certificate)) == (row.sct,)


@pytest.mark.parametrize(
    "octets",
    [b"", b"\x30\x00", b"\x31\x03\x02\x01\x01", b"\x30\x03\x02\x01\xff", b"\x30\x02\x02\x00", b"\x30\x03\x04\x01\x01"],
)
def test_a_to_be_signed_part_without_a_serial_number_is_not_read(octets: bytes) -> None:
    with pytest.raises(Unreadable):
        serial_of_tbs(octets)


def test_a_finding_has_a_known_kind_a_subject_and_a_text() -> None:
    with pytest.raises(ValueError, match="known kind"):
        Finding("odd", "serial 1", "text")  # type: ignore[arg-type] # what the test is about
    with pytest.raises(ValueError, match="known kind"):
        Finding("unlogged", "", "text")
    assert {Finding(kind, "leaf 1", "text").severity for kind in FINDING_KINDS} == {"critical", "serious"}


def given_up(journal: Journal, place: int) -> RecordRow:
    """The row at a place, as one whose log the operator gave up."""
    journal.rows[place] = replace(journal.rows[place], log_given_up=True)
    return journal.rows[place]


def test_a_certificate_whose_log_was_given_up_is_unlogged_and_known_to_be(journal: Journal) -> None:
    row = given_up(journal, 3)
    journal.entries.pop()
    (found,) = compared(journal)
    assert isinstance(found, Finding)
    assert (found.kind, found.subject, found.given_up) == ("unlogged", f"serial {row.serial}", True)
    assert "accept-log" in found.text


def test_a_new_log_gives_the_places_of_the_one_that_was_given_up_again_and_contradicts_nothing_else(
    journal: Journal,
) -> None:
    lost = given_up(journal, 1)
    taken = replace(journal.rows[3], leaf_index=1)
    journal.rows[3] = taken
    journal.entries[1] = replace(journal.entries.pop(), index=1)
    found = [one for one in compared(journal, thorough=False) if one.subject != f"serial {taken.serial}"]
    assert [(one.kind, one.subject) for one in found] == [("unlogged", f"serial {lost.serial}")]


def test_what_is_still_in_a_log_that_was_accepted_is_compared_as_ever(journal: Journal) -> None:
    for place in range(4):
        given_up(journal, place)
    assert compared(journal) == []
    journal.rows[2] = replace(journal.rows[2], sct=journal.rows[1].sct)
    assert kinds(compared(journal)) == ["sct_invalid"]


def test_a_certificate_whose_log_was_given_up_is_still_looked_at_by_itself(journal: Journal) -> None:
    row = given_up(journal, 3)
    journal.rows[3] = replace(row, subject="CN=somebody else")
    journal.entries.pop()
    assert kinds(compared(journal)) == ["row_differs", "unlogged"]


@pytest.mark.parametrize(("entries", "expected"), [(4, True), (3, False)])
@pytest.mark.parametrize("final", [False, True])
def test_an_entry_whose_row_the_record_was_accepted_without_is_unrecorded_and_known_to_be(
    journal: Journal, entries: int, expected: bool, final: bool
) -> None:
    gone = journal.rows.pop()
    if final:
        assert gone.certificate is not None
        entry = journal.entries.pop()
        journal.entries.append(LoggedEntry(entry.index, entry.timestamp, X509Entry(gone.certificate), b"", None))
    by = Comparison(authorities(), log_signer().verifier, entries_given_up=entries)
    (found,) = compared(journal, by=by)
    assert isinstance(found, Finding)
    assert (found.kind, found.given_up) == ("unrecorded", expected)
