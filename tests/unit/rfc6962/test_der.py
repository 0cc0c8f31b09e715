"""DER is taken apart strictly: one way to write it, one way to read it."""

import pytest

from services.rfc6962 import der
from services.rfc6962.der import DerError


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_lengths_are_written_and_read(length: int) -> None:
    encoded = der.encode(der.OCTET_STRING, bytes(length))
    assert der.whole(encoded, der.OCTET_STRING).content == bytes(length)
    with pytest.raises(DerError):
        der.whole(encoded[:-1] if length else b"\x04", der.OCTET_STRING)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"\x30\x81\x00",
        b"\x30\x81\x7f" + bytes(127),
        b"\x30\x82\x00\x80" + bytes(128),
        b"\x30\x85\x00\x00\x00\x00\x01\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x3f\x01\x00",
        b"\x30\x00\x00",
        b"\x31\x00",
        b"\x30\xff",
    ],
    ids=[
        "nothing",
        "no length",
        "indefinite",
        "long form of 0",
        "long form of 127",
        "leading zero",
        "five octets of length",
        "beyond the end",
        "long tag",
        "trailing octet",
        "another tag",
        "reserved",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(DerError):
        der.whole(data, der.SEQUENCE)


def test_children_are_cut_out_as_they_came() -> None:
    inside = der.encode(der.OCTET_STRING, b"one") + der.encode(der.BOOLEAN, b"\xff")
    element = der.whole(der.encode(der.SEQUENCE, inside), der.SEQUENCE)
    assert [each.encoded for each in der.children(element)] == [b"\x04\x03one", b"\x01\x01\xff"]
