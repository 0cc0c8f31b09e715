"""Cosignatures: one published by others verifies, one made here is what the specification says, and nothing else is."""

import base64
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.rfc6962 import cosignature, note
from services.rfc6962.cosignature import Cosignature, CosignatureVerifier
from services.rfc6962.note import Note, NoteError, NoteSignature
from services.rfc6962.verifier import SignatureRefused

# Served by this log: two witnesses had cosigned it at 1779573024 and told these keys.
PUBLISHED = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501
PUBLISHED_KEYS = (
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
)
# The example of tlog-cosignature, whose key is not told.
EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501
EXAMPLE_SIGNED = b"""\
cosignature/v1
time 1679315147
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""

TEXT = "ct.example\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
VERIFIER = CosignatureVerifier("validator.example/v1", PUBLIC)
LINE = cosignature.cosign(VERIFIER.name, KEY, TEXT, 1679315147)


def below(text: str, *signatures: NoteSignature) -> Note:
    return Note(text, signatures)


def with_signature(signature: bytes) -> NoteSignature:
    return NoteSignature(VERIFIER.name, VERIFIER.key_id, signature)


@pytest.mark.parametrize("vkey", PUBLISHED_KEYS)
def test_what_a_public_witness_cosigned_verifies_with_the_key_it_told(vkey: str) -> None:
    verifier = CosignatureVerifier.of(vkey)
    assert verifier.vkey == vkey
    assert cosignature.find_cosignature(note.parse(PUBLISHED.encode()), verifier).time == 1779573024


@pytest.mark.parametrize("vkey", PUBLISHED_KEYS)
def test_it_does_not_verify_for_another_size(vkey: str) -> None:
    changed = note.parse(PUBLISHED.replace("1432088532", "1432088533").encode())
    with pytest.raises(SignatureRefused):
        cosignature.find_cosignature(changed, CosignatureVerifier.of(vkey))


def test_the_example_of_the_specification_has_the_time_and_the_octets_that_it_tells() -> None:
    example = note.parse(EXAMPLE.encode())
    octets = example.signatures[1].signature
    assert int.from_bytes(octets[:8], "big") == 1679315147
    assert len(octets) == 8 + 64
    assert cosignature.signed_octets(1679315147, example.text) == EXAMPLE_SIGNED


def test_a_cosignature_is_time_and_ed25519_signature_over_octets_built_by_hand() -> None:
    octets = b"cosignature/v1\ntime 1679315147\n" + TEXT.encode()
    assert LINE.signature[:8] == bytes.fromhex("00000000641850cb")
    KEY.public_key().verify(LINE.signature[8:], octets)
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(LINE.signature[8:], octets[:-1])


def test_a_key_id_is_the_hash_of_name_type_and_key() -> None:
    expected = sha256(b"validator.example/v1\n\x04" + PUBLIC).digest()[:4]
    assert (LINE.name, LINE.key_id) == ("validator.example/v1", expected)
    material = base64.b64encode(b"\x04" + PUBLIC).decode()
    assert VERIFIER.vkey == f"validator.example/v1+{expected.hex()}+{material}"


def test_what_was_cosigned_is_found_after_it_was_served() -> None:
    served = note.encode(below(TEXT, LINE))
    found = cosignature.find_cosignature(note.parse(served), VERIFIER)
    assert found == Cosignature(1679315147, LINE.signature[8:])


def test_whatever_others_signed_is_ignored() -> None:
    others = (
        NoteSignature(VERIFIER.name, b"key!", LINE.signature),
        NoteSignature("validator.example/v2", VERIFIER.key_id, b"not even a time"),
    )
    found = cosignature.find_cosignature(below(TEXT, others[0], LINE, others[1]), VERIFIER)
    assert found.time == 1679315147
    with pytest.raises(NoteError, match="one cosignature"):
        cosignature.find_cosignature(below(TEXT, *others), VERIFIER)


@pytest.mark.parametrize("time", [1679315147, 1679315148])
def test_two_by_one_key_are_refused_though_each_verifies(time: int) -> None:
    second = cosignature.cosign(VERIFIER.name, KEY, TEXT, time)
    assert cosignature.find_cosignature(below(TEXT, second), VERIFIER).time == time
    with pytest.raises(NoteError, match="one cosignature"):
        cosignature.find_cosignature(below(TEXT, LINE, second), VERIFIER)


@pytest.mark.parametrize(
    "signature",
    [
        (1679315148).to_bytes(8, "big") + LINE.signature[8:],
        LINE.signature[:-1] + bytes((LINE.signature[-1] ^ 1,)),
        LINE.signature[:8] + KEY.sign(TEXT.encode()),
        LINE.signature[:8]
        + Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(cosignature.signed_octets(1679315147, TEXT)),
    ],
    ids=["another time", "a bit", "the text alone", "another key"],
)
def test_a_signature_over_anything_else_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureRefused):
        cosignature.find_cosignature(below(TEXT, with_signature(signature)), VERIFIER)


@pytest.mark.parametrize(
    "signature",
    [
        LINE.signature[:8],
        LINE.signature[:-1],
        LINE.signature + b"\0",
        b"1234",
        bytes(8) + LINE.signature[8:],
        b"\x80" + bytes(7) + LINE.signature[8:],
    ],
    ids=["time alone", "short", "long", "no time", "time zero", "time beyond 2^63"],
)
def test_what_is_no_cosignature_is_no_cosignature_by_anyone(signature: bytes) -> None:
    with pytest.raises(NoteError):
        cosignature.find_cosignature(below(TEXT, with_signature(signature)), VERIFIER)


def test_time_zero_is_refused_though_it_was_signed() -> None:
    signed = bytes(8) + KEY.sign(b"cosignature/v1\ntime 0\n" + TEXT.encode())
    with pytest.raises(NoteError, match="time"):
        cosignature.find_cosignature(below(TEXT, with_signature(signed)), VERIFIER)


def test_a_checkpoint_with_extension_lines_is_verified_but_never_cosigned() -> None:
    extended = TEXT + "extension\n"
    signed = (7).to_bytes(8, "big") + KEY.sign(b"cosignature/v1\ntime 7\n" + extended.encode())
    assert cosignature.find_cosignature(below(extended, with_signature(signed)), VERIFIER).time == 7
    with pytest.raises(NoteError):
        cosignature.cosign(VERIFIER.name, KEY, extended, 7)


@pytest.mark.parametrize("text", ["", "any text\n", TEXT[:-1], "cosignature/v1\ntime 7\n" + TEXT])
def test_nothing_but_a_checkpoint_is_cosigned(text: str) -> None:
    with pytest.raises(NoteError):
        cosignature.cosign(VERIFIER.name, KEY, text, 7)


@pytest.mark.parametrize("time", [-1, 0, 2**63])
def test_nothing_is_cosigned_at_a_time_that_is_none(time: int) -> None:
    with pytest.raises(NoteError):
        cosignature.cosign(VERIFIER.name, KEY, TEXT, time)


@pytest.mark.parametrize("text", ["no newline", "\ud800\n"])
def test_no_octets_are_made_of_what_is_no_text_of_a_note(text: str) -> None:
    with pytest.raises(NoteError):
        cosignature.signed_octets(7, text)


@pytest.mark.parametrize(
    "change",
    [
        lambda vkey: vkey[:0],
        lambda vkey: vkey + "\n",
        lambda vkey: " " + vkey,
        lambda vkey: vkey.replace("+67f7aea0", ""),
        lambda vkey: vkey.replace("67f7aea0", "67F7AEA0"),
        lambda vkey: vkey.replace("67f7aea0", "67f7aea1"),
        lambda vkey: vkey.replace("stagemole", "stagemale"),
        lambda vkey: vkey.replace("+BEqS", "+AEqS"),
        lambda vkey: vkey[:-4],
        lambda vkey: vkey + "AAAA",
        lambda vkey: vkey[:-1] + "€",
        lambda vkey: vkey.replace("witness.stagemole.eu", ""),
        lambda vkey: vkey.replace("witness.stagemole.eu", "\ud800"),
    ],
)
def test_anything_else_is_no_verifier_key(change: Callable[[str], str]) -> None:
    with pytest.raises(NoteError):
        CosignatureVerifier.of(change(PUBLISHED_KEYS[1]))


def test_the_verifier_key_of_another_type_is_refused_though_its_key_id_is_right() -> None:
    # The example of signed-note, "Verifier keys": type 1 signs notes of any kind.
    with pytest.raises(NoteError):
        CosignatureVerifier.of("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "\ud800"])
def test_a_name_that_no_note_can_bear_does_not_construct(name: str) -> None:
    with pytest.raises(NoteError):
        CosignatureVerifier(name, PUBLIC)


@pytest.mark.parametrize("key", [b"", PUBLIC[:-1], PUBLIC + b"\0"])
def test_a_key_of_another_length_does_not_construct(key: bytes) -> None:
    with pytest.raises(NoteError):
        CosignatureVerifier("a", key)


def test_octets_that_are_no_point_of_the_curve_verify_nothing() -> None:
    verifier = CosignatureVerifier(VERIFIER.name, b"\xff" * 32)
    with pytest.raises(SignatureRefused):
        verifier.verify(Cosignature(1679315147, LINE.signature[8:]), TEXT)


def test_the_key_in_a_published_verifier_key_is_the_one_that_verifies() -> None:
    parsed = note.parse(PUBLISHED.encode())
    octets = b"cosignature/v1\ntime 1779573024\n" + PUBLISHED.partition("\n\n")[0].encode() + b"\n"
    Ed25519PublicKey.from_public_bytes(CosignatureVerifier.of(PUBLISHED_KEYS[0]).public_key).verify(
        parsed.signatures[1].signature[8:], octets
    )
