"""Octets that anybody may have logged: they are read, or refused with the reader's own error, and nothing else."""

from ipaddress import ip_address

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from services.consensus import logged_names
from services.consensus.logged_names import MAX_NAMES, MAX_TEXT, LoggedCertificate, Unreadable
from services.rfc6962.structures import PrecertEntry, SignedEntry, X509Entry
from tests.unit.consensus.issued import certificate_of, octets_of, san_of

CERTIFICATE = certificate_of(
    x509.DNSName("*.example.test"),
    x509.IPAddress(ip_address("192.0.2.1")),
    x509.RFC822Name("someone@example.test"),
    x509.UniformResourceIdentifier("https://example.test/"),
    scts=2,
)
WHOLE = octets_of(CERTIFICATE)
TO_BE_SIGNED = CERTIFICATE.tbs_precertificate_bytes
# From where the names stand on, so that many changes are in them.
NAMES_AT = TO_BE_SIGNED.index(bytes.fromhex("0603551d11"))

edits = st.lists(
    st.tuples(st.integers(0, len(TO_BE_SIGNED)) | st.integers(NAMES_AT, NAMES_AT + 80), st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)
tags = st.sampled_from([0x81, 0x82, 0x86, 0x87, 0x88, 0xA0, 0xA4, 0x89, 0x30, 0x0C]) | st.integers(0, 255)
contents = st.binary(max_size=300) | st.text(st.characters(max_codepoint=127), max_size=300).map(str.encode)


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    content = bytearray(data)
    for position, octets in changes:
        begin = position % len(content)
        content[begin : begin + len(octets)] = octets
    return bytes(content)


def read(entry: SignedEntry) -> LoggedCertificate | None:
    try:
        found = logged_names.of_entry(5, 9, entry)
    except Unreadable:
        return None
    assert (found.index, found.timestamp) == (5, 9)
    assert len(found.names) <= MAX_NAMES
    for name in (*found.names, *found.registered_under):
        assert name.isascii()
        assert name.isprintable()
        assert " " not in name
        assert len(name) <= MAX_TEXT
        assert name.partition(":")[0] in {"dns", "ip", "email", "uri", "other"}
    return found


def test_what_is_changed_can_be_read_as_it_was() -> None:
    for entry in (X509Entry(WHOLE), PrecertEntry(bytes(32), TO_BE_SIGNED)):
        found = read(entry)
        assert found is not None
        assert len(found.names) == 4


@settings(max_examples=600)
@given(edits)
def test_changed_octets_are_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    read(X509Entry(changed(WHOLE, changes)))
    read(PrecertEntry(bytes(32), changed(TO_BE_SIGNED, changes)))


@given(st.integers(0, len(WHOLE) - 1))
def test_a_part_of_a_certificate_is_refused(length: int) -> None:
    assert read(X509Entry(WHOLE[:length])) is None
    assert read(PrecertEntry(bytes(32), TO_BE_SIGNED[: min(length, len(TO_BE_SIGNED) - 1)])) is None


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    assert read(X509Entry(octets)) is None
    assert read(PrecertEntry(bytes(32), octets)) is None


@settings(max_examples=200)
@given(st.lists(st.tuples(tags, contents), max_size=5))
def test_any_names_are_told_or_refused(names: list[tuple[int, bytes]]) -> None:
    found = read(X509Entry(octets_of(certificate_of(san=san_of(*names)))))
    if found is not None:
        assert 1 <= len(found.names) <= len(names)
