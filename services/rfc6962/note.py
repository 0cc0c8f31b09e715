"""Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint, static-ct-api "Checkpoints"). Pure.

A checkpoint says in three lines whose tree it is, how large, and which root it has; the signature below is that of
the RFC 6962 tree head (type 5), so that it says nothing which `get-sth` does not.

Rules:
- A signature of type 5 covers the tree head and its timestamp, but neither the origin nor anything else in the text.
  So a checkpoint has exactly these three lines, and its signature bears the origin as its name.
- Signatures of others are kept apart and ignored; up to MAX_SIGNATURES are read.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from services.ct.messages import MAX_TREE_SIZE
from services.rfc6962.merkle import HASH_OCTETS

MAX_NOTE_OCTETS: Final = 262_144
MAX_SIGNATURES: Final = 64
RFC6962_SIGNATURE: Final = 5

_DASH: Final = "— "
_KEY_ID_OCTETS: Final = 4
_TIME_OCTETS: Final = 8
_FORBIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+]+")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,14}")


class NoteError(ValueError):
    """The octets are not a signed note, or not a checkpoint."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who signed, by which key, and the signature of that key's type."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != _KEY_ID_OCTETS or not self.signature:
            raise NoteError("a signature consists of a key ID of 4 octets and at least one more")


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and the signatures below it."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _FORBIDDEN.search(self.text):
            raise NoteError("the text of a note ends in a newline and has no other control characters")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise NoteError(f"a note has 1 to {MAX_SIGNATURES} signatures")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Whose tree, how many leaves, which root."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        _check_name(self.origin)
        if not 0 <= self.size <= MAX_TREE_SIZE or len(self.root) != HASH_OCTETS:
            raise NoteError("no tree has such a size or root")


def encode(note: Note) -> bytes:
    """The note as it is served."""
    lines = [f"{_DASH}{each.name} {_base64(each.key_id + each.signature)}\n" for each in note.signatures]
    return f"{note.text}\n{''.join(lines)}".encode()


def parse(data: bytes) -> Note:
    """Read a signed note. No signature is verified. Raises NoteError."""
    if len(data) > MAX_NOTE_OCTETS:
        raise NoteError(f"it has {len(data)} octets; at most {MAX_NOTE_OCTETS} are read")
    try:
        text, blank, below = data.decode("utf-8").rpartition("\n\n")
    except UnicodeDecodeError as error:
        raise NoteError("it is not UTF-8") from error
    if not blank or not below.endswith("\n"):
        raise NoteError("it has no signatures below a blank line")
    lines = below[:-1].split("\n", MAX_SIGNATURES)
    return Note(f"{text}\n", tuple(_parse_line(line) for line in lines))


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """The text of a checkpoint without extension lines."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{_base64(checkpoint.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint without extension lines. Raises NoteError."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteError("a checkpoint of this log has three lines")
    if not _SIZE.fullmatch(lines[1]):
        raise NoteError("the second line is not a size in decimal digits")
    return Checkpoint(lines[0], int(lines[1]), _from_base64(lines[2]))


def rfc6962_key_id(name: str, log_id: bytes) -> bytes:
    """The key ID of a log's tree head signatures (static-ct-api, "Checkpoints")."""
    return sha256(f"{name}\n".encode() + bytes((RFC6962_SIGNATURE,)) + log_id).digest()[:_KEY_ID_OCTETS]


def rfc6962_signature(name: str, log_id: bytes, timestamp: int, signature: bytes) -> NoteSignature:
    """The signature line of a tree head. `signature` is DigitallySigned, `timestamp` in milliseconds."""
    return NoteSignature(name, rfc6962_key_id(name, log_id), timestamp.to_bytes(_TIME_OCTETS, "big") + signature)


def find_rfc6962_signature(note: Note, name: str, log_id: bytes) -> tuple[int, bytes]:
    """Timestamp and DigitallySigned of the one line by this log. Raises NoteError when there is none, or several."""
    key_id = rfc6962_key_id(name, log_id)
    found = [each.signature for each in note.signatures if (each.name, each.key_id) == (name, key_id)]
    if len(found) != 1 or len(found[0]) <= _TIME_OCTETS:
        raise NoteError("it does not have one signature by this log")
    return int.from_bytes(found[0][:_TIME_OCTETS], "big"), found[0][_TIME_OCTETS:]


def verifier_key(name: str, public_key: bytes) -> str:
    """The key as verifiers of notes take it: name, key ID, type and key. `public_key` is a SubjectPublicKeyInfo."""
    _check_name(name)
    key_id = rfc6962_key_id(name, sha256(public_key).digest())
    return f"{name}+{key_id.hex()}+{_base64(bytes((RFC6962_SIGNATURE,)) + public_key)}"


def _parse_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError("a line below the blank one is not a signature")
    decoded = _from_base64(encoded)
    return NoteSignature(name, decoded[:_KEY_ID_OCTETS], decoded[_KEY_ID_OCTETS:])


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise NoteError("a name is not empty and has neither spaces nor plus signs nor control characters")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise NoteError("a name can be written as UTF-8") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise NoteError("what should be Base64 is not") from error
    if _base64(decoded) != text:
        raise NoteError("what should be Base64 is not written the one way it can be")
    return decoded
