"""DER, strictly (X.690, sections 8, 10 and 11): octets to a tree of elements, and back. Pure.

Rules:
- What is not DER is refused, whatever decoders elsewhere would make of it: indefinite, over-long and truncated lengths,
  padded integers, booleans other than 00 and FF, unused bits that are set, sets out of order, trailing octets.
- Nothing is copied: an element is a pair of positions in the octets that it was read from. Depth and size are bounded.
- Tags have one octet: certificates need no others.
- `parse` looks into everything. What others made and is to stay as it came, octet for octet, is only taken apart, one
  level at a time: `whole` and `members`.
"""

from __future__ import annotations

from typing import Final

MAX_OCTETS: Final = 131_072
MAX_DEPTH: Final = 24

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_CONSTRUCTED: Final = 0x20
_LONG_TAG: Final = 0x1F
_UNIVERSAL_PRIMITIVE: Final = frozenset(
    {BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT_IDENTIFIER, 0x0A, UTF8_STRING}
    | {0x12, PRINTABLE_STRING, 0x14, IA5_STRING, UTC_TIME, GENERALIZED_TIME, 0x1A, 0x1C, 0x1E}
)


class DerError(ValueError):
    """Octets that are not what they should be. The text says what was found, and where."""


class Element:
    """One element: its tag, where it begins, where its content begins and ends.

    `children` is what a constructed one holds, if it was read by `parse`.
    """

    __slots__ = ("begin", "children", "content", "data", "end", "tag")

    def __init__(self, data: bytes, tag: int, begin: int, content: int, end: int) -> None:
        self.data = data
        self.tag = tag
        self.begin = begin
        self.content = content
        self.end = end
        self.children: list[Element] = []

    @property
    def octets(self) -> bytes:
        """The whole element."""
        return self.data[self.begin : self.end]

    @property
    def value(self) -> bytes:
        """The content alone."""
        return self.data[self.content : self.end]


def parse(data: bytes) -> Element:
    """The one element that `data` is, and all that it holds. Raises DerError."""
    if len(data) > MAX_OCTETS:
        raise DerError(f"{len(data)} octets; at most {MAX_OCTETS} are read")
    element = _read(data, 0, len(data), 0)
    if element.end != len(data):
        raise DerError(f"{len(data) - element.end} octets behind the end")
    return element


def whole(data: bytes, tag: int) -> Element:
    """The one element that `data` is, without a look inside. Raises DerError for another tag too."""
    content, end = _extent(data, 0, len(data))
    if end != len(data):
        raise DerError(f"{len(data) - end} octets behind the end")
    if data[0] != tag:
        raise DerError(f"the tag {data[0]:02x}, where {tag:02x} has to be")
    return Element(data, tag, 0, content, end)


def members(element: Element) -> list[Element]:
    """The elements that `element` holds, without a look inside. Raises DerError."""
    found: list[Element] = []
    data, begin, limit = element.data, element.content, element.end
    while begin < limit:
        content, end = _extent(data, begin, limit)
        found.append(Element(data, data[begin], begin, content, end))
        begin = end
    return found


def encode(tag: int, content: bytes) -> bytes:
    """An element with this tag and content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _extent(data: bytes, begin: int, limit: int) -> tuple[int, int]:
    """Where the content of the element at `begin` begins and ends."""
    content = begin + 2
    if content > limit:
        raise DerError(f"an element that is cut off at {begin}")
    if data[begin] & _LONG_TAG == _LONG_TAG:
        raise DerError(f"a long tag at {begin}")
    length = data[begin + 1]
    if length >= 0x80:
        content, length = _long_length(data, begin, limit)
    end = content + length
    if end > limit:
        raise DerError(f"an element at {begin} that is longer than what holds it")
    return content, end


def _read(data: bytes, begin: int, limit: int, depth: int) -> Element:
    content, end = _extent(data, begin, limit)
    tag = data[begin]
    element = Element(data, tag, begin, content, end)
    if tag & _CONSTRUCTED:
        _read_children(element, depth)
    elif tag in _CHECKS:
        _CHECKS[tag](data, content, end)
    elif tag < 0x40 and tag not in _UNIVERSAL_PRIMITIVE:
        raise DerError(f"the tag {tag:02x} at {begin}")
    return element


def _long_length(data: bytes, begin: int, limit: int) -> tuple[int, int]:
    count = data[begin + 1] & 0x7F
    content = begin + 2 + count
    if not 1 <= count <= 4 or content > limit:
        raise DerError(f"a length at {begin + 1} that is indefinite, cut off or too long")
    length = int.from_bytes(data[begin + 2 : content], "big")
    if length < 0x80 or length >> (8 * (count - 1)) == 0:
        raise DerError(f"a length at {begin + 1} in more octets than needed")
    return content, length


def _read_children(element: Element, depth: int) -> None:
    tag, end = element.tag, element.end
    if tag < 0x40 and tag not in {SEQUENCE, SET}:
        raise DerError(f"the tag {tag:02x} at {element.begin}")
    if depth >= MAX_DEPTH:
        raise DerError(f"more than {MAX_DEPTH} levels at {element.begin}")
    data, position, children = element.data, element.content, element.children
    while position < end:
        child = _read(data, position, end, depth + 1)
        children.append(child)
        position = child.end
    if tag == SET and len(children) > 1:
        members = [child.octets for child in children]
        if members != sorted(members):
            raise DerError(f"a set at {element.begin} whose members are not in order")


def _check_boolean(data: bytes, content: int, end: int) -> None:
    if end - content != 1 or data[content] not in {0x00, 0xFF}:
        raise DerError(f"a boolean at {content} that is neither 00 nor FF")


def _check_integer(data: bytes, content: int, end: int) -> None:
    if end == content:
        raise DerError(f"an empty integer at {content}")
    if end - content > 1 and data[content] in {0x00, 0xFF} and data[content] >> 7 == data[content + 1] >> 7:
        raise DerError(f"an integer at {content} in more octets than needed")


def _check_bit_string(data: bytes, content: int, end: int) -> None:
    if end == content:
        raise DerError(f"a bit string at {content} without its first octet")
    unused = data[content]
    if unused > 7 or (unused and end - content == 1) or (unused and data[end - 1] & ((1 << unused) - 1)):
        raise DerError(f"a bit string at {content} with wrong unused bits")


def _check_null(_: bytes, content: int, end: int) -> None:
    if end != content:
        raise DerError(f"a null at {content} that holds something")


def _check_object_identifier(data: bytes, content: int, end: int) -> None:
    if end == content or data[end - 1] & 0x80:
        raise DerError(f"an object identifier at {content} that is empty or cut off")
    begins = True
    for octet in data[content:end]:
        if begins and octet == 0x80:
            raise DerError(f"an object identifier at {content} with an arc in more octets than needed")
        begins = octet < 0x80


def _check_utf8(data: bytes, content: int, end: int) -> None:
    try:
        data[content:end].decode("utf-8")
    except UnicodeDecodeError:
        raise DerError(f"a UTF-8 string at {content} that is not UTF-8") from None


_CHECKS: Final = {
    BOOLEAN: _check_boolean,
    INTEGER: _check_integer,
    0x0A: _check_integer,
    BIT_STRING: _check_bit_string,
    NULL: _check_null,
    OBJECT_IDENTIFIER: _check_object_identifier,
    UTF8_STRING: _check_utf8,
}
