"""What validators agree on: one operation, and the slot in which no other one may ever be. Pure.

Rules:
- A slot is what can happen once: the certificate of one serial number of one issuer, its revocation, the rotation that
  follows a given state of the hierarchy, the registry of one epoch. Who signed one value for a slot signs no other.
- An operation is bound to its network. The same octets in another network are another operation.
- Everything is hashed with its purpose and with lengths, so that no two operations have the same octets.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, get_args

Kind = Literal["issue", "revoke", "rotate", "registry"]

DIGEST_OCTETS: Final = 32
MAX_SLOT_OCTETS: Final = 64
MAX_EPOCH: Final = 2**63 - 1

_PURPOSE: Final = b"TrustChain: operation, version 1\n"
_SLOT_PURPOSE: Final = b"TrustChain: slot, version 1\n"
_KINDS: Final = get_args(Kind)
_MAX_SERIAL: Final = 2**160


@dataclass(frozen=True, slots=True)
class Operation:
    """`value` is the SHA-256 of what will be signed or done. Raises ValueError for what is no operation."""

    network: bytes
    kind: Kind
    slot: bytes
    value: bytes

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"there is no operation {self.kind!r}")
        if len(self.network) != DIGEST_OCTETS or len(self.value) != DIGEST_OCTETS:
            raise ValueError(f"a network and a value are named by {DIGEST_OCTETS} octets")
        if not 1 <= len(self.slot) <= MAX_SLOT_OCTETS:
            raise ValueError(f"a slot is named by 1 to {MAX_SLOT_OCTETS} octets")

    @property
    def slot_digest(self) -> bytes:
        """By which validators keep the slot."""
        return sha256(_SLOT_PURPOSE + self._place).digest()

    @property
    def digest(self) -> bytes:
        """What votes are about."""
        return sha256(_PURPOSE + self._place + self.value).digest()

    @property
    def _place(self) -> bytes:
        return self.network + bytes((_KINDS.index(self.kind), len(self.slot))) + self.slot


def issue(network: bytes, issuer_key_hash: bytes, serial: int, to_be_signed: bytes) -> Operation:
    """Sign a TBSCertificate (DER). `issuer_key_hash` is the SHA-256 of the issuer's SubjectPublicKeyInfo."""
    return Operation(network, "issue", _certificate(issuer_key_hash, serial), sha256(to_be_signed).digest())


def revoke(network: bytes, issuer_key_hash: bytes, serial: int, reason: str, revoked_at: int) -> Operation:
    """Revoke a certificate for ever. `revoked_at` is in seconds since the Unix epoch."""
    value = sha256(revoked_at.to_bytes(8, "big") + reason.encode("utf-8")).digest()
    return Operation(network, "revoke", _certificate(issuer_key_hash, serial), value)


def rotate(network: bytes, before: bytes, after: bytes) -> Operation:
    """Go from one hierarchy document to the next one; one document is followed by one other."""
    return Operation(network, "rotate", sha256(before).digest(), sha256(after).digest())


def change_registry(network: bytes, epoch: int, registry_digest: bytes) -> Operation:
    """Let the registry of this digest be that of `epoch`."""
    if not 1 <= epoch <= MAX_EPOCH:
        raise ValueError(f"a registry follows another one in the epochs 1 to {MAX_EPOCH}")
    return Operation(network, "registry", epoch.to_bytes(8, "big"), registry_digest)


def _certificate(issuer_key_hash: bytes, serial: int) -> bytes:
    if len(issuer_key_hash) != DIGEST_OCTETS or not 0 < serial < _MAX_SERIAL:
        raise ValueError("a certificate is named by the hash of its issuer's key and a positive serial number")
    return issuer_key_hash + serial.to_bytes(20, "big")
