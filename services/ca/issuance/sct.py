"""What the authority believes of a log: its timestamp for a precertificate, judged before it is embedded. Pure.

Rules:
- A timestamp counts only when the log whose key is known signed it over the precertificate that was sent, and when the
  structure that will be embedded says the same as the reply that brought it.
- Clients refuse timestamps of the future: one that is ahead by more than MAX_AHEAD_MILLISECONDS is a clock's fault, at
  the log or here, and no forgery.
"""

from __future__ import annotations

from typing import Final

from services.ct.messages import SignedCertificateTimestamp
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, Sct, StructureError
from services.rfc6962.verifier import LogVerifier, SignatureRefused

MAX_AHEAD_MILLISECONDS: Final = 60_000


class SctError(ValueError):
    """Not a timestamp, not one of this log, or not for this precertificate. The text says what is wrong."""


class SctFromTheFuture(Exception):
    """The log's clock and the one here do not agree; no client would accept this timestamp now."""


def verify(reply: SignedCertificateTimestamp, log: LogVerifier, issuer_key_hash: bytes, to_be_signed: bytes) -> None:
    """Whether the log promised this precertificate, whose TBSCertificate comes without the poison. Raises SctError."""
    try:
        sct = structures.parse_sct(reply.serialized)
        if sct != Sct(reply.log_id, reply.timestamp, reply.extensions, reply.signature):
            raise SctError("the structure to be embedded says something else than the reply around it")
        index = structures.parse_leaf_index(sct.extensions)
        if index != reply.leaf_index:
            raise SctError(f"a timestamp for the leaf {index}, in a reply about the leaf {reply.leaf_index}")
        log.verify_sct(sct, PrecertEntry(issuer_key_hash, to_be_signed))
    except StructureError as error:
        raise SctError(f"the log's timestamp cannot be read: {error}") from error
    except SignatureRefused as error:
        raise SctError(f"the log's timestamp does not verify over this precertificate: {error}") from error


def check_clock(timestamp: int, now: int) -> None:
    """Whether clients will accept it at `now`; both in milliseconds since the Unix epoch. Raises SctFromTheFuture."""
    if timestamp > now + MAX_AHEAD_MILLISECONDS:
        raise SctFromTheFuture(f"the log's timestamp is {(timestamp - now) / 1000:.0f} s ahead of the clock here")
