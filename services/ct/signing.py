"""What the log signs, with its P-256 key: timestamps of entries and tree heads (RFC 6962, section 2.1.4). Pure.

Rules: signatures are deterministic (RFC 6979): the same entry at the same place gets the same SCT, octet for octet,
each time it is asked for, and a signature that repeats tells nobody anything.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from services.rfc6962 import structures
from services.rfc6962.structures import Sct
from services.rfc6962.verifier import LogVerifier, SignedHead, TreeHead

_SIGN: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class LogSigner:
    """The key of a log, which alone signs."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.verifier = LogVerifier(key.public_key())

    @property
    def log_id(self) -> bytes:
        """By which this log is known."""
        return self.verifier.log_id

    def sign(self, data: bytes) -> bytes:
        """A DigitallySigned structure over `data`."""
        return structures.digitally_signed(self._key.sign(data, _SIGN))

    def sign_head(self, head: TreeHead) -> SignedHead:
        """Stand by a tree."""
        return SignedHead(head, self.sign(head.signed_data))

    def sign_entry(self, entry: bytes, timestamp: int, leaf_index: int) -> Sct:
        """The SCT of an entry (from `structures.signed_entry`) at its place."""
        extensions = structures.leaf_index_extension(leaf_index)
        signature = self.sign(structures.sct_signed_data(timestamp, entry, extensions))
        return Sct(self.log_id, timestamp, extensions, signature)
