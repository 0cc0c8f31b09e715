"""Signed messages: decisions that outlive the connection on which they came. Pure: keys and `now` are arguments.

What is signed is a line that tells the purpose, so that it is nothing else that this house signs, and then each of
these with its length before it (4 octets, big-endian):

    algorithms     "ed25519" or "ed25519+ml-dsa-65": which signatures there are
    domain         what kind of decision it is; a signature for one is none for another
    sender         whose keys verify it
    recipient      for whom it is, and nobody else
    request_id     16 octets, once per message
    time_ms        8 octets, big-endian, of the Unix epoch
    SHA-256 of the body

Rules:
- Ed25519 (RFC 8032) always, ML-DSA-65 (FIPS 204) as well where the sender has a key of it. Both sign the same octets,
  which tell that there are two: without one of them the other is worth nothing.
- A recipient that demands both accepts no message with one (no downgrade). A recipient that has the sender's ML-DSA-65
  key verifies that signature when it is there, whether it demands it or not; one that has no such key relies on
  Ed25519.
- What is cheap is checked first; a message is remembered in the replay window only once its signatures are verified, so
  that nobody can fill the window or use up a request id in the name of another.
- There is one way to write a message. What decodes but is encoded differently is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from msgspec import Struct, msgpack

from services.stoq.messages import (
    MAX_AROUND_BODY_OCTETS,
    MAX_BODY_OCTETS,
    MAX_TIME_MS,
    REQUEST_ID_OCTETS,
    BadSignature,
    Malformed,
    UnknownSigner,
    WrongDomain,
    WrongRecipient,
    is_id,
)
from services.stoq.replay import ReplayWindow

ED25519_OCTETS: Final = 64
MLDSA65_OCTETS: Final = 3_309
MAX_SIGNED_BODY_OCTETS: Final = MAX_BODY_OCTETS - 2 * MAX_AROUND_BODY_OCTETS  # the whole is the body of one request
_PURPOSE: Final = b"TrustChain: signed message between hosts, version 1\n"
_ED25519: Final = b"ed25519"
_BOTH: Final = b"ed25519+ml-dsa-65"


class Statement(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a message says, from whom and for whom."""

    domain: str
    sender: str
    recipient: str
    request_id: bytes
    time_ms: int
    body: bytes

    def __post_init__(self) -> None:
        if not (is_id(self.domain) and is_id(self.sender) and is_id(self.recipient)):
            raise ValueError("domain, sender and recipient are ids")
        if len(self.request_id) != REQUEST_ID_OCTETS or not 0 <= self.time_ms <= MAX_TIME_MS:
            raise ValueError("no message has such a request id or time")
        if len(self.body) > MAX_SIGNED_BODY_OCTETS:
            raise ValueError(f"a signed message has at most {MAX_SIGNED_BODY_OCTETS} octets")


class SignedMessage(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A statement with its signatures; `mldsa65` is empty where the sender has no such key."""

    statement: Statement
    ed25519: bytes
    mldsa65: bytes

    def __post_init__(self) -> None:
        if len(self.ed25519) != ED25519_OCTETS or len(self.mldsa65) not in {0, MLDSA65_OCTETS}:
            raise ValueError("no signature is of such a length")


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """What a sender signs with."""

    ed25519: Ed25519PrivateKey
    mldsa65: MLDSA65PrivateKey | None = None

    def public(self) -> SignerKeys:
        """What verifies it."""
        return SignerKeys(self.ed25519.public_key(), self.mldsa65.public_key() if self.mldsa65 else None)


@dataclass(frozen=True, slots=True)
class SignerKeys:
    """What is known of a sender."""

    ed25519: Ed25519PublicKey
    mldsa65: MLDSA65PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Demands:
    """What a recipient accepts: messages for it, of one domain, with both signatures if `both`."""

    domain: str
    recipient: str
    both: bool


_decode: Final = msgpack.Decoder(SignedMessage).decode
_encode: Final = msgpack.Encoder().encode


def sign(statement: Statement, keys: SenderKeys) -> bytes:
    """The message as it is sent."""
    octets = _signed_octets(statement, _BOTH if keys.mldsa65 else _ED25519)
    mldsa65 = keys.mldsa65.sign(octets) if keys.mldsa65 else b""
    return _encode(SignedMessage(statement, keys.ed25519.sign(octets), mldsa65))


def parse(octets: bytes) -> SignedMessage:
    """Read a message. No signature is verified. Raises Malformed."""
    if len(octets) > MAX_BODY_OCTETS:
        raise Malformed(f"it has {len(octets)} octets; at most {MAX_BODY_OCTETS} are read")
    try:
        message = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"it is no signed message: {str(error)[:200]}") from error
    if _encode(message) != octets:
        raise Malformed("it is not written as a signed message is")
    return message


def verify(
    octets: bytes, signers: Mapping[str, SignerKeys], demands: Demands, window: ReplayWindow, now_ms: int
) -> Statement:
    """What an authentic, timely message says, the first time. Raises a NotAccepted, and then the window is as before.

    `signers` are the senders whose decisions of this domain count.
    """
    message = parse(octets)
    statement = message.statement
    if statement.recipient != demands.recipient:
        raise WrongRecipient(f"it is for {statement.recipient}")
    if statement.domain != demands.domain:
        raise WrongDomain(f"it is of the domain {statement.domain}")
    window.check_time(statement.time_ms, now_ms)
    _verify_signatures(message, signers, both=demands.both)
    window.admit(statement.sender, statement.request_id, statement.time_ms, now_ms)
    return statement


def _verify_signatures(message: SignedMessage, signers: Mapping[str, SignerKeys], *, both: bool) -> None:
    keys = signers.get(message.statement.sender)
    if keys is None:
        raise UnknownSigner(f"no key of {message.statement.sender} is known")
    if both and keys.mldsa65 is None:
        raise UnknownSigner(f"no ML-DSA-65 key of {message.statement.sender} is known")
    if both and not message.mldsa65:
        raise BadSignature("it lacks the ML-DSA-65 signature")
    octets = _signed_octets(message.statement, _BOTH if message.mldsa65 else _ED25519)
    try:
        keys.ed25519.verify(message.ed25519, octets)
        if message.mldsa65 and keys.mldsa65 is not None:
            keys.mldsa65.verify(message.mldsa65, octets)
    except InvalidSignature as error:
        raise BadSignature("a signature is not by the sender's key over this") from error


def _signed_octets(statement: Statement, algorithms: bytes) -> bytes:
    fields = (
        algorithms,
        statement.domain.encode("ascii"),
        statement.sender.encode("ascii"),
        statement.recipient.encode("ascii"),
        statement.request_id,
        statement.time_ms.to_bytes(8, "big"),
        sha256(statement.body).digest(),
    )
    return _PURPOSE + b"".join(len(field).to_bytes(4, "big") + field for field in fields)
