"""From a decision to a certificate, for one issuer: built, looked at, signed, compared. Pure.

Rules:
- The octets that are signed exist, and have been looked at, before the key is used. They are built once: certificate
  and precertificate differ in one extension.
- Whatever is found wrong after a signature exists travels with everything that was signed until then: it is evidence.
- What is wrong before anything is signed is the request's fault when it is about a name or the key in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from services.ca.hierarchy.hierarchy import Issuer
from services.ca.issuance import issuance, precertificate, signing
from services.ca.issuance.issuance import Decision
from services.ca.issuance.precertificate import PrecertificateError
from services.ca.keys.signing_keys import spki
from services.ca.lint.findings import Fault, Finding
from services.ca.lint.lint import Form, Signer, lint_certificate, lint_to_be_signed
from services.ca.messages import Refusal, RefusalKind
from services.ct.messages import MAX_CERTIFICATE_OCTETS

# What the log takes, less the largest signature and the timestamps.
MAX_TO_BE_SIGNED: Final = MAX_CERTIFICATE_OCTETS - 6_000

_FAULTS: Final[dict[Fault, RefusalKind]] = {"name": "forbidden-name", "key": "bad-key"}


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log promised: the precertificate (DER) that it has, its timestamp for it, and where it is."""

    precertificate: bytes
    sct: bytes
    leaf_index: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was signed under a serial number, as far as it came, and why nobody gets it: one text for each finding.

    Raises ValueError when nothing was found.
    """

    findings: tuple[str, ...]
    precertificate: bytes | None = None
    certificate: bytes | None = None

    def __post_init__(self) -> None:
        if not self.findings:
            raise ValueError("a quarantine without a finding")


class Objection(Exception):
    """What was found wrong with what is or was to be signed; not the request's fault."""

    def __init__(
        self, findings: Iterable[Finding], *, precertificate: bytes | None = None, certificate: bytes | None = None
    ) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(map(str, self.findings)))
        self.precertificate = precertificate
        self.certificate = certificate

    @property
    def quarantined(self) -> Quarantined:
        """What goes on record of it."""
        return Quarantined(tuple(map(str, self.findings)), self.precertificate, self.certificate)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be signed (TBSCertificate, DER): of a precertificate, if the profile wants transparency."""

    decision: Decision
    to_be_signed: bytes


@dataclass(frozen=True, slots=True)
class Precertificate:
    """A signed precertificate (DER). `logged` is what the log signs for it: its TBSCertificate without the poison."""

    to_be_signed: bytes
    logged: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """A finished certificate (DER), and what the log promised for it, if it was asked."""

    certificate: bytes
    logged: Logged | None


class Certifier:
    """Makes the certificates of one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._signer = Signer.of(issuer.certificate)
        self._chain = [certificate.public_bytes(Encoding.DER) for certificate in issuer.path]
        self.key_hash = sha256(spki(issuer.certificate.public_key())).digest()

    def draft(self, decision: Decision) -> Draft:
        """Build and look. Raises Refusal for what the request is to blame for, and Objection."""
        to_be_signed = issuance.to_be_signed(decision)
        if len(to_be_signed) > MAX_TO_BE_SIGNED:
            detail = f"the certificate would have more than {MAX_TO_BE_SIGNED} octets: ask for fewer or shorter names"
            raise Refusal("forbidden-name", "csr", detail)
        form: Form = "precertificate" if decision.profile.transparency else "certificate"
        findings = lint_to_be_signed(to_be_signed, self._signer, form)
        if findings:
            raise _refusal(findings) or Objection(findings)
        return Draft(decision, to_be_signed)

    def precertificate(self, draft: Draft) -> Precertificate:
        """Sign the precertificate of a draft, whose serial number must be on record, durably. Raises Objection."""
        certificate = self._signed(draft.to_be_signed, None)
        try:
            logged = precertificate.without_poison(draft.to_be_signed)
        except PrecertificateError as error:
            raise Objection([Finding("poison", str(error))], precertificate=certificate) from error
        return Precertificate(draft.to_be_signed, logged, certificate)

    def chain(self, made: Precertificate) -> list[bytes]:
        """What the log is sent: the precertificate, then each issuer (DER), without the root."""
        return [made.certificate, *self._chain]

    def certificate(self, made: Precertificate, sct: bytes, leaf_index: int) -> Certified:
        """Put the timestamp in, compare, sign and look. Raises Objection."""
        try:
            to_be_signed = precertificate.with_scts(made.to_be_signed, [sct])
            precertificate.check_correspondence(made.to_be_signed, to_be_signed)
        except PrecertificateError as error:
            raise Objection([Finding("correspondence", str(error))], precertificate=made.certificate) from error
        certificate = self._judged(to_be_signed, made.certificate)
        return Certified(certificate, Logged(made.certificate, sct, leaf_index))

    def plain(self, draft: Draft) -> Certified:
        """Sign and look, without the log: for profiles without transparency. Raises Objection."""
        return Certified(self._judged(draft.to_be_signed, None), None)

    def _judged(self, to_be_signed: bytes, precertificate: bytes | None) -> bytes:
        certificate = self._signed(to_be_signed, precertificate)
        findings = lint_certificate(certificate, self._signer)
        if findings:
            raise Objection(findings, precertificate=precertificate, certificate=certificate)
        return certificate

    def _signed(self, to_be_signed: bytes, precertificate: bytes | None) -> bytes:
        try:
            return signing.certificate(to_be_signed, self._issuer.private_key)
        except InvalidSignature as error:
            finding = Finding("signature", "the issuer's key made a signature that its certificate does not verify")
            raise Objection([finding], precertificate=precertificate) from error


def _refusal(findings: tuple[Finding, ...]) -> Refusal | None:
    """A refusal when the request alone is to blame."""
    kinds = {_FAULTS.get(finding.fault) for finding in findings}
    if None in kinds:
        return None
    first = findings[0]
    return Refusal(_FAULTS[first.fault], "csr", str(first))
