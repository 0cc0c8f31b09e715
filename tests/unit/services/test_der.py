"""Strict DER: what is read, and what is refused."""

import pytest

from services import der
from services.der import DerError
from tests.unit.ca.broken import good


def test_a_certificate_is_read_to_its_leaves_and_says_where_everything_is() -> None:
    certificate = good()[1]
    root = der.parse(certificate)
    assert root.octets == certificate
    assert [child.tag for child in root.children] == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]
    assert b"".join(child.octets for child in root.children) == root.value
    assert root.children[0].children[1].value == bytes.fromhex("0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_every_length_is_written_as_it_is_read(size: int) -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(size))
    element = der.parse(encoded)
    assert (element.tag, len(element.value), element.children) == (der.OCTET_STRING, size, [])


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("", "cut off"),
        ("30", "cut off"),
        ("3001", "longer than what holds it"),
        ("300201", "longer than what holds it"),
        ("3000 00", "behind the end"),
        ("3080 0000", "indefinite"),
        ("308100", "more octets than needed"),
        ("30817f" + "00" * 127, "more octets than needed"),
        ("0482007f" + "00" * 127, "more octets than needed"),
        ("04820080" + "00" * 128, "more octets than needed"),
        ("0485000000000100", "too long"),
        ("04ff", "too long"),
        ("010101", "neither 00 nor FF"),
        ("0100", "neither 00 nor FF"),
        ("0200", "empty integer"),
        ("02020001", "more octets than needed"),
        ("0202ff80", "more octets than needed"),
        ("0a020001", "more octets than needed"),
        ("0300", "without its first octet"),
        ("030108", "wrong unused bits"),
        ("030101", "wrong unused bits"),
        ("03020101", "wrong unused bits"),
        ("050100", "holds something"),
        ("0600", "empty or cut off"),
        ("060180", "empty or cut off"),
        ("06032a8001", "more octets than needed"),
        ("0c02c328", "not UTF-8"),
        ("3106020102020101", "not in order"),
        ("2401 00", "the tag 24"),
        ("1f0100", "long tag"),
        ("0000", "the tag 00"),
        ("0900", "the tag 09"),
        ("bf00", "long tag"),
        ("a0", "cut off"),
    ],
)
def test_what_is_not_der_is_refused(octets: str, why: str) -> None:
    with pytest.raises(DerError, match=why):
        der.parse(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "octets",
    ["3080 0000", "308100", "30817f" + "00" * 127, "30820080" + "00" * 128, "3085000000000100", "3084ffff"],
)
def test_lengths_are_as_strict_without_a_look_inside(octets: str) -> None:
    with pytest.raises(DerError):
        der.whole(bytes.fromhex(octets), der.SEQUENCE)
    with pytest.raises(DerError):
        der.members(der.whole(der.encode(der.SET, bytes.fromhex(octets)), der.SET))


def test_depth_and_size_are_bounded() -> None:
    nested = b""
    for _ in range(der.MAX_DEPTH + 2):
        nested = der.encode(der.SEQUENCE, nested)
    with pytest.raises(DerError, match="levels"):
        der.parse(nested)
    with pytest.raises(DerError, match="at most"):
        der.parse(der.encode(der.OCTET_STRING, bytes(der.MAX_OCTETS)))


def test_elements_are_found_without_a_look_inside() -> None:
    octets = bytes.fromhex("0101 01 3002 0280 0500")
    whole = der.whole(der.encode(der.SEQUENCE, octets), der.SEQUENCE)
    assert [(one.tag, one.value.hex()) for one in der.members(whole)] == [(1, "01"), (0x30, "0280"), (5, "")]
    assert b"".join(one.octets for one in der.members(whole)) == octets, "cut out as they came"
    with pytest.raises(DerError):
        der.members(der.whole(der.encode(der.SEQUENCE, octets[:-1]), der.SEQUENCE))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_the_whole_is_the_whole_and_of_its_tag(size: int) -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(size))
    assert der.whole(encoded, der.OCTET_STRING).value == bytes(size)
    for wrong in (b"", encoded[:-1], encoded + b"\0"):
        with pytest.raises(DerError):
            der.whole(wrong, der.OCTET_STRING)
    with pytest.raises(DerError, match="where 30 has to be"):
        der.whole(encoded, der.SEQUENCE)
