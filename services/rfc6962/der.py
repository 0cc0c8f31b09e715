"""A strict reader of DER (ITU-T X.690), as far as a certificate has to be taken apart and put together. Pure.

Rules:
- What is not touched stays as it came, octet for octet: elements are cut out of the input, never encoded again.
- Lengths are definite and minimal, tags have one octet (which covers X.509), and nothing may follow an element that is
  said to be the whole. Anything else is a DerError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BOOLEAN: Final = 0x01
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30

_MANY_OCTETS: Final = 0x80
_LONG_TAG: Final = 0x1F
_LENGTH_OCTETS: Final = 4


class DerError(ValueError):
    """The octets are not DER, or not what was to be there."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element: `encoded` is all of it, `content` what its length counts."""

    tag: int
    encoded: bytes
    content: bytes


def encode(tag: int, content: bytes) -> bytes:
    """An element with this content."""
    length = len(content)
    if length < _MANY_OCTETS:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _MANY_OCTETS | len(octets))) + octets + content


def whole(data: bytes, tag: int) -> Element:
    """The one element that `data` is. Raises DerError for another tag, and when something follows."""
    element = _element(data, 0)
    if len(element.encoded) != len(data):
        raise DerError(f"{len(data) - len(element.encoded)} octets follow the element")
    if element.tag != tag:
        raise DerError(f"an element of tag {element.tag:#04x} is where one of tag {tag:#04x} has to be")
    return element


def children(element: Element) -> list[Element]:
    """The elements that the content of `element` consists of. Raises DerError."""
    found = []
    at = 0
    while at < len(element.content):
        child = _element(element.content, at)
        found.append(child)
        at += len(child.encoded)
    return found


def _element(data: bytes, at: int) -> Element:
    if len(data) - at < 2:
        raise DerError("an element is cut off")
    tag = data[at]
    if tag & _LONG_TAG == _LONG_TAG:
        raise DerError("a tag of more than one octet")
    begin, length = _length(data, at + 1)
    end = begin + length
    if end > len(data):
        raise DerError("an element is longer than what holds it")
    return Element(tag, data[at:end], data[begin:end])


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Where the content begins, and its length."""
    first = data[at]
    if first < _MANY_OCTETS:
        return at + 1, first
    octets = data[at + 1 : at + 1 + (first & ~_MANY_OCTETS)]
    if not 1 <= len(octets) <= _LENGTH_OCTETS or len(octets) != first & ~_MANY_OCTETS:
        raise DerError("a length that is indefinite, cut off, or beyond any certificate")
    length = int.from_bytes(octets, "big")
    if length < _MANY_OCTETS or octets[0] == 0:
        raise DerError("a length that could be shorter")
    return at + 1 + len(octets), length
