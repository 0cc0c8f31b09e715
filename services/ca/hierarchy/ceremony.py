"""Changes of the hierarchy: its beginning, rotation, import. Pure: keys, serial numbers and time are arguments.

Rules:
- Each change gives a whole new Hierarchy, in which exactly one intermediate and its root are active for each kind. What
  was active before is retired: it issues nothing more, but it stays for status and for chains.
- A new root is certified by the one before it (the cross certificate), so that clients which know only the old root go
  on verifying. Where the old root's path length forbids that, the operator has to say that it may be left out.
- What needs a root's key and has none says so (`key-elsewhere`).
- An imported authority is looked at as a relying party would (RFC 5280, section 6.1), and its key as if it were to be
  certified here: nothing becomes active with which issuing would be in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.creation import Plan, create_intermediate, create_root, cross_certify, levels_below
from services.ca.hierarchy.hierarchy import (
    Hierarchy,
    HierarchyMismatch,
    Issuer,
    Kind,
    Root,
    is_named_by,
    kind_of,
    validity_of,
)
from services.ca.hierarchy.messages import CeremonyRefused
from services.ca.keys.signing_keys import SigningKey, spki
from services.ca.messages import Refusal
from services.ca.policy import public_keys
from services.ca.policy.name_constraints import KINDS_OF_SUBTREES


@dataclass(frozen=True, slots=True)
class Means:
    """What a ceremony works with: the plan, fresh serial numbers, and `now` in seconds since the Unix epoch."""

    plan: Plan
    new_serial: Callable[[], int]
    now: int


def kind_to_import(certificate: x509.Certificate) -> Kind:
    """The kind of an authority that was made elsewhere. Raises CeremonyRefused."""
    try:
        return kind_of(certificate)
    except ValueError as error:
        raise CeremonyRefused("bad-key", "certificate", str(error)) from error


def begun(means: Means, root_key: SigningKey, key: SigningKey) -> Hierarchy:
    """A hierarchy of one kind, that of the keys."""
    certificate = create_root(means.plan, root_key, means.new_serial(), means.now)
    root = Root.of(certificate, root_key, since=means.now)
    return Hierarchy.of([root], [_below(means, root, root_key, key)])


def joined(current: Hierarchy, other: Hierarchy) -> Hierarchy:
    """A hierarchy of another kind beside those that there are."""
    return Hierarchy.of(
        (*current.roots.values(), *other.roots.values()), (*current.issuers.values(), *other.issuers.values())
    )


def rotated_intermediate(
    current: Hierarchy, kind: Kind, means: Means, key: SigningKey, root_key: SigningKey | None = None
) -> Hierarchy:
    """A new intermediate below the active root. `root_key`: if it is kept elsewhere. Raises CeremonyRefused."""
    root = current.active_root(kind)
    return current.with_intermediate(_below(means, root, key_of(root, root_key), key), means.now)


def rotated_root(
    current: Hierarchy,
    means: Means,
    new_root_key: SigningKey,
    key: SigningKey,
    *,
    cross: bool = True,
    root_key: SigningKey | None = None,
) -> Hierarchy:
    """A new root of the kind of its key, certified by the active one, and a new intermediate below it.

    `root_key` is that of the active root, if it is kept elsewhere. Raises CeremonyRefused.
    """
    certificate = create_root(means.plan, new_root_key, means.new_serial(), means.now)
    root = Root.of(certificate, new_root_key, since=means.now)
    if cross:
        root = _crossed(current, means, root, root_key)
    return current.with_intermediate(_below(means, root, new_root_key, key), means.now, root)


def imported_root(
    current: Hierarchy, means: Means, certificate: x509.Certificate, root_key: SigningKey, key: SigningKey
) -> Hierarchy:
    """A root that was made elsewhere, with a new intermediate below it.

    Certified by the active root where that can be done. Raises CeremonyRefused.
    """
    _check_import(certificate, root_key.public_key(), means.now)
    _check_signed(certificate, certificate)
    if levels_below(certificate) == 0:
        raise CeremonyRefused("bad-authority", "certificate", "its path length is 0: nothing can be below it")
    root = Root.of(certificate, root_key, since=means.now)
    _check_new(current, certificate)
    before = current.active_root(root.kind) if root.kind in current.kinds else None
    if before is not None and before.private_key is not None and _may_cross(before):
        root = _crossed(current, means, root, None)
    return current.with_intermediate(_below(means, root, root_key, key), means.now, root)


def imported_intermediate(
    current: Hierarchy, now: int, certificate: x509.Certificate, others: Sequence[x509.Certificate], key: SigningKey
) -> Hierarchy:
    """An intermediate that was signed elsewhere. `others`: what is above it, in any order, the root too unless known.

    Raises CeremonyRefused.
    """
    _check_import(certificate, key.public_key(), now)
    _check_new(current, certificate)
    above = _path(certificate, [*others, *(root.certificate for root in current.roots.values())])
    top = above[-1]
    for number, (lower, upper) in enumerate(zip((certificate, *above), above, strict=False)):
        _check_signed(lower, upper)
        _check_import(upper, upper.public_key(), now)
        allowed = levels_below(upper)
        if allowed is not None and allowed <= number:
            raise CeremonyRefused("bad-authority", "chain", f"the path length of {_name(upper)} is exceeded")
    root = next((root for root in current.roots.values() if root.certificate == top), None)
    if root is None:
        _check_new(current, top, certificate)
        root = Root.of(top, None, since=now)
    issuer = Issuer.of(certificate, key, above[:-1], since=now)
    if root.kind != issuer.kind:
        raise CeremonyRefused("bad-authority", "chain", f"a {issuer.kind} intermediate below a {root.kind} root")
    return current.with_intermediate(issuer, now, root)


def check_rotation(before: Root, brought: SigningKey | None, *, cross: bool) -> None:
    """Whether a root can be followed by another one, before keys are made for it. Raises CeremonyRefused."""
    if cross:
        _check_levels(before)
        key_of(before, brought)


def key_of(root: Root, brought: SigningKey | None) -> SigningKey:
    """The private key of a root: the one that is here, or the one that was brought. Raises CeremonyRefused."""
    if root.private_key is not None:
        return root.private_key
    if brought is None:
        raise CeremonyRefused(
            "key-elsewhere", "root_key", f"the key of the root {root.id} is not here: bring it with --root-key FILE"
        )
    if spki(brought.public_key()) != spki(root.certificate.public_key()):
        raise CeremonyRefused("bad-key", "root_key", f"it is not the key of the root {root.id}")
    return brought


def _below(means: Means, root: Root, root_key: SigningKey, key: SigningKey) -> Issuer:
    certificate = create_intermediate(means.plan, root.certificate, root_key, key, means.new_serial(), means.now)
    return Issuer.of(certificate, key, since=means.now)


def _may_cross(before: Root) -> bool:
    # Below it come the cross certificate and the intermediate.
    allowed = levels_below(before.certificate)
    return allowed is None or allowed >= 2


def _check_levels(before: Root) -> None:
    if not _may_cross(before):
        raise CeremonyRefused(
            "bad-authority",
            None,
            f"the root {before.id} has a path length of {levels_below(before.certificate)}, so that no later root can "
            "be verified through it: clients that know only the old root would reject what is issued from now on. To "
            "rotate it all the same, repeat with --without-cross-certificate",
        )


def _crossed(current: Hierarchy, means: Means, root: Root, brought: SigningKey | None) -> Root:
    before = current.active_root(root.kind)
    _check_levels(before)
    signed = cross_certify(
        before.certificate,
        key_of(before, brought),
        root.certificate,
        means.new_serial(),
        means.now,
        means.plan.backdate,
    )
    return replace(root, cross=signed)


def _check_new(current: Hierarchy, certificate: x509.Certificate, *others: x509.Certificate) -> None:
    """Raises CeremonyRefused if an authority, here or among `others`, has the same name, or is the same."""
    for there in (*(each.certificate for each in current.authorities), *others):
        if there == certificate:
            raise CeremonyRefused("bad-authority", "certificate", f"{_name(certificate)} is here already")
        if hierarchy.id_of(there) == hierarchy.id_of(certificate):
            raise CeremonyRefused(
                "bad-authority",
                "certificate",
                f"{_name(certificate)} and {_name(there)} have the same serial number, {hierarchy.id_of(there)}: "
                "authorities are told apart by it here; have one of them certified anew",
            )


def _path(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """From above `certificate` up to a root that certifies itself."""
    path: list[x509.Certificate] = []
    top = certificate
    while not path or top.subject != top.issuer:
        found = next((each for each in others if is_named_by(top, each) and each not in path), None)
        if found is None:
            raise CeremonyRefused("bad-authority", "chain", f"the certificate of {_issuer(top)} is missing: add it")
        path.append(found)
        top = found
    return path


def _check_import(certificate: x509.Certificate, key: object, now: int) -> None:
    """What holds of every authority, own or above the own."""
    name = _name(certificate)
    try:
        hierarchy.check_authority(name, certificate)
        if spki(certificate.public_key()) != spki(key):
            raise CeremonyRefused("bad-key", "key", f"it is not the key of {name}")
        public_keys.check(certificate.public_key())
    except HierarchyMismatch as error:
        raise CeremonyRefused("bad-authority", "certificate", str(error)) from error
    except Refusal as refusal:
        raise CeremonyRefused("bad-key", "certificate", f"{name}: {refusal.detail}") from refusal
    if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign:
        raise CeremonyRefused("bad-authority", "certificate", f"{name} may not sign revocation lists (cRLSign)")
    if not validity_of(certificate).covers(now):
        raise CeremonyRefused("bad-authority", "certificate", f"{name} is not valid now")
    _check_constraints(certificate)


def _check_constraints(certificate: x509.Certificate) -> None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    for subtree in (*(found.permitted_subtrees or ()), *(found.excluded_subtrees or ())):
        if not isinstance(subtree, KINDS_OF_SUBTREES):
            raise CeremonyRefused(
                "bad-authority", "certificate", f"its name constraints speak of a {type(subtree).__name__}"
            )


def _check_signed(lower: x509.Certificate, upper: x509.Certificate) -> None:
    try:
        lower.verify_directly_issued_by(upper)  # which knows neither SHA-1 nor MD5
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise CeremonyRefused(
            "bad-authority", "chain", f"{_name(lower)} is not signed by {_name(upper)} ({error})".replace(" ()", "")
        ) from error


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string()
