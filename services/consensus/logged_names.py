"""What an entry of the log says of a certificate: its names, its time, its contents. Pure.

Rules:
- Certificates and precertificates are read the same way: strict DER, to-be-signed part (RFC 5280, section 4.1). Nobody
  has to have signed it; that is for others to check.
- Every subject alternative name is told, in one canonical text that begins with its kind: DNS names and the hosts of
  e-mail addresses and URIs in lower case, IP addresses as `ipaddress` writes them. A kind that has no text here is told
  by its digest, so that no name stays out of sight because of its kind.
- A wildcard is a name of its own, and is also registered under the name that it stands below.
- Two entries with the same `contents` are one certificate: what is signed, without the list of timestamps that a
  certificate has and its precertificate has not (RFC 6962, section 3.2).
- Whatever cannot be read is Unreadable. Whoever follows the log counts those: what is not read is not watched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from services import der
from services.der import DerError, Element
from services.rfc6962.structures import PrecertEntry, SignedEntry, TileLeaf, X509Entry

MAX_NAMES: Final = 100
MAX_DNS_NAME: Final = 253  # octets, RFC 1035, section 2.3.4
MAX_LABEL: Final = 63
MAX_EMAIL: Final = 254  # octets, RFC 5321, section 4.5.3.1.3
MAX_URI: Final = 2048
MAX_TEXT: Final = MAX_URI + 8  # with the kind in front
MAX_SERIAL_OCTETS: Final = 20  # RFC 5280, section 4.1.2.2

_DIGEST: Final = 32
_VISIBLE: Final = re.compile(r"[!-~]+", re.ASCII)
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)(//[^/?#]*)?(.*)", re.ASCII)
_VERSION: Final = 0xA0
_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_EXTENSIONS: Final = 0xA3
_FIELDS: Final = (der.INTEGER, *(5 * (der.SEQUENCE,)))  # serial, algorithm, issuer, validity, subject, public key
_AFTER_FIELDS: Final = frozenset({0x81, 0x82, _EXTENSIONS})
_SUBJECT_ALTERNATIVE_NAME: Final = bytes.fromhex("551d11")
_SCT_LIST: Final = bytes.fromhex("2b06010401d679020402")

_EMAIL_NAME: Final = 0x81
_DNS_NAME: Final = 0x82
_URI_NAME: Final = 0x86
_IP_NAME: Final = 0x87
_NAME_TAGS: Final = frozenset({0xA0, _EMAIL_NAME, _DNS_NAME, 0xA3, 0xA4, 0xA5, _URI_NAME, _IP_NAME, 0x88})


class Unreadable(ValueError):
    """The entry holds nothing that could be watched. The text says what was looked for."""


@dataclass(frozen=True, slots=True)
class LoggedCertificate:
    """A certificate or precertificate at its place in the log.

    `timestamp`: the log's, milliseconds since the Unix epoch; `not_before` and `not_after`: seconds. `fingerprint`:
    SHA-256 of the logged certificate or to-be-signed part; `issuer`: SHA-256 of the issuer's distinguished name.
    `names` are in order, and each is there once.
    """

    index: int
    timestamp: int
    fingerprint: bytes
    contents: bytes
    issuer: bytes
    serial: str
    not_before: int
    not_after: int
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.index < 0 or not 0 <= self.timestamp < 1 << 63:
            raise ValueError("a place in the log has an index and a time, and neither is negative")
        if any(len(digest) != _DIGEST for digest in (self.fingerprint, self.contents, self.issuer)):
            raise ValueError("a digest is not 32 octets long")
        if len(self.names) > MAX_NAMES or list(self.names) != sorted(set(self.names)):
            raise ValueError(f"names are in order, each once, and at most {MAX_NAMES}")
        if not all(len(name) <= MAX_TEXT and _VISIBLE.fullmatch(name) for name in self.names):
            raise ValueError("a name is visible ASCII, and not too long")

    @property
    def registered_under(self) -> tuple[str, ...]:
        """The names that wildcards stand below, without those that are among `names` themselves."""
        bases = {f"dns:{name[6:]}" for name in self.names if name.startswith("dns:*.")}
        return tuple(sorted(bases.difference(self.names)))


def of_leaf(leaf: TileLeaf) -> LoggedCertificate:
    """What an entry of a data tile says. Raises Unreadable."""
    return of_entry(leaf.leaf_index, leaf.timestamp, leaf.entry)


def of_entry(index: int, timestamp: int, entry: SignedEntry) -> LoggedCertificate:
    """What the entry at this index says; the timestamp is the log's, in milliseconds. Raises Unreadable."""
    logged = entry.tbs_certificate if isinstance(entry, PrecertEntry) else entry.certificate
    try:
        fields = _fields(_to_be_signed(entry))
        serial, _, issuer, validity, *_ = (field for field in fields if field.tag != _VERSION)
        extensions = _extensions(fields[-1])
        not_before, not_after = _validity(validity)
        return LoggedCertificate(
            index=index,
            timestamp=timestamp,
            fingerprint=sha256(logged).digest(),
            contents=sha256(_without_sct_list(fields, extensions)).digest(),
            issuer=sha256(issuer.octets).digest(),
            serial=_serial(serial),
            not_before=not_before,
            not_after=not_after,
            names=_names(extensions),
        )
    except DerError as error:
        raise Unreadable(f"no DER: {error}") from error


def _to_be_signed(entry: SignedEntry) -> Element:
    if not isinstance(entry, X509Entry):
        return der.parse(entry.tbs_certificate)
    parts = der.parse(entry.certificate)
    tags = [part.tag for part in parts.children]
    if parts.tag != der.SEQUENCE or tags != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise Unreadable("no certificate: it is not a to-be-signed part, an algorithm and a signature")
    return parts.children[0]


def _fields(to_be_signed: Element) -> list[Element]:
    """The fields of a to-be-signed part, the extensions last if there are any."""
    fields = to_be_signed.children
    numbered = fields[1:] if fields and fields[0].octets == _VERSION_3 else fields
    tags = tuple(field.tag for field in numbered)
    rest = tags[len(_FIELDS) :]
    if to_be_signed.tag != der.SEQUENCE or tags[: len(_FIELDS)] != _FIELDS:
        raise Unreadable("no to-be-signed certificate: its fields are not those of RFC 5280, section 4.1")
    if not _AFTER_FIELDS.issuperset(rest) or list(rest) != sorted(set(rest)):
        raise Unreadable("no to-be-signed certificate: what follows the public key does not belong there")
    if rest and len(numbered) == len(fields):
        raise Unreadable("no to-be-signed certificate: extensions, and no version 3")
    return fields


def _extensions(last: Element) -> dict[bytes, Element]:
    """The extensions by the content of their object identifier, in their order."""
    if last.tag != _EXTENSIONS:
        return {}
    found: dict[bytes, Element] = {}
    if len(last.children) != 1 or last.children[0].tag != der.SEQUENCE:
        raise Unreadable("the extensions are not one sequence")
    for extension in last.children[0].children:
        tags = [part.tag for part in extension.children]
        critical = [der.BOOLEAN] if len(tags) == 3 else []
        if extension.tag != der.SEQUENCE or tags != [der.OBJECT_IDENTIFIER, *critical, der.OCTET_STRING]:
            raise Unreadable("an extension is not an object identifier and a value")
        identifier = extension.children[0].value
        if identifier in found:
            raise Unreadable("an extension is there twice")
        found[identifier] = extension
    return found


def _without_sct_list(fields: Sequence[Element], extensions: dict[bytes, Element]) -> bytes:
    """The to-be-signed part as a precertificate has it in the log."""
    before = b"".join(field.octets for field in fields if field.tag != _EXTENSIONS)
    if not extensions:
        return der.encode(der.SEQUENCE, before)
    kept = b"".join(extension.octets for oid, extension in extensions.items() if oid != _SCT_LIST)
    return der.encode(der.SEQUENCE, before + der.encode(_EXTENSIONS, der.encode(der.SEQUENCE, kept)))


def _serial(element: Element) -> str:
    """Lower-case hexadecimal, two digits for each octet."""
    number = int.from_bytes(element.value, "big", signed=True)
    if number < 0 or number.bit_length() > 8 * MAX_SERIAL_OCTETS:
        raise Unreadable("a serial number that none can be")
    return number.to_bytes(max(1, -(-number.bit_length() // 8)), "big").hex()


def _validity(element: Element) -> tuple[int, int]:
    if len(element.children) != 2:
        raise Unreadable("a validity is two times")
    first, last = element.children
    return _seconds(first), _seconds(last)


def _seconds(element: Element) -> int:
    """Seconds since the Unix epoch; both kinds of time as RFC 5280, section 4.1.2.5, writes them."""
    octets = element.value
    digits = {der.UTC_TIME: 12, der.GENERALIZED_TIME: 14}.get(element.tag)
    if digits is None or len(octets) != digits + 1 or not octets[:-1].isdigit() or octets[-1:] != b"Z":
        raise Unreadable("a time that is not in UTC, to the second")
    text = octets[:-1].decode("ascii")
    if digits == 12:
        text = f"{'19' if text >= '5' else '20'}{text}"
    year, *others = (int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2)))
    month, day, hour, minute, second = others
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except (ValueError, OverflowError) as error:
        raise Unreadable("a time that no calendar has") from error


def _names(extensions: dict[bytes, Element]) -> tuple[str, ...]:
    extension = extensions.get(_SUBJECT_ALTERNATIVE_NAME)
    if extension is None:
        return ()
    names = der.parse(extension.children[-1].value)
    if names.tag != der.SEQUENCE or not names.children:
        raise Unreadable("subject alternative names that are no sequence, or an empty one")
    if len(names.children) > MAX_NAMES:
        raise Unreadable(f"{len(names.children)} names; at most {MAX_NAMES} are watched")
    return tuple(sorted({_name(name) for name in names.children}))


def _name(name: Element) -> str:
    """One GeneralName (RFC 5280, section 4.2.1.6)."""
    if name.tag not in _NAME_TAGS:
        raise Unreadable(f"there is no kind of name with the tag {name.tag:02x}")
    if name.tag == _IP_NAME:
        return _address(name.value)
    if name.tag == _DNS_NAME:
        return f"dns:{_domain(_text(name, MAX_DNS_NAME))}"
    if name.tag == _EMAIL_NAME:
        return f"email:{_email(_text(name, MAX_EMAIL))}"
    if name.tag == _URI_NAME:
        return f"uri:{_uri(_text(name, MAX_URI))}"
    return f"other:{name.tag:02x}:{sha256(name.value).hexdigest()}"


def _text(name: Element, at_most: int) -> str:
    text = name.value.decode("latin-1")
    if len(text) > at_most or not _VISIBLE.fullmatch(text):
        raise Unreadable(f"a name that is empty, longer than {at_most} octets, or not visible ASCII")
    return text


def _address(octets: bytes) -> str:
    if len(octets) not in {4, 16}:
        raise Unreadable(f"an IP address of {len(octets)} octets")
    return f"ip:{ip_address(octets)}"


def _domain(text: str) -> str:
    """A DNS name. What stands in its labels is not judged: also a name that nobody may have is watched."""
    labels = text.removeprefix("*.").split(".")
    if "*" in text.removeprefix("*.") or not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise Unreadable("a DNS name with an empty label, one that is too long, or a star that is not the first label")
    return text.lower()


def _email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not local or not domain:
        raise Unreadable("an e-mail address without an address")
    return f"{local}{at}{domain.lower()}"


def _uri(text: str) -> str:
    parts = _URI.fullmatch(text)
    if parts is None:
        raise Unreadable("a URI without a scheme")
    scheme, authority, rest = parts.groups(default="")
    # What stands before the at sign is whoever asks, and not the host.
    user, at, host = authority.rpartition("@")
    return f"{scheme.lower()}{user}{at}{host.lower()}{rest}"
