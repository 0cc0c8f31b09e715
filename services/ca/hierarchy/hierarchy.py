"""The authority's own certificates: roots, and the intermediates below them that issue. Pure.

Rules:
- An authority is named by the serial number of its certificate, in lower-case hexadecimal.
- Of each kind, classical and post-quantum, one root and one intermediate below it are active. All others are retired:
  they issue nothing, but their keys stay, for revocation lists and OCSP responders until their last leaf has expired.
- The private key of a root may be elsewhere; that of an intermediate is here.
- A chain leads from an issuer up to below its root. While an earlier root is still in use among clients, its
  certificate for the key of the later root follows (the cross certificate): they verify through it.
- `verify` accepts only certificates that belong together and to their private keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from services.ca.keys import signatures, signing_keys
from services.ca.keys.signing_keys import SigningKey, spki
from services.ca.policy.name_constraints import NameConstraints
from services.ca.policy.profile import Validity
from services.ca.serials import serial_text

Kind = Literal["classical", "post-quantum"]
State = Literal["active", "retired"]

KINDS: Final[tuple[Kind, ...]] = ("classical", "post-quantum")
SECONDS_PER_DAY: Final = 86_400
MAX_CROSS_CERTIFICATES: Final = 3  # in one chain


T = TypeVar("T", "Issuer", "Root")
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension)


class HierarchyMismatch(ValueError):
    """Keys and certificates that do not belong together. The text says which, and how."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that issues, with its private key.

    `path` leads from it up to below its root; `crosses` go on from there to roots that are older than its own.
    """

    certificate: x509.Certificate
    private_key: SigningKey
    key_identifier: x509.AuthorityKeyIdentifier
    path: tuple[x509.Certificate, ...]
    id: str
    kind: Kind
    constraints: tuple[NameConstraints, ...] = ()
    crosses: tuple[x509.Certificate, ...] = ()
    state: State = "active"
    since: int = 0

    @classmethod
    def of(
        cls,
        certificate: x509.Certificate,
        private_key: SigningKey,
        above: Iterable[x509.Certificate] = (),
        *,
        state: State = "active",
        since: int = 0,
    ) -> Issuer:
        """An issuer with the certificates between it and its root; `since`: seconds since the Unix epoch.

        Raises HierarchyMismatch for a certificate that is not that of an authority.
        """
        path = (certificate, *above)
        try:
            identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
            constraints = NameConstraints.in_certificates(*path)
            kind = kind_of(certificate)
            return cls(certificate, private_key, aki, path, id_of(certificate), kind, constraints, (), state, since)
        except _UNREADABLE as error:
            raise HierarchyMismatch(f"{_name(certificate.subject)} is not an authority: {error}") from error

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What clients are given: the path, and the cross certificates."""
        return self.path + self.crosses

    def trouble(self, now: int) -> str | None:
        """Why it cannot issue at `now`, seconds since the Unix epoch, in the operator's terms."""
        validity = self.validity
        if now > validity.not_after:
            return (
                f"the intermediate certificate expired on {_date(validity.not_after)}: replace it with "
                "`trustchain ca rotate intermediate`"
            )
        if now < validity.not_before:
            return (
                f"the intermediate certificate is valid from {_date(validity.not_before)} on, and the clock of this "
                f"host says {_date(now)}: set the clock"
            )
        return None

    @property
    def validity(self) -> Validity:
        """When what this issuer signs can be valid."""
        return validity_of(self.certificate)

    def chain_at(self, now: int) -> tuple[x509.Certificate, ...]:
        """The chain up to the first cross certificate that has expired at `now`: some clients would stumble over it."""
        return self.path + tuple(takewhile(lambda cross: now <= validity_of(cross).not_after, self.crosses))


@dataclass(frozen=True, slots=True)
class Root:
    """A trust anchor. Its key may be elsewhere (None); `cross` is an earlier root's certificate for the same key."""

    certificate: x509.Certificate
    private_key: SigningKey | None
    id: str
    kind: Kind
    cross: x509.Certificate | None = None
    state: State = "active"
    since: int = 0

    @classmethod
    def of(
        cls,
        certificate: x509.Certificate,
        private_key: SigningKey | None,
        cross: x509.Certificate | None = None,
        *,
        state: State = "active",
        since: int = 0,
    ) -> Root:
        """A root; `since` is in seconds since the Unix epoch."""
        return cls(certificate, private_key, id_of(certificate), kind_of(certificate), cross, state, since)

    @property
    def validity(self) -> Validity:
        """When this root can be trusted."""
        return validity_of(self.certificate)

    def signer(self) -> Issuer | None:
        """The root as somebody who signs; None if its key is not here."""
        if self.private_key is None:
            return None
        return Issuer.of(self.certificate, self.private_key, state=self.state, since=self.since)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """All roots and issuers, by id. Raises HierarchyMismatch unless of each kind one issuer and its root are active."""

    roots: Mapping[str, Root]
    issuers: Mapping[str, Issuer]

    @classmethod
    def of(cls, roots: Iterable[Root], issuers: Iterable[Issuer]) -> Hierarchy:
        """Put together; the issuers get their cross certificates, and the constraints of their root, here."""
        by_id = MappingProxyType({root.id: root for root in roots})
        led = [_led(issuer, by_id.values()) for issuer in issuers]
        return cls(by_id, MappingProxyType({issuer.id: issuer for issuer in led}))

    def __post_init__(self) -> None:
        for kind in {each.kind for each in self.authorities}:
            active = [each for each in self.authorities if each.kind == kind and each.state == "active"]
            for title, of_role in (("root", Root), ("intermediate", Issuer)):
                count = sum(isinstance(each, of_role) for each in active)
                if count != 1:
                    raise HierarchyMismatch(f"{count} {kind} {title} certificates are active; one has to be")
            if self.root_above(self.active(kind)).id != self.active_root(kind).id:
                raise HierarchyMismatch(f"the active {kind} intermediate is not below the active root")

    @property
    def authorities(self) -> tuple[Root | Issuer, ...]:
        """All of them, roots first."""
        return (*self.roots.values(), *self.issuers.values())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that exist here."""
        return tuple(kind for kind in KINDS if any(issuer.kind == kind for issuer in self.issuers.values()))

    def active(self, kind: Kind = "classical") -> Issuer:
        """The intermediate that issues. Raises LookupError if there is none of this kind."""
        return _active(self.issuers.values(), kind)

    def active_root(self, kind: Kind = "classical") -> Root:
        """The root above the intermediate that issues. Raises LookupError if there is none of this kind."""
        return _active(self.roots.values(), kind)

    @property
    def issuer(self) -> Issuer:
        """The classical intermediate that issues."""
        return self.active()

    @property
    def root(self) -> x509.Certificate:
        """The active classical root."""
        return self.active_root().certificate

    def root_above(self, issuer: Issuer) -> Root:
        """The root that an issuer's path leads to. Raises HierarchyMismatch."""
        return _root_above(issuer, self.roots.values())

    def trusted(self, kind: Kind = "classical") -> tuple[x509.Certificate, ...]:
        """The roots that clients have to know, the active one first, the latest of the others next."""
        mine = [root for root in self.roots.values() if root.kind == kind]
        mine.sort(key=lambda root: (root.state != "active", -root.since, root.id))
        return tuple(root.certificate for root in mine)

    def anchors(self) -> list[bytes]:
        """Every root (DER): where the chains of whatever was issued here end."""
        return [root.certificate.public_bytes(Encoding.DER) for root in self.roots.values()]

    def with_intermediate(self, issuer: Issuer, now: int, root: Root | None = None) -> Hierarchy:
        """Another intermediate becomes the active one of its kind, below `root` if that is new; the others retire."""
        top = root or self.root_above(issuer)
        others = (_retired(each, now) if each.kind == issuer.kind else each for each in self.issuers.values())
        roots = (
            _activated(each, now) if each.id == top.id else _retired(each, now) if each.kind == top.kind else each
            for each in ({**self.roots, top.id: top}).values()
        )
        return Hierarchy.of(roots, (*others, replace(issuer, state="active", since=now)))

    def without_root_key(self, root_id: str) -> Hierarchy:
        """The key of a root is kept elsewhere from now on. Raises KeyError."""
        roots = {**self.roots, root_id: replace(self.roots[root_id], private_key=None)}
        return Hierarchy(MappingProxyType(roots), self.issuers)


def id_of(certificate: x509.Certificate) -> str:
    """What an authority is called: the serial number of its certificate."""
    return serial_text(certificate.serial_number)


def kind_of(certificate: x509.Certificate) -> Kind:
    """Post-quantum if the certificate's key signs with ML-DSA. Raises ValueError for a key of no known type."""
    try:
        return "post-quantum" if signing_keys.is_post_quantum(certificate.public_key()) else "classical"
    except UnsupportedAlgorithm as error:
        raise ValueError(f"its public key cannot be used: {error}") from error


def validity_of(certificate: x509.Certificate) -> Validity:
    """First and last valid second of a certificate."""
    return Validity(int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp()))


def verify(hierarchy: Hierarchy) -> None:
    """Check keys, certificates and signatures against each other. Raises HierarchyMismatch.

    Costs about 0.1 ms for each signature of a classical key: not for every start.
    """
    for title, certificate, key in _with_keys(hierarchy):
        check_authority(title, certificate)
        if key is not None and spki(certificate.public_key()) != spki(key.public_key()):
            raise HierarchyMismatch(f"the {title} certificate and the {title} key do not belong together")
    for root in hierarchy.roots.values():
        _check_signature(f"root {root.id}", root.certificate, root.certificate)
        if root.cross is not None:
            _check_cross(root, hierarchy.roots.values())
    for issuer in hierarchy.issuers.values():
        path = (*issuer.path, hierarchy.root_above(issuer).certificate)
        for number, (lower, upper) in enumerate(pairwise(path)):
            title = f"intermediate {issuer.id}" if number == 0 else f"certificate above the intermediate {issuer.id}"
            _check_signature(title, lower, upper)


def prove(issuer: Issuer) -> None:
    """Sign something that is no certificate, and verify it with the issuer's certificate. Raises InvalidSignature."""
    signatures.prove(issuer.private_key, issuer.certificate.public_key())


def check_authority(title: str, certificate: x509.Certificate) -> None:
    """Raises HierarchyMismatch for a certificate that is not allowed to sign certificates (RFC 5280, section 6.1.4)."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        spki(certificate.public_key())
    except _UNREADABLE as error:
        raise HierarchyMismatch(f"the {title} certificate is not that of an authority: {error}") from error
    if not constraints.ca or not usage.key_cert_sign:
        raise HierarchyMismatch(f"the {title} certificate is not allowed to sign certificates")


def _with_keys(hierarchy: Hierarchy) -> Iterator[tuple[str, x509.Certificate, SigningKey | None]]:
    for root in hierarchy.roots.values():
        yield f"root {root.id}", root.certificate, root.private_key
    for issuer in hierarchy.issuers.values():
        yield f"intermediate {issuer.id}", issuer.certificate, issuer.private_key


def _check_signature(title: str, lower: x509.Certificate, upper: x509.Certificate) -> None:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise HierarchyMismatch(f"the {title} is not signed by {_name(upper.subject)}: {error}".rstrip(": ")) from error


def _check_cross(root: Root, roots: Iterable[Root]) -> None:
    cross = root.cross
    if cross is None or spki(cross.public_key()) != spki(root.certificate.public_key()):
        raise HierarchyMismatch(f"the cross certificate of the root {root.id} is for another key")
    if cross.subject != root.certificate.subject:
        raise HierarchyMismatch(f"the cross certificate of the root {root.id} has another name")
    earlier = next((each for each in roots if is_named_by(cross, each.certificate)), None)
    if earlier is None:
        raise HierarchyMismatch(f"the root that signed the cross certificate of the root {root.id} is missing")
    _check_signature(f"cross certificate of the root {root.id}", cross, earlier.certificate)


def _led(issuer: Issuer, roots: Iterable[Root]) -> Issuer:
    root = _root_above(issuer, roots)
    constraints = NameConstraints.in_certificates(*issuer.path, root.certificate)
    return replace(issuer, crosses=_crosses(root, roots), constraints=constraints)


def _root_above(issuer: Issuer, roots: Iterable[Root]) -> Root:
    top = issuer.path[-1]
    for root in roots:
        if is_named_by(top, root.certificate):
            return root
    raise HierarchyMismatch(f"the root above the intermediate {issuer.id} is missing: {_name(top.issuer)}")


def _crosses(root: Root, roots: Iterable[Root]) -> tuple[x509.Certificate, ...]:
    """From a root to the one before it, and so on, as far as they are cross-certified."""
    crosses: list[x509.Certificate] = []
    below: Root | None = root
    while below is not None and below.cross is not None and len(crosses) < MAX_CROSS_CERTIFICATES:
        cross = below.cross
        crosses.append(cross)
        below = next((each for each in roots if is_named_by(cross, each.certificate)), None)
    return tuple(crosses)


def is_named_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Whether `lower` says that `upper` signed it, by name and key identifier. No signature is looked at."""
    if lower.issuer != upper.subject:
        return False
    try:
        said = lower.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        return said is None or said == upper.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return True


def _active(found: Iterable[T], kind: Kind) -> T:
    for each in found:
        if each.kind == kind and each.state == "active":
            return each
    raise LookupError(f"there is no {kind} hierarchy here")


def _activated(root: Root, now: int) -> Root:
    return root if root.state == "active" else replace(root, state="active", since=now)


def _retired(authority: T, now: int) -> T:
    return authority if authority.state == "retired" else replace(authority, state="retired", since=now)


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "an authority without a name"


def _date(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat()
