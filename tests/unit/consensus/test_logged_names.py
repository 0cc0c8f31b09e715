"""What the log says of a certificate is what stands in it, all of it, in one form."""

from hashlib import sha256
from ipaddress import ip_address

import pytest
from cryptography import x509

from services import der
from services.consensus import logged_names
from services.consensus.logged_names import MAX_NAMES, LoggedCertificate, Unreadable
from services.rfc6962.structures import PrecertEntry, TileLeaf, X509Entry
from tests.unit.consensus.issued import (
    ISSUER,
    NOT_AFTER,
    NOT_BEFORE,
    certificate_of,
    entry_of,
    octets_of,
    precert_of,
    san_of,
)

DNS, EMAIL, URI, IP = 0x82, 0x81, 0x86, 0x87


def names_of(*names: x509.GeneralName) -> tuple[str, ...]:
    return logged_names.of_entry(0, 0, entry_of(certificate_of(*names))).names


def read_san(san: bytes) -> tuple[str, ...]:
    return logged_names.of_entry(0, 0, entry_of(certificate_of(san=san))).names


def changed_tbs(old: bytes, new: bytes) -> PrecertEntry:
    """A to-be-signed part with other octets of the same length in one place."""
    tbs = certificate_of(x509.DNSName("a.example.test")).tbs_certificate_bytes
    assert tbs.count(old) == 1
    assert len(old) == len(new)
    return PrecertEntry(bytes(32), tbs.replace(old, new))


def rebuilt(*fields: bytes) -> PrecertEntry:
    return PrecertEntry(bytes(32), der.encode(der.SEQUENCE, b"".join(fields)))


def fields_of() -> list[bytes]:
    tbs = certificate_of(x509.DNSName("a.example.test")).tbs_certificate_bytes
    return [field.octets for field in der.parse(tbs).children]


def test_every_kind_of_name_is_told_in_canonical_text() -> None:
    assert names_of(
        x509.DNSName("WWW.Example.Test"),
        x509.DNSName("*.example.test"),
        x509.DNSName("xn--bcher-kva.example.test"),
        x509.IPAddress(ip_address("192.0.2.1")),
        x509.IPAddress(ip_address("2001:db8:0:0::1")),
        x509.RFC822Name("Some.One@Example.Test"),
        x509.UniformResourceIdentifier("HTTPS://User@Example.Test/Path?Q#F"),
        x509.UniformResourceIdentifier("urn:Example:A"),
    ) == (
        "dns:*.example.test",
        "dns:www.example.test",
        "dns:xn--bcher-kva.example.test",
        "email:Some.One@example.test",
        "ip:192.0.2.1",
        "ip:2001:db8::1",
        "uri:https://User@example.test/Path?Q#F",
        "uri:urn:Example:A",
    )


def test_a_kind_without_text_does_not_hide_a_name() -> None:
    directory = x509.DirectoryName(ISSUER)
    digest = sha256(ISSUER.public_bytes()).hexdigest()
    assert names_of(x509.DNSName("a.example.test"), directory) == ("dns:a.example.test", f"other:a4:{digest}")


def test_a_name_that_is_there_twice_is_told_once() -> None:
    assert names_of(x509.DNSName("a.example.test"), x509.DNSName("A.example.test")) == ("dns:a.example.test",)


def test_a_wildcard_is_registered_under_its_base() -> None:
    one = certificate_of(x509.DNSName("*.example.test"), x509.DNSName("*.other.test"), x509.DNSName("other.test"))
    assert logged_names.of_entry(0, 0, entry_of(one)).registered_under == ("dns:example.test",)


def test_all_else_is_what_the_certificate_says() -> None:
    certificate = certificate_of(x509.DNSName("a.example.test"))
    assert logged_names.of_entry(7, 1234, entry_of(certificate)) == LoggedCertificate(
        index=7,
        timestamp=1234,
        fingerprint=sha256(octets_of(certificate)).digest(),
        contents=sha256(certificate.tbs_certificate_bytes).digest(),
        issuer=sha256(ISSUER.public_bytes()).digest(),
        serial="0a1b2c",
        not_before=int(NOT_BEFORE.timestamp()),
        not_after=int(NOT_AFTER.timestamp()),
        names=("dns:a.example.test",),
    )


def test_a_precertificate_and_its_certificate_have_the_same_contents() -> None:
    certificate = certificate_of(x509.DNSName("a.example.test"), scts=2)
    final = logged_names.of_entry(1, 0, entry_of(certificate))
    pre = logged_names.of_entry(0, 0, precert_of(certificate))
    assert final.contents == pre.contents == pre.fingerprint
    assert final.fingerprint != pre.fingerprint
    assert (pre.names, pre.serial, pre.issuer) == (final.names, final.serial, final.issuer)


def test_certificates_that_differ_have_other_contents() -> None:
    one, other = (certificate_of(x509.DNSName(name)) for name in ("a.example.test", "b.example.test"))
    read = [logged_names.of_entry(0, 0, entry_of(each)) for each in (one, other)]
    assert read[0].contents != read[1].contents


def test_an_entry_of_a_tile_is_told_at_its_place() -> None:
    certificate = certificate_of(x509.DNSName("a.example.test"))
    pre = precert_of(certificate_of(x509.DNSName("b.example.test"), scts=1))
    leaf = logged_names.of_leaf(TileLeaf(99, entry_of(certificate), 3, None, ()))
    precert = logged_names.of_leaf(TileLeaf(100, pre, 4, b"any", ()))
    assert (leaf.index, leaf.timestamp, leaf.names) == (3, 99, ("dns:a.example.test",))
    assert (precert.index, precert.timestamp, precert.names) == (4, 100, ("dns:b.example.test",))


def test_a_certificate_without_names_has_none() -> None:
    assert names_of() == ()


def test_a_hundred_names_are_told_and_one_more_is_refused() -> None:
    many = [(DNS, b"n%d.example.test" % number) for number in range(MAX_NAMES + 1)]
    assert len(read_san(san_of(*many[:-1]))) == MAX_NAMES
    with pytest.raises(Unreadable, match="101 names"):
        read_san(san_of(*many))


@pytest.mark.parametrize(
    ("tag", "content", "text"),
    [
        (DNS, b"", "empty"),
        (DNS, b"a..test", "empty label"),
        (DNS, b"a.test.", "empty label"),
        (DNS, b"*", "star"),
        (DNS, b"*.", "empty label"),
        (DNS, b"a.*.test", "star"),
        (DNS, b"a*.test", "star"),
        (DNS, b"a\x00.test", "visible"),
        (DNS, b"a\n.test", "visible"),
        (DNS, b"b\xc3\xbccher.test", "visible"),
        (DNS, b"a" * 64 + b".test", "too long"),
        (DNS, b"a." * 126 + b"test", "longer than 253"),
        (EMAIL, b"example.test", "without an address"),
        (EMAIL, b"@example.test", "without an address"),
        (EMAIL, b"someone@", "without an address"),
        (EMAIL, b"a@" + b"b" * 253, "longer than 254"),
        (URI, b"//example.test/", "without a scheme"),
        (URI, b"urn:" + b"a" * 2045, "longer than 2048"),
        (IP, b"\x01\x02\x03", "of 3 octets"),
        (IP, b"\x01\x02\x03\x04\xff\xff\xff\xff", "of 8 octets"),
        (0x89, b"a", "tag 89"),
        (der.UTF8_STRING, b"a", "tag 0c"),
    ],
)
def test_a_name_that_is_none_is_refused(tag: int, content: bytes, text: str) -> None:
    with pytest.raises(Unreadable, match=text):
        read_san(san_of((DNS, b"a.example.test"), (tag, content)))


@pytest.mark.parametrize(("tag", "content"), [(DNS, b"a." * 124 + b"tests"), (EMAIL, b"a@" + b"b" * 252)])
def test_a_name_of_the_greatest_length_is_told(tag: int, content: bytes) -> None:
    assert read_san(san_of((tag, content)))[0].endswith(content.decode())


@pytest.mark.parametrize(
    "san",
    [
        b"",
        b"\x30\x00",
        b"\x31\x00",
        der.encode(0xA0, san_of((DNS, b"a.test"))[2:]),
        b"\x30\x80\x82\x01a\x00\x00",
        san_of((DNS, b"a.test")) + b"\x00",
        b"\x30\x81\x08" + san_of((DNS, b"a.test"))[2:],
    ],
)
def test_alternative_names_that_are_not_der_are_refused(san: bytes) -> None:
    with pytest.raises(Unreadable):
        read_san(san)


def test_octets_behind_a_certificate_are_refused() -> None:
    with pytest.raises(Unreadable, match="behind the end"):
        logged_names.of_entry(0, 0, X509Entry(octets_of(certificate_of()) + b"\x00"))


def test_a_to_be_signed_part_alone_is_no_certificate() -> None:
    with pytest.raises(Unreadable, match="no certificate"):
        logged_names.of_entry(0, 0, X509Entry(certificate_of().tbs_certificate_bytes))
    with pytest.raises(Unreadable, match="no to-be-signed"):
        logged_names.of_entry(0, 0, PrecertEntry(bytes(32), octets_of(certificate_of())))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b"\x17\x0d260102030405Z", b"\x17\x0d261302030405Z", "no calendar"),
        (b"\x17\x0d260102030405Z", b"\x17\x0d260102030460Z", "no calendar"),
        (b"\x17\x0d260102030405Z", b"\x17\x0d2601020304+5Z", "not in UTC"),
        (b"\x17\x0d260102030405Z", b"\x17\x0d260102030405A", "not in UTC"),
        (b"\x17\x0d260102030405Z", b"\x13\x0d260102030405Z", "not in UTC"),
        (b"\x02\x03\x0a\x1b\x2c", b"\x02\x03\x8a\x1b\x2c", "serial"),
        (b"\x02\x03\x0a\x1b\x2c", b"\x02\x03\x00\x1b\x2c", "more octets than needed"),
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", "fields"),
        (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11", "twice"),
    ],
)
def test_what_does_not_stand_in_certificates_is_refused(old: bytes, new: bytes, text: str) -> None:
    with pytest.raises(Unreadable, match=text):
        logged_names.of_entry(0, 0, changed_tbs(old, new))


def test_a_year_of_two_digits_is_of_the_century_that_it_has_to_be() -> None:
    read = logged_names.of_entry(0, 0, changed_tbs(b"\x17\x0d260102030405Z", b"\x17\x0d500102030405Z"))
    assert read.not_before < 0
    read = logged_names.of_entry(0, 0, changed_tbs(b"\x17\x0d260102030405Z", b"\x17\x0d490102030405Z"))
    assert read.not_before > NOT_BEFORE.timestamp()


def test_what_is_no_sequence_is_no_certificate() -> None:
    certificate = certificate_of()
    tbs = der.encode(0xA0, der.parse(certificate.tbs_certificate_bytes).value)
    whole = der.encode(0xA0, der.parse(octets_of(certificate)).value)
    for entry in (PrecertEntry(bytes(32), tbs), X509Entry(whole)):
        with pytest.raises(Unreadable, match=r"no (to-be-signed )?certificate"):
            logged_names.of_entry(0, 0, entry)


def test_fields_that_are_missing_or_out_of_place_are_refused() -> None:
    version, *fields, extensions = fields_of()
    serial, *after = fields
    logged_names.of_entry(0, 0, rebuilt(version, *fields, b"\x81\x02\x00\x01", extensions))
    logged_names.of_entry(0, 0, rebuilt(serial, *after))
    for wrong in (
        (),
        (version, *after, extensions),
        (version, *fields[:-1], extensions),
        (version, *fields, extensions, extensions),
        (version, *fields, extensions, b"\x81\x02\x00\x01"),
        (version, *fields, b"\x05\x00"),
        (*fields, extensions),
        (version, *fields, der.encode(0xA3, b"")),
        (version, *fields, der.encode(0xA3, b"\x30\x02\x30\x00")),
        (version, *fields, der.encode(0xA3, der.encode(der.SEQUENCE, b"\xa0\x07\x06\x03\x55\x1d\x13\x04\x00"))),
    ):
        with pytest.raises(Unreadable):
            logged_names.of_entry(0, 0, rebuilt(*wrong))


def test_a_serial_number_of_more_than_twenty_octets_is_refused() -> None:
    version, _, *fields = fields_of()
    read = logged_names.of_entry(0, 0, rebuilt(version, der.encode(der.INTEGER, b"\x00" + b"\xff" * 20), *fields))
    assert read.serial == "ff" * 20
    with pytest.raises(Unreadable, match="serial"):
        logged_names.of_entry(0, 0, rebuilt(version, der.encode(der.INTEGER, b"\x01" + b"\xff" * 20), *fields))


@pytest.mark.parametrize(
    ("index", "timestamp", "digest", "names"),
    [
        (-1, 0, bytes(32), ()),
        (0, -1, bytes(32), ()),
        (0, 1 << 63, bytes(32), ()),
        (0, 0, bytes(31), ()),
        (0, 0, bytes(32), ("dns:b", "dns:a")),
        (0, 0, bytes(32), ("dns:a", "dns:a")),
        (0, 0, bytes(32), ("dns:a\n",)),
        (0, 0, bytes(32), tuple(f"dns:{number:03d}" for number in range(MAX_NAMES + 1))),
    ],
)
def test_a_logged_certificate_that_cannot_be_is_not_made(
    index: int, timestamp: int, digest: bytes, names: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        LoggedCertificate(index, timestamp, digest, bytes(32), bytes(32), "01", 0, 0, names)
