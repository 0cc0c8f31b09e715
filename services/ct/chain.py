"""Which chains are logged (RFC 6962, section 3.1), and what of them is. Pure.

Rules:
- Every certificate is signed by the next one, and may sign certificates if it did; the last one is an accepted root, or
  is signed by one. Dates do not count: a log tells what was issued, also what is no longer or not yet valid.
- The poison decides what an entry is: critical, exactly once, with NULL in it (section 3.1). A precertificate in
  add-chain and a certificate in add-pre-chain are refused.
- What is logged of a precertificate is its to-be-signed part without the poison, cut out octet for octet. If a
  Precertificate Signing Certificate signed it, the issuer and the authority key identifier become those of the real
  issuer, and so does the issuer key hash.
- The chain is kept with its root, whether or not that was sent.
- The verified part above a certificate is remembered: it is the same for all certificates of one issuer.
- Chains are verified from the root down, by no key before its certificate may sign, and nothing is taken apart before
  that: who has no certificate of an accepted authority could otherwise make the log compute with keys, names and
  extensions of his own, as dear as he likes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from services import der
from services.ct.messages import MAX_CERTIFICATE_OCTETS, MAX_CHAIN, EntryType, Refusal
from services.der import DerError, Element
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, SignedEntry, X509Entry

POISON: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.3")
PRECERTIFICATE_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")
REMEMBERED_ISSUERS: Final = 64

_POISON_OID: Final = bytes.fromhex("060a2b06010401d679020403")
_AUTHORITY_KEY_IDENTIFIER_OID: Final = bytes.fromhex("0603551d23")
_NULL: Final = b"\x05\x00"
_TRUE: Final = b"\x01\x01\xff"
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_ISSUER_AT: Final = 2  # among the fields of a to-be-signed certificate after the version
_SUBJECT_AT: Final = 4
_KEY_AT: Final = 5
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Submission:
    """A chain that is to be logged.

    `entry` is the signed entry encoded, `identity` its SHA-256: what is the same entry has the same identity, whatever
    the chain above it. `issuers` are the certificates above it, DER, root included.
    """

    entry: bytes
    identity: bytes
    pre_certificate: bytes | None
    issuers: tuple[bytes, ...]
    fingerprints: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Certificate:
    der: bytes
    parsed: x509.Certificate


@dataclass(frozen=True, slots=True)
class _Issuers:
    """The verified certificates above an entry, the nearest first."""

    certificates: tuple[_Certificate, ...]
    ders: tuple[bytes, ...]
    fingerprints: tuple[bytes, ...]
    real_issuer_key_hash: bytes
    signs_for_another: bool


class AcceptedRoots:
    """The roots at which chains may end. Grows only."""

    def __init__(self, certificates: Iterable[bytes] = ()) -> None:
        self._by_fingerprint: dict[bytes, _Certificate] = {}
        self._by_subject: dict[bytes, list[_Certificate]] = {}
        for each in certificates:
            self.add(each)

    @property
    def certificates(self) -> list[bytes]:
        """All of them, DER, in the order in which they came."""
        return [root.der for root in self._by_fingerprint.values()]

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    def __contains__(self, certificate: bytes) -> bool:
        return sha256(certificate).digest() in self._by_fingerprint

    def add(self, certificate: bytes) -> bool:
        """Accept one more; False if it is known. Raises Refusal when it may not sign certificates."""
        fingerprint = sha256(certificate).digest()
        if fingerprint in self._by_fingerprint:
            return False
        root = _load(certificate, "certificates")
        _check_may_sign(root, "certificates")
        self._by_fingerprint[fingerprint] = root
        self._by_subject.setdefault(_field(certificate, _SUBJECT_AT), []).append(root)
        return True

    def above(self, certificate: _Certificate) -> Iterable[_Certificate]:
        """Those that bear the name of its issuer, octet for octet."""
        return self._by_subject.get(_field(certificate.der, _ISSUER_AT), ())


class ChainPolicy:
    """Decides about chains that end at `roots`."""

    def __init__(self, roots: AcceptedRoots) -> None:
        self._roots = roots
        self._known: dict[tuple[bytes, ...], _Issuers] = {}

    def accept(self, chain: Sequence[bytes], entry_type: EntryType) -> Submission:
        """What is to be logged of this chain. Raises Refusal."""
        if not 1 <= len(chain) <= MAX_CHAIN:
            raise Refusal("malformed", "chain", f"a chain has 1 to {MAX_CHAIN} certificates; this one {len(chain)}")
        leaf = _load(chain[0], "chain")
        issuers = self._issuers(leaf, tuple(chain[1:]))
        _check_signed(leaf, issuers.certificates[0], "certificate 1")
        tbs = _Tbs.of(chain[0])
        _check_entry_type(tbs, entry_type)
        entry = _entry(leaf, tbs, entry_type, issuers)
        encoded = structures.signed_entry(entry)
        return Submission(
            entry=encoded,
            identity=sha256(encoded).digest(),
            pre_certificate=leaf.der if entry_type == "precert" else None,
            issuers=issuers.ders,
            fingerprints=issuers.fingerprints,
        )

    def _issuers(self, leaf: _Certificate, above: tuple[bytes, ...]) -> _Issuers:
        known = self._known.get(above) if above else None
        if known is None:
            known = self._verified(leaf, [_load(each, "chain") for each in above])
            if above:
                while len(self._known) >= REMEMBERED_ISSUERS:
                    del self._known[next(iter(self._known))]
                self._known[above] = known
        return known

    def _verified(self, leaf: _Certificate, above: list[_Certificate]) -> _Issuers:
        last = above[-1] if above else leaf
        if not above or last.der not in self._roots:
            above = [*above, self._root_above(last)]
        for number, (below, issuer) in reversed([*enumerate(pairwise(above), 2)]):
            _check_may_sign(issuer, "chain")
            _check_signed(below, issuer, f"certificate {number}")
        _check_may_sign(above[0], "chain")
        return _issuers_of(above)

    def _root_above(self, last: _Certificate) -> _Certificate:
        for root in self._roots.above(last):
            if _is_signed(last, root):
                return root
        raise Refusal("unknown-root", "chain", "the chain does not end at a root that this log accepts: see get-roots")


@dataclass(frozen=True, slots=True)
class _Tbs:
    """A to-be-signed certificate taken apart: the fields before the extensions, and the extensions."""

    fields: tuple[Element, ...]
    extensions: tuple[Element, ...]

    @classmethod
    def of(cls, certificate: bytes) -> _Tbs:
        try:
            fields = _fields(certificate)
            extensions: list[Element] = []
            if fields[-1].tag == _EXTENSIONS:
                extensions = der.members(der.whole(fields.pop().value, der.SEQUENCE))
            return cls(tuple(fields), tuple(extensions))
        except DerError as error:
            raise Refusal("malformed", "chain", f"a certificate is not DER: {error}") from error

    @property
    def _first(self) -> int:
        return _first(self.fields)

    @property
    def issuer(self) -> Element:
        return self.fields[self._first + _ISSUER_AT]

    @property
    def public_key(self) -> bytes:
        return self.fields[self._first + _KEY_AT].octets

    def named(self, oid: bytes) -> list[Element]:
        return [each for each in self.extensions if each.value.startswith(oid)]

    def encoded(self) -> bytes:
        fields = b"".join(field.octets for field in self.fields)
        if self.extensions:
            listed = der.encode(der.SEQUENCE, b"".join(each.octets for each in self.extensions))
            fields += der.encode(_EXTENSIONS, listed)
        return der.encode(der.SEQUENCE, fields)

    def without(self, oid: bytes) -> _Tbs:
        return _Tbs(self.fields, tuple(each for each in self.extensions if not each.value.startswith(oid)))

    def issued_by(self, signer: _Tbs) -> _Tbs:
        """As if the issuer of `signer` had issued it: with its name and its authority key identifier."""
        at = self._first + _ISSUER_AT
        fields = (*self.fields[:at], signer.issuer, *self.fields[at + 1 :])
        new = signer.named(_AUTHORITY_KEY_IDENTIFIER_OID)
        kept = [each for each in self.extensions if not each.value.startswith(_AUTHORITY_KEY_IDENTIFIER_OID)]
        for place, each in enumerate(self.extensions):
            if each.value.startswith(_AUTHORITY_KEY_IDENTIFIER_OID):
                return _Tbs(fields, (*kept[:place], *new, *kept[place:]))
        return _Tbs(fields, (*kept, *new))


def _fields(certificate: bytes) -> list[Element]:
    """The fields of the to-be-signed part, the key among them. Raises DerError."""
    parts = der.members(der.whole(certificate, der.SEQUENCE))
    if len(parts) != 3:
        raise DerError("a certificate has three parts")
    fields = der.members(der.whole(parts[0].octets, der.SEQUENCE))
    if not fields or len(fields) <= _first(fields) + _KEY_AT or fields[_first(fields) + _KEY_AT].tag != der.SEQUENCE:
        raise DerError("a certificate without a key")
    return fields


def _first(fields: Sequence[Element]) -> int:
    return 1 if fields[0].tag == _VERSION else 0


def _field(certificate: bytes, at: int) -> bytes:
    """One field of the to-be-signed part; none of the others is looked into. Raises Refusal."""
    try:
        fields = _fields(certificate)
    except DerError as error:
        raise Refusal("malformed", "chain", f"a certificate is not DER: {error}") from error
    return fields[_first(fields) + at].octets


def tbs_without_poison(pre_certificate: bytes) -> bytes:
    """The to-be-signed part of a precertificate without its poison, as it is logged. Raises Refusal."""
    tbs = _Tbs.of(pre_certificate)
    _check_entry_type(tbs, "precert")
    return tbs.without(_POISON_OID).encoded()


def tbs_without(certificate: bytes, extension: bytes) -> bytes:
    """The to-be-signed part of a certificate without the extension of this identifier (an OBJECT IDENTIFIER, DER)."""
    return _Tbs.of(certificate).without(extension).encoded()


def public_key_hash(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate, as it stands there. Raises Refusal."""
    return sha256(_Tbs.of(certificate).public_key).digest()


def _check_entry_type(tbs: _Tbs, entry_type: EntryType) -> None:
    poison = tbs.named(_POISON_OID)
    if entry_type == "x509":
        if poison:
            raise Refusal("wrong-entry-type", "chain", "it begins with a precertificate: use add-pre-chain")
        return
    if not poison:
        raise Refusal("wrong-entry-type", "chain", "it does not begin with a precertificate: use add-chain")
    expected = _POISON_OID + _TRUE + der.encode(der.OCTET_STRING, _NULL)
    if len(poison) != 1 or poison[0].value != expected or poison[0].tag != der.SEQUENCE:
        raise Refusal("malformed", "chain", "the poison of a precertificate is critical, holds NULL, and is there once")


def _entry(leaf: _Certificate, tbs: _Tbs, entry_type: EntryType, issuers: _Issuers) -> SignedEntry:
    if entry_type == "x509":
        return X509Entry(leaf.der)
    logged = tbs.without(_POISON_OID)
    if issuers.signs_for_another:
        logged = logged.issued_by(_Tbs.of(issuers.ders[0]))
    return PrecertEntry(issuers.real_issuer_key_hash, logged.encoded())


def _issuers_of(certificates: Sequence[_Certificate]) -> _Issuers:
    for_another = _signs_precertificates(certificates[0].parsed)
    if for_another and len(certificates) < 2:
        raise Refusal("bad-chain", "chain", "the issuer of the precertificate signing certificate is missing")
    ders = tuple(each.der for each in certificates)
    return _Issuers(
        certificates=tuple(certificates),
        ders=ders,
        fingerprints=tuple(sha256(each).digest() for each in ders),
        real_issuer_key_hash=public_key_hash(ders[1 if for_another else 0]),
        signs_for_another=for_another,
    )


def _signs_precertificates(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return PRECERTIFICATE_SIGNING in usage.value


def _load(certificate: bytes, field: str) -> _Certificate:
    if not 0 < len(certificate) <= MAX_CERTIFICATE_OCTETS:
        raise Refusal("malformed", field, f"a certificate has 1 to {MAX_CERTIFICATE_OCTETS} octets")
    try:
        with _without_warnings():
            return _Certificate(certificate, x509.load_der_x509_certificate(certificate))
    except _PARSE_ERRORS as error:
        raise Refusal("malformed", field, f"a certificate cannot be read ({_reason(error)})") from error


def _check_may_sign(certificate: _Certificate, field: str) -> None:
    try:
        may = _may_sign(certificate.parsed)
    except _PARSE_ERRORS as error:
        raise Refusal("malformed", field, f"extensions cannot be read ({_reason(error)})") from error
    if not may:
        raise Refusal("bad-chain", field, "a certificate that signed, or is to sign, another one is no authority's")


def _may_sign(certificate: x509.Certificate) -> bool:
    with _without_warnings():
        extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _check_signed(below: _Certificate, issuer: _Certificate, which: str) -> None:
    if not _is_signed(below, issuer):
        raise Refusal("bad-chain", "chain", f"{which} of the chain is not signed by the next one")


def _is_signed(below: _Certificate, issuer: _Certificate) -> bool:
    try:
        with _without_warnings():
            below.parsed.verify_directly_issued_by(issuer.parsed)
    except (*_PARSE_ERRORS, InvalidSignature):
        return False
    return True


def _without_warnings() -> AbstractContextManager[object]:
    """The parser warns of what it will refuse one day: that would let anybody write to standard error."""
    return warnings.catch_warnings(action="ignore")


def _reason(error: BaseException) -> str:
    """One bounded line of the parser's own words; they describe structure and hold nothing of the content."""
    return " ".join(str(error).split())[:160] or type(error).__name__
