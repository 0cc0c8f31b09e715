"""Signed notes and checkpoints that are not what they should be."""

import base64
from collections.abc import Callable
from hashlib import sha256

import pytest

from services.rfc6962 import note
from services.rfc6962.note import Checkpoint, Note, NoteError, NoteSignature

SIGNATURE = NoteSignature("a", b"key!", b"signature")
ROOT = bytes(range(32))


def test_a_checkpoint_is_three_lines() -> None:
    text = note.checkpoint_text(Checkpoint("ct.example", 5, ROOT))
    assert text == f"ct.example\n5\n{base64.b64encode(ROOT).decode()}\n"
    assert note.parse_checkpoint(text) == Checkpoint("ct.example", 5, ROOT)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "extension\n",
        lambda text: text[:-1],
        lambda text: text.replace("5", "05"),
        lambda text: text.replace("5", "-5"),
        lambda text: text.replace("5", "5 "),
        lambda text: text.replace("5", "1099511627776"),
        lambda text: text.replace("=", ""),
        lambda text: text.replace("ct.example", "ct example"),
        lambda text: text.replace("ct.example", ""),
        lambda text: text.replace("ct.example", "ct+example"),
    ],
)
def test_anything_else_is_no_checkpoint(change: Callable[[str], str]) -> None:
    text = note.checkpoint_text(Checkpoint("ct.example", 5, ROOT))
    with pytest.raises(NoteError):
        note.parse_checkpoint(change(text))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 a a2V5IXM=",
        b"text\n\n- a a2V5IXM=\n",
        b"text\n\n\xe2\x80\x94 a\n",
        b"text\n\n\xe2\x80\x94 a a2V5IQ==\n",
        b"text\n\n\xe2\x80\x94 a a2V5IXN=\n",
        b"text\n\n\xe2\x80\x94  a2V5IXM=\n",
        b"te\x07xt\n\n\xe2\x80\x94 a a2V5IXM=\n",
        b"te\xffxt\n\n\xe2\x80\x94 a a2V5IXM=\n",
        b"text\n\n" + b"\xe2\x80\x94 a a2V5IXM=\n" * 65,
        bytes(note.MAX_NOTE_OCTETS + 1),
    ],
)
def test_anything_else_is_no_note(data: bytes) -> None:
    with pytest.raises(NoteError):
        note.parse(data)


def test_sixteen_signatures_are_read() -> None:
    signatures = tuple(NoteSignature(f"witness{n}", b"key!", b"s") for n in range(16))
    assert note.parse(note.encode(Note("text\n", signatures))).signatures == signatures


def test_the_signature_of_this_log_is_found_among_those_of_others() -> None:
    ours = note.rfc6962_signature("ct.example", bytes(32), 7, b"signed")
    others = (NoteSignature("ct.example", b"key!", b"x"), NoteSignature("other", ours.key_id, b"y"))
    found = note.find_rfc6962_signature(Note("text\n", (others[0], ours, others[1])), "ct.example", bytes(32))
    assert found == (7, b"signed")


@pytest.mark.parametrize("times", [0, 2])
def test_no_signature_of_this_log_or_two_are_refused(times: int) -> None:
    ours = note.rfc6962_signature("ct.example", bytes(32), 7, b"signed")
    with pytest.raises(NoteError, match="one signature"):
        note.find_rfc6962_signature(Note("text\n", (SIGNATURE, *(ours,) * times)), "ct.example", bytes(32))


def test_a_verifier_key_names_the_log_its_key_id_and_its_key() -> None:
    name, key_id, encoded = note.verifier_key("ct.example", b"public key").split("+", 2)
    assert name == "ct.example"
    assert bytes.fromhex(key_id) == note.rfc6962_key_id("ct.example", sha256(b"public key").digest())
    assert base64.b64decode(encoded) == b"\x05public key"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "\ud800"])
def test_a_name_that_no_note_can_bear_does_not_construct(name: str) -> None:
    with pytest.raises(NoteError):
        NoteSignature(name, b"key!", b"s")
