"""What is asked about revocation and certificate status, and what is answered.

Rules: what is published over plain HTTP (revocation lists, OCSP answers, issuer certificates) is DER, as it is served.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from services.ca.messages import MAX_REQUESTER_CHARACTERS, MAX_SIGNATURE_OCTETS, RevocationReason

MAX_OCSP_REQUEST_OCTETS: Final = 4_096  # a longer one is answered `malformedRequest`
MAX_CRL_PART_OCTETS: Final = 524_288
MAX_PARTITIONS: Final = 256


class RevocationProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That whoever asks for a revocation has the private key of the certificate: see `revocation.signed_request`."""

    signed_at: int
    signature: Annotated[bytes, Meta(min_length=1, max_length=MAX_SIGNATURE_OCTETS)]


class Revoke(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Revoke one certificate, for ever. Without `proof` the asker vouches for the requester's right to do so."""

    serial: str
    reason: str = "unspecified"
    requester: Annotated[str, Meta(max_length=MAX_REQUESTER_CHARACTERS)]
    proof: RevocationProof | None = None


class Revoked(Struct, frozen=True, kw_only=True):
    """The revocation is durable. `crl_number` is the CRL that tells it; None while signing or publishing lags."""

    serial: str
    revoked_at: int
    reason: RevocationReason
    crl_number: int | None


class GetCrl(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for octets of the newest CRL of one partition of one issuer (its serial number), from `offset` on."""

    issuer: str
    partition: Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS)]
    offset: Annotated[int, Meta(ge=0)] = 0


class CrlDocument(Struct, frozen=True, kw_only=True):
    """At most MAX_CRL_PART_OCTETS of a CRL of `size` octets, from the offset asked for on.

    Parts belong together when their `number` is the same: when it changes, begin again at offset 0.
    """

    der: bytes
    size: int
    number: int
    this_update: int
    next_update: int


class OcspQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OCSPRequest (RFC 6960, section 4.1.1), DER, whatever it holds."""

    request: Annotated[bytes, Meta(max_length=4 * MAX_OCSP_REQUEST_OCTETS)]


class OcspAnswer(Struct, frozen=True, kw_only=True):
    """An OCSPResponse (RFC 6960, section 4.2.1). The times are 0 when it is an error response, which is not cached."""

    der: bytes
    this_update: int
    next_update: int
    produced_at: int


class GetIssuerCertificate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate that issues, or issued, certificates here, by its serial number."""

    issuer: str


class IssuerCertificate(Struct, frozen=True, kw_only=True):
    """One certificate of an authority."""

    der: bytes


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "revoke": (Revoke, Revoked),
    "crl": (GetCrl, CrlDocument),
    "ocsp": (OcspQuery, OcspAnswer),
    "issuer_certificate": (GetIssuerCertificate, IssuerCertificate),
}
