"""Precertificates (RFC 6962, section 3.1) and the certificates that follow from them (section 3.3). Pure.

Rules:
- Both are made of the same octets: the list of timestamps takes the place of the poison, and nothing else changes.
- Whether that holds is not believed but checked, octet for octet, by code that only removes: the certificate to be
  signed without its list must be the precertificate without its poison, which is what the log has signed.
- An extension that is there twice, or is not there, or whose value is not exactly what it must be, is an error: a log
  would remove something else than a client does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509

from services import der
from services.der import DerError, Element
from services.rfc6962 import structures
from services.rfc6962.structures import StructureError

POISON: Final = x509.PrecertPoison()

_POISON: Final = bytes.fromhex("06 0a 2b 06 01 04 01 d6 79 02 04 03")
_SCT_LIST: Final = bytes.fromhex("06 0a 2b 06 01 04 01 d6 79 02 04 02")
_POISON_EXTENSION: Final = der.encode(der.SEQUENCE, _POISON + bytes.fromhex("01 01 ff 04 02 05 00"))
_EXTENSIONS: Final = 0xA3  # [3] EXPLICIT (RFC 5280, section 4.1)


class PrecertificateError(ValueError):
    """Not a precertificate, or not the certificate of that precertificate. The text says why."""


def without_poison(to_be_signed: bytes) -> bytes:
    """The TBSCertificate that a log signs for a precertificate. Raises PrecertificateError."""
    return _without_poison(_ToBeSigned(to_be_signed))


def without_sct_list(to_be_signed: bytes) -> bytes:
    """The TBSCertificate that the embedded timestamps are for. Raises PrecertificateError."""
    return _without_sct_list(_ToBeSigned(to_be_signed))


def embedded_scts(to_be_signed: bytes) -> tuple[bytes, ...]:
    """The timestamps in a TBSCertificate. Raises PrecertificateError when there is no list, or a wrong one."""
    tbs = _ToBeSigned(to_be_signed)
    return _timestamps(tbs.extensions[tbs.only(_SCT_LIST, "list of timestamps")])


def with_scts(to_be_signed: bytes, scts: Sequence[bytes]) -> bytes:
    """The certificate to be signed that follows from a precertificate and timestamps. Raises PrecertificateError."""
    tbs = _ToBeSigned(to_be_signed)
    try:
        value = der.encode(der.OCTET_STRING, der.encode(der.OCTET_STRING, structures.sct_list(scts)))
    except StructureError as error:
        raise PrecertificateError(str(error)) from error
    return tbs.replaced(tbs.only(_POISON, "poison"), der.encode(der.SEQUENCE, _SCT_LIST + value))


def check_correspondence(precertificate: bytes, certificate: bytes) -> None:
    """Whether one TBSCertificate follows from the other, octet for octet. Raises PrecertificateError."""
    before, after = _ToBeSigned(precertificate), _ToBeSigned(certificate)
    if _SCT_LIST in before.identifiers or _POISON in after.identifiers:
        raise PrecertificateError("a list of timestamps in the precertificate, or a poison in the certificate")
    if _without_poison(before) != _without_sct_list(after):
        raise PrecertificateError("the certificate without its timestamps is not the precertificate without its poison")


def _without_poison(tbs: _ToBeSigned) -> bytes:
    place = tbs.only(_POISON, "poison")
    if tbs.extensions[place].octets != _POISON_EXTENSION:
        raise PrecertificateError("the poison is not critical, or is not NULL")
    return tbs.replaced(place, b"")


def _without_sct_list(tbs: _ToBeSigned) -> bytes:
    place = tbs.only(_SCT_LIST, "list of timestamps")
    _timestamps(tbs.extensions[place])
    return tbs.replaced(place, b"")


class _ToBeSigned:
    """The outer structure of a TBSCertificate, down to its extensions."""

    __slots__ = ("_before", "extensions", "identifiers")

    def __init__(self, data: bytes) -> None:
        try:
            whole = der.whole(data, der.SEQUENCE)
            outer = der.members(whole)[-1]
            (inner,) = der.members(outer)
            self.extensions = der.members(inner)
        except (DerError, ValueError, IndexError) as error:
            raise PrecertificateError(f"this is not a TBSCertificate with extensions: {error}") from error
        if (outer.tag, inner.tag) != (_EXTENSIONS, der.SEQUENCE):
            raise PrecertificateError("this is not a TBSCertificate with extensions")
        self._before = data[whole.content : outer.begin]
        self.identifiers = [_identifier(extension) for extension in self.extensions]

    def only(self, identifier: bytes, name: str) -> int:
        """Where the extension is that must be there once."""
        count = self.identifiers.count(identifier)
        if count != 1:
            raise PrecertificateError(f"{count} extensions that are a {name}; one has to be there")
        return self.identifiers.index(identifier)

    def replaced(self, place: int, octets: bytes) -> bytes:
        """The TBSCertificate with other octets in the place of one extension."""
        members = [extension.octets for extension in self.extensions]
        members[place] = octets
        content = b"".join(members)
        extensions = der.encode(_EXTENSIONS, der.encode(der.SEQUENCE, content)) if content else b""
        return der.encode(der.SEQUENCE, self._before + extensions)


def _identifier(extension: Element) -> bytes:
    try:
        return der.members(extension)[0].octets
    except (DerError, IndexError) as error:
        raise PrecertificateError(f"an extension that is none: {error}") from error


def _timestamps(extension: Element) -> tuple[bytes, ...]:
    """RFC 6962, section 3.3: not critical, an OCTET STRING in the OCTET STRING of the value."""
    try:
        _, value = der.members(extension)
        (inner,) = der.members(value)
        if (value.tag, inner.tag) == (der.OCTET_STRING, der.OCTET_STRING):
            return structures.parse_sct_list(inner.value)
    except ValueError as error:
        raise PrecertificateError(f"a list of timestamps that is none: {error}") from error
    raise PrecertificateError("a list of timestamps that is critical, or no list")
