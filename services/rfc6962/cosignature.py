"""Cosignatures of tree heads with Ed25519 (C2SP tlog-cosignature, signature type 0x04 of signed-note). Pure.

A cosignature says: of this log, at this time, this is the largest tree that I have seen, and all that I saw of it
before is its beginning.

Rules:
- Its time is in seconds since the Unix epoch, unlike that of a tree head. It is never 0 (tlog-witness,
  "add-checkpoint": a cosignature has a time) and at most 2^63 - 1 (tlog-cosignature, "Format").
- It covers the time and the whole text of the note, but not the name of the cosigner: no key has two names.
- Only a checkpoint of three lines is cosigned. One with extension lines can be verified: nothing is said about these.
- Signatures by others are ignored. One by this key that does not verify refuses the note, and so do two by this key:
  a note is not a place to choose from.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.rfc6962.note import Note, NoteError, NoteSignature, parse_checkpoint
from services.rfc6962.verifier import SignatureRefused

COSIGNATURE: Final = 4

_KEY_OCTETS: Final = 32
_KEY_ID_OCTETS: Final = 4
_TIME_OCTETS: Final = 8
_SIGNATURE_OCTETS: Final = 64
_MAX_TIME: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cosignature:
    """When the cosigner signed, in seconds since the Unix epoch, and its Ed25519 signature."""

    time: int
    signature: bytes

    def __post_init__(self) -> None:
        _check_time(self.time)
        if len(self.signature) != _SIGNATURE_OCTETS:
            raise NoteError(f"an Ed25519 signature has {_SIGNATURE_OCTETS} octets")


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    """By whom cosignatures are: a name and an Ed25519 public key of 32 octets. Raises NoteError for any other."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if len(self.public_key) != _KEY_OCTETS:
            raise NoteError(f"an Ed25519 public key has {_KEY_OCTETS} octets")
        # A name that no signature line can bear would never be found.
        NoteSignature(self.name, bytes(_KEY_ID_OCTETS), self.public_key)

    @classmethod
    def of(cls, vkey: str) -> CosignatureVerifier:
        """Read a verifier key (signed-note, "Verifier keys"), in the one form of `vkey`. Raises NoteError."""
        name, _, rest = vkey.partition("+")
        try:
            material = base64.b64decode(rest.partition("+")[2], validate=True)
        except ValueError as error:
            raise NoteError("it is not a verifier key") from error
        verifier = cls(name, material[1:])
        if verifier.vkey != vkey:
            raise NoteError("it is not the verifier key of a cosigner, written the one way it can be")
        return verifier

    @property
    def key_id(self) -> bytes:
        """By which, together with its name, its signature lines are known (tlog-cosignature, "Format")."""
        return sha256(f"{self.name}\n".encode() + self._material).digest()[:_KEY_ID_OCTETS]

    @property
    def vkey(self) -> str:
        """The verifier key, as others take it."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._material).decode('ascii')}"

    @property
    def _material(self) -> bytes:
        return bytes((COSIGNATURE,)) + self.public_key

    def verify(self, cosignature: Cosignature, text: str) -> None:
        """Check a cosignature of a note with this text. Raises SignatureRefused."""
        key = Ed25519PublicKey.from_public_bytes(self.public_key)
        try:
            key.verify(cosignature.signature, signed_octets(cosignature.time, text))
        except InvalidSignature as error:
            raise SignatureRefused(f"the signature is not one by {self.name}") from error


def signed_octets(time: int, text: str) -> bytes:
    """What a cosignature is over (tlog-cosignature, "Ed25519 signed message"). `text` includes its last newline."""
    _check_time(time)
    if not text.endswith("\n"):
        raise NoteError("the text of a note ends in a newline")
    try:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    except UnicodeEncodeError as error:
        raise NoteError("a note can be written as UTF-8") from error


def cosign(name: str, private_key: Ed25519PrivateKey, text: str, time: int) -> NoteSignature:
    """The signature line of a cosigner. `text` is a checkpoint of three lines, `time` in seconds. Raises NoteError."""
    parse_checkpoint(text)
    verifier = CosignatureVerifier(name, private_key.public_key().public_bytes_raw())
    signature = private_key.sign(signed_octets(time, text))
    return NoteSignature(name, verifier.key_id, time.to_bytes(_TIME_OCTETS, "big") + signature)


def find_cosignature(note: Note, verifier: CosignatureVerifier) -> Cosignature:
    """The one cosignature by this key, verified.

    Raises NoteError when there is none, or several, or something else in its place, and SignatureRefused when it does
    not verify.
    """
    known = (verifier.name, verifier.key_id)
    found = [each.signature for each in note.signatures if (each.name, each.key_id) == known]
    if len(found) != 1:
        raise NoteError(f"it does not have one cosignature by {verifier.name}")
    cosignature = Cosignature(int.from_bytes(found[0][:_TIME_OCTETS], "big"), found[0][_TIME_OCTETS:])
    verifier.verify(cosignature, note.text)
    return cosignature


def _check_time(time: int) -> None:
    if not 1 <= time <= _MAX_TIME:
        raise NoteError("a cosignature has a time, in seconds, that a clock can tell")
