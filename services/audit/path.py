"""From a certificate to the root that is trusted (RFC 5280, section 6.1), as far as it is used here. Pure.

Rules:
- A critical extension that is not judged here makes a path invalid: whoever put it there meant it to be obeyed.
- The root is trusted because the verifier has it, octet for octet; what it says about itself counts all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from config.profile_schema import NameKind
from services.ca.policy.name_constraints import NameConstraints
from services.ca.policy.names import Name
from services.ca.reconciliation.certified import UNREADABLE

_JUDGED: Final = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
)
_KINDS: Final[dict[type[x509.GeneralName], NameKind]] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "uri",
}


class PathRefused(Exception):
    """A relying party would not accept this path. The text says why."""


def check_signatures(path: Sequence[x509.Certificate], roots: Collection[bytes]) -> str:
    """Each certificate is signed by the next, and the last is one of the trusted roots (DER). Raises PathRefused."""
    for lower, upper in pairwise(path):
        try:
            lower.verify_directly_issued_by(upper)
        except (InvalidSignature, *UNREADABLE) as error:
            raise PathRefused(f"{_name(lower)} is not signed by {_name(upper)}: {error}".rstrip(": ")) from error
    if path[-1].public_bytes(serialization.Encoding.DER) not in roots:
        raise PathRefused(f"{_name(path[-1])} is not a trusted root")
    return f"{len(path)} certificates, up to the trusted root {_name(path[-1])}"


def check_validity(path: Sequence[x509.Certificate], at: int) -> str:
    """All are valid at `at`, in seconds since the Unix epoch. Raises PathRefused."""
    for certificate in path:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not first.timestamp() <= at <= last.timestamp():
            raise PathRefused(f"{_name(certificate)} is valid from {first.isoformat()} to {last.isoformat()}")
    last = min(certificate.not_valid_after_utc for certificate in path)
    return f"all are valid until {last.isoformat()}"


def check_constraints(path: Sequence[x509.Certificate]) -> str:
    """The upper ones may sign the lower ones (RFC 5280, section 6.1.4). Raises PathRefused."""
    try:
        for certificate in path:
            _check_critical(certificate)
        for below, authority in enumerate(path[1:]):
            _check_authority(authority, below)
        if _basic(path[0]).ca:
            raise PathRefused("it is the certificate of an authority")
        _check_names(path)
    except UNREADABLE as error:
        raise PathRefused(f"a certificate lacks or repeats an extension: {error}") from error
    return "every issuer may issue"


def _check_authority(authority: x509.Certificate, below: int) -> None:
    """`below` is how many authorities are between it and the last certificate."""
    basic = _basic(authority)
    if not basic.ca or not authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
        raise PathRefused(f"{_name(authority)} may not sign certificates")
    if basic.path_length is not None and basic.path_length < below:
        raise PathRefused(f"{_name(authority)} may have {basic.path_length} authorities below it, and has {below}")


def _check_names(path: Sequence[x509.Certificate]) -> None:
    """The names are ones that every authority above may certify (RFC 5280, section 4.2.1.10)."""
    for authority in path[1:]:
        _check_kinds(authority)
    constraints = NameConstraints.in_certificates(*path[1:])
    for name in path[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
        kind = _KINDS.get(type(name))
        if kind is None:
            raise PathRefused(f"a name of the kind {type(name).__name__} is not judged here")
        for each in constraints:
            if trouble := each.trouble_with(Name(kind, str(name.value).lower())):
                raise PathRefused(f"the name {name.value!s} {trouble}")


def _check_kinds(authority: x509.Certificate) -> None:
    """Constraints of a kind that is not judged make the path invalid: somebody wants them to be obeyed."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    for subtree in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
        if type(subtree) not in _KINDS:
            raise PathRefused(f"{_name(authority)} constrains names of the kind {type(subtree).__name__}")


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _JUDGED):
            raise PathRefused(f"{_name(certificate)} has the critical extension {extension.oid.dotted_string}")


def _basic(certificate: x509.Certificate) -> x509.BasicConstraints:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:200] or f"serial {certificate.serial_number:x}"
