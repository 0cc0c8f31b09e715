"""What an auditor accepts, and why not the rest: each check fails for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from config.schema import Ca
from services.audit.path import PathRefused, check_constraints
from services.audit.verification import Anchors, Check, passed, verify
from services.ca.evidence import evidence
from services.ca.evidence.evidence import EvidenceError
from services.ca.evidence.messages import Evidence, LoggedEvidence
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Issuer
from services.ca.installation import new_hierarchy
from services.ca.policy.profile import Validity
from services.ca.reconciliation.certified import der
from services.ca.status import ocsp
from services.ca.status.ocsp import Responder, Status
from services.ct.signing import LogSigner
from tests.unit.audit.journal import Journal, anchors, answer, certify_authority, issuer, root
from tests.unit.ca.applicants import p256_key
from tests.unit.ca.authorities import NOW


@pytest.fixture(scope="module")
def journal() -> Journal:
    made = Journal()
    for number in range(7):
        made.issue(f"host{number}.example.test")
    made.issue("quiet.example.test", logged=False)
    return made


@pytest.fixture(scope="module")
def given(journal: Journal) -> Evidence:
    return journal.evidence(journal.rows[3])


def checked(given: Evidence, by: Anchors | None = None, at: int = NOW + 2, *, seal: bool = True) -> dict[str, Check]:
    if seal:
        given = evidence.sealed(given, issuer().private_key)
    return {check.name: check for check in verify(evidence.encode(given), by or anchors(), at)}


def failing(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if not check.passed]


def changed(given: Evidence, **fields: Any) -> Evidence:
    return msgspec.structs.replace(given, **fields)


def with_log(given: Evidence, **fields: Any) -> Evidence:
    assert given.log is not None
    return changed(given, log=msgspec.structs.replace(given.log, **fields))


def log_of(given: Evidence) -> LoggedEvidence:
    assert given.log is not None
    return given.log


def test_every_certificate_that_was_issued_and_logged_is_proven(journal: Journal) -> None:
    for row in journal.rows:
        assert passed(verify(evidence.encode(journal.evidence(row)), anchors(), NOW + 2)), row


def test_one_newline_may_end_the_file(given: Evidence) -> None:
    octets = evidence.encode(given)
    assert passed(verify(octets + b"\n", anchors(), NOW + 2))
    for ended in (octets + b"\n\n", octets + b" ", b" " + octets, octets.replace(b",", b", ", 1)):
        (check,) = verify(ended, anchors(), NOW + 2)
        assert (check.name, check.passed) == ("form", False)


def test_what_is_no_evidence_is_refused_in_words() -> None:
    for octets in (b"", b"{}", b"null", b"\xff", b"[" * 100_000, b"x" * 600_000):
        with pytest.raises(EvidenceError):
            evidence.parse(octets)
        assert not passed(verify(octets, anchors(), NOW))
    assert not passed([])


def test_another_root_does_not_vouch(given: Evidence) -> None:
    by = Anchors(frozenset({der(new_hierarchy(Ca(), NOW).issuer.certificate)}), anchors().log)
    assert failing(checked(given, by)) == ["chain"]
    with pytest.raises(ValueError, match="without a root"):
        Anchors(frozenset(), None)


def test_without_the_key_of_the_log_nothing_of_the_log_is_believed(given: Evidence) -> None:
    assert failing(checked(given, Anchors(anchors().roots, None))) == ["timestamp", "tree head"]
    stranger = LogSigner(ec.generate_private_key(ec.SECP256R1())).verifier
    assert failing(checked(given, Anchors(anchors().roots, stranger))) == ["timestamp", "tree head"]


def test_a_chain_with_a_missing_link_is_refused(given: Evidence) -> None:
    assert "chain" in failing(checked(changed(given, chain=[given.chain[0], given.chain[2]])))


def test_an_expired_certificate_is_not_valid(given: Evidence) -> None:
    leaf = x509.load_pem_x509_certificate(given.chain[0].encode())
    after = int((leaf.not_valid_after_utc + timedelta(seconds=1)).timestamp())
    assert failing(checked(given, at=after)) == ["validity", "ocsp"]
    before = int((leaf.not_valid_before_utc - timedelta(seconds=1)).timestamp())
    assert failing(checked(given, at=before)) == ["validity", "ocsp"]


def test_an_authority_below_an_issuer_that_may_have_none_is_refused(given: Evidence) -> None:
    sub = certify_authority(p256_key(), issuer().certificate.subject)
    chain = [given.chain[0], certificate_pem(sub).decode("ascii"), given.chain[1], given.chain[2]]
    assert "constraints" in failing(checked(changed(given, chain=chain)))


def test_the_certificate_of_an_authority_is_not_what_evidence_is_about(given: Evidence) -> None:
    found = checked(changed(given, chain=given.chain[1:]))
    assert {"constraints", "serial"} <= set(failing(found))
    assert "of an authority" in found["constraints"].text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda given: changed(given, serial="00" * 16), ["serial"]),
        (lambda given: changed(given, issued_at=given.composed_at + 1), ["times"]),
        (lambda given: changed(given, issued_at=0), ["times"]),
        (lambda given: with_log(given, leaf_index=4), ["inclusion"]),
        (lambda given: with_log(given, audit_path=log_of(given).audit_path[:-1]), ["inclusion"]),
        (lambda given: with_log(given, audit_path=[*log_of(given).audit_path, b"0" * 32]), ["inclusion"]),
        (lambda given: with_log(given, tree_size=8), ["tree head", "checkpoint"]),
        (lambda given: with_log(given, root_hash=b"0" * 32), ["inclusion", "tree head", "checkpoint"]),
        (lambda given: with_log(given, timestamp=NOW * 1000 - 1), ["tree head", "checkpoint"]),
        (lambda given: with_log(given, checkpoint="no note"), ["checkpoint"]),
        (lambda given: with_log(given, checkpoint=log_of(given).checkpoint.replace("\n7\n", "\n6\n")), ["checkpoint"]),
        (lambda given: with_log(given, scts=[b"no timestamp"]), ["timestamp", "inclusion", "tree head"]),
        (lambda given: with_log(given, scts=log_of(given).scts * 2), ["timestamp", "inclusion", "tree head"]),
        (lambda given: changed(given, log=None), ["log"]),
        (lambda given: changed(given, ocsp=b"no answer"), ["ocsp"]),
    ],
)
def test_what_is_changed_is_found_even_when_the_issuer_seals_it(
    given: Evidence, change: Callable[[Evidence], Evidence], expected: list[str]
) -> None:
    assert failing(checked(change(given))) == expected


def test_evidence_of_another_certificate_does_not_serve(journal: Journal, given: Evidence) -> None:
    other = journal.evidence(journal.rows[4])
    assert failing(checked(changed(given, ocsp=other.ocsp))) == ["ocsp"]
    assert set(failing(checked(changed(given, log=other.log)))) == {"timestamp", "inclusion"}


def test_a_revoked_certificate_is_not_good(journal: Journal) -> None:
    found = checked(journal.evidence(journal.rows[0], status=Status("revoked", NOW, "keyCompromise")))
    assert failing(found) == ["ocsp"]
    assert "revoked at" in found["ocsp"].text
    assert "keyCompromise" in found["ocsp"].text
    assert failing(checked(journal.evidence(journal.rows[0], status=Status("unknown")))) == ["ocsp"]


def test_an_answer_holds_for_its_time_only(given: Evidence) -> None:
    found = checked(given, at=NOW + 3601)
    assert failing(found) == ["ocsp"]
    assert "--at" in found["ocsp"].text


def test_an_answer_by_somebody_who_is_no_responder_is_refused(given: Evidence) -> None:
    key = p256_key()
    own = Issuer.of(root(), key)
    stranger = Responder(ocsp.sign_responder(own, key, 5, Validity(NOW - 60, NOW + 3600)), key)
    expired = Responder(ocsp.sign_responder(issuer(), key, 6, Validity(NOW - 60, NOW + 1)), key)
    for by in (stranger, expired):
        assert failing(checked(changed(given, ocsp=answer(given.serial, Status("good"), by)))) == ["ocsp"]


def test_only_the_issuer_can_seal(given: Evidence) -> None:
    forged = evidence.sealed(changed(given, profile="tls-client"), p256_key())
    assert failing(checked(forged, seal=False)) == ["seal"]
    assert failing(checked(changed(given, seal=b""), seal=False)) == ["seal"]
    assert failing(checked(changed(given, profile="tls-client"), seal=False)) == ["seal"]


@pytest.mark.parametrize(
    ("constraints", "refused"),
    [
        (x509.NameConstraints([x509.DNSName("example.test")], None), ""),
        (x509.NameConstraints([x509.DNSName("other.test")], None), "not permitted"),
        (x509.NameConstraints(None, [x509.DNSName("example.test")]), "excluded"),
        (x509.NameConstraints(None, [x509.IPAddress(ip_network("0.0.0.0/0"))]), ""),
        (x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), "of the kind DirectoryName"),
    ],
)
def test_names_that_an_authority_above_may_not_certify_make_the_path_invalid(
    given: Evidence, constraints: x509.NameConstraints, refused: str
) -> None:
    leaf = x509.load_pem_x509_certificate(given.chain[0].encode())
    above = certify_authority(p256_key(), issuer().certificate.subject, constraints)
    if not refused:
        assert check_constraints([leaf, above, root()]) == "every issuer may issue"
        return
    with pytest.raises(PathRefused, match=refused):
        check_constraints([leaf, above, root()])
