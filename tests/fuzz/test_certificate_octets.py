"""Octets of certificates and timestamps: each reader returns or raises its own error, and the lint never fails."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services import der
from services.ca.issuance import precertificate
from services.ca.issuance.precertificate import PrecertificateError
from services.ca.lint.findings import RULES, Finding
from services.ca.lint.lint import Signer, lint_certificate, lint_to_be_signed
from services.rfc6962 import structures
from services.rfc6962.structures import StructureError
from services.rfc6962.verifier import LogVerifier
from tests.unit.ca.authorities import hierarchy_of
from tests.unit.ca.broken import EXTENSIONS, Parts, certificate_of, good, to_be_signed

SIGNER = Signer.of(hierarchy_of().issuer.certificate)
SAMPLES = (*good(), *good("everything"))
Edit = tuple[int, bytes]

edits = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def changed(data: bytes, changes: list[Edit]) -> bytes:
    content = bytearray(data)
    for position, octets in changes:
        begin = position % len(content)
        content[begin : begin + len(octets)] = octets
    return bytes(content[: len(data)])


def looked_at(octets: bytes) -> tuple[Finding, ...]:
    """All findings; each has a rule and a text that is bounded."""
    found = (
        *lint_certificate(octets, SIGNER),
        *lint_to_be_signed(octets, SIGNER, "certificate"),
        *lint_to_be_signed(octets, SIGNER, "precertificate"),
    )
    assert all(finding.rule in RULES and len(finding.text) < 1000 for finding in found)
    return found


def read(octets: bytes) -> None:
    """Every reader of what stands in certificates."""
    looked_at(octets)
    for run, own in (
        (lambda: der.parse(octets), der.DerError),
        (lambda: precertificate.without_poison(octets), PrecertificateError),
        (lambda: precertificate.without_sct_list(octets), PrecertificateError),
        (lambda: precertificate.embedded_scts(octets), PrecertificateError),
        (lambda: precertificate.with_scts(octets, [b"sct"]), PrecertificateError),
        (lambda: precertificate.check_correspondence(octets, octets), PrecertificateError),
        (lambda: structures.parse_sct(octets), StructureError),
        (lambda: structures.parse_sct_list(octets), StructureError),
        (lambda: LogVerifier.of(octets), ValueError),
    ):
        try_to(run, own)


def try_to(run: Callable[[], object], own: type[Exception]) -> None:
    try:
        run()
    except own as error:
        if len(str(error)) >= 1000:
            raise AssertionError("an unbounded error") from error


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x30\x80")
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\x82\x00\x00")
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    read(octets)


@given(st.sampled_from(SAMPLES), edits)
@settings(max_examples=300)
def test_a_damaged_certificate_is_read_or_refused(certificate: bytes, changes: list[Edit]) -> None:
    octets = changed(certificate, changes)
    read(octets)
    read(to_be_signed(certificate)[: len(octets) // 2])


@given(st.sampled_from(SAMPLES), edits)
@settings(max_examples=300)
def test_damage_to_what_is_signed_is_read_or_refused(certificate: bytes, changes: list[Edit]) -> None:
    read(changed(to_be_signed(certificate), changes))


@given(st.sampled_from(sorted(EXTENSIONS)), st.binary(max_size=60), st.booleans())
@settings(max_examples=300)
def test_an_extension_may_hold_anything(name: str, value: bytes, critical: bool) -> None:
    parts = Parts.of(to_be_signed(good("everything")[1]))
    parts.put(name, value, critical=critical)
    read(parts.octets)
    read(certificate_of(parts.octets, good()[1]))


nested = st.recursive(
    st.builds(der.encode, st.sampled_from([1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x16, 0x82, 0x86]), st.binary(max_size=12)),
    lambda inner: st.builds(
        lambda tag, members: der.encode(tag, b"".join(members)),
        st.sampled_from([0x30, 0x31, 0xA0, 0xA3]),
        st.lists(inner, max_size=5),
    ),
    max_leaves=20,
)


@given(nested, st.sampled_from(sorted(EXTENSIONS)))
@settings(max_examples=300)
def test_der_that_is_no_certificate_is_read_or_refused(octets: bytes, name: str) -> None:
    read(octets)
    parts = Parts.of(to_be_signed(good("everything")[1]))
    parts.put(name, octets)
    read(parts.octets)


@given(st.sampled_from(sorted(set(Parts.of(to_be_signed(SAMPLES[0])).fields) - {"extensions"})), nested)
def test_any_field_may_be_any_der(name: str, octets: bytes) -> None:
    parts = Parts.of(to_be_signed(good()[1]))
    parts.fields[name] = octets
    read(parts.octets)


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
def test_any_timestamps_are_embedded_and_found_again(scts: list[bytes]) -> None:
    before = to_be_signed(good()[0])
    after = precertificate.with_scts(before, scts)
    assert precertificate.embedded_scts(after) == tuple(scts)
    precertificate.check_correspondence(before, after)


@given(edits)
@settings(max_examples=300)
def test_a_certificate_that_differs_in_any_octet_does_not_correspond(changes: list[Edit]) -> None:
    """But in those of its timestamps, which the log vouches for."""
    before, after = (to_be_signed(one) for one in good())
    other = changed(after, changes)
    begin = after.rindex(bytes.fromhex("060a2b06010401d679020402"))
    if other == after or other[:begin] == after[:begin]:
        return
    with pytest.raises(PrecertificateError):
        precertificate.check_correspondence(before, other)


def test_the_samples_are_good() -> None:
    """So that the damaged ones are close to something that passes."""
    for before, after in (SAMPLES[:2], SAMPLES[2:]):
        assert lint_certificate(after, SIGNER) == ()
        assert lint_to_be_signed(to_be_signed(before), SIGNER, "precertificate") == ()
