"""What is asked about the evidence of a certificate, and what is answered.

Rules: the names and the order of the members are those of the file that is given out (`evidence.py`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from services.ca.messages import MAX_CSR_BYTES, MAX_SIGNATURE_OCTETS

EVIDENCE_FORMAT: Final = "trustchain-evidence-v1"


class GetEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for all that proves one certificate, by its serial number."""

    serial: str


class LoggedEvidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a certificate is in the log (RFC 6962). `timestamp` is in milliseconds since the Unix epoch.

    `scts` are SignedCertificateTimestamp structures as the certificate embeds them, `signature` is that of the tree
    head, DigitallySigned; `checkpoint` is the same head as a signed note (C2SP tlog-checkpoint).
    """

    log_id: Annotated[bytes, Meta(min_length=32, max_length=32)]
    scts: Annotated[list[bytes], Meta(min_length=1, max_length=8)]
    leaf_index: Annotated[int, Meta(ge=0, lt=2**40)]
    audit_path: Annotated[list[Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=40)]
    tree_size: Annotated[int, Meta(ge=1, lt=2**40)]
    timestamp: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    root_hash: Annotated[bytes, Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, Meta(min_length=1, max_length=1024)]
    checkpoint: Annotated[str, Meta(min_length=1, max_length=4096)]


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that proves one certificate to somebody who has the root and the key of the log, and nothing else.

    `chain` leads from the certificate to the root, PEM. `log` is None for a profile whose certificates are not logged.
    `ocsp` is an OCSPResponse (RFC 6960). `quorum` is the place of the certificate of a quorum, once there is one.
    `seal` is the issuer's signature over all of this with an empty seal: see `evidence.py`.
    """

    format: Literal["trustchain-evidence-v1"]
    serial: Annotated[str, Meta(pattern="^[0-9a-f]{2,40}$")]
    profile: Annotated[str, Meta(min_length=1, max_length=64)]
    issued_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    composed_at: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    chain: Annotated[list[Annotated[str, Meta(max_length=MAX_CSR_BYTES)]], Meta(min_length=2, max_length=8)]
    log: LoggedEvidence | None
    ocsp: Annotated[bytes, Meta(min_length=1, max_length=MAX_CSR_BYTES)]
    quorum: None
    seal: Annotated[bytes, Meta(max_length=MAX_SIGNATURE_OCTETS)]


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "evidence": (GetEvidence, Evidence),
}
