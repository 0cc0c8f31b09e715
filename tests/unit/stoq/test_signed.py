"""Signed messages: for whom, for what, by whom, when, and once."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from msgspec import msgpack, structs

from services.stoq import signed
from services.stoq.messages import (
    BadSignature,
    FromTheFuture,
    Malformed,
    NotAccepted,
    Replayed,
    TooOld,
    UnknownSigner,
    WindowFull,
    WrongDomain,
    WrongRecipient,
)
from services.stoq.replay import ReplayWindow
from services.stoq.signed import Demands, SenderKeys, SignedMessage, Statement

NOW = 1_800_000_000_000
SPAN = 60_000
ID = bytes(range(16))
ONE = SenderKeys(Ed25519PrivateKey.from_private_bytes(bytes(32)))
BOTH = SenderKeys(ONE.ed25519, MLDSA65PrivateKey.from_seed_bytes(bytes(32)))
OTHER = SenderKeys(Ed25519PrivateKey.from_private_bytes(b"o" * 32), MLDSA65PrivateKey.from_seed_bytes(b"o" * 32))
SAID = Statement("revocation", "ra-1", "ca-1", ID, NOW, b"revoke 17")
LENIENT = Demands("revocation", "ca-1", both=False)
STRICT = replace(LENIENT, both=True)


def window() -> ReplayWindow:
    return ReplayWindow(SPAN, 10, 10)


def verify(octets: bytes, keys: SenderKeys = BOTH, demands: Demands = STRICT, now_ms: int = NOW) -> Statement:
    return signed.verify(octets, {"ra-1": keys.public()}, demands, window(), now_ms)


@pytest.mark.parametrize(
    ("signer", "known", "demands"),
    [(BOTH, BOTH, STRICT), (BOTH, BOTH, LENIENT), (ONE, BOTH, LENIENT), (ONE, ONE, LENIENT), (BOTH, ONE, LENIENT)],
)
def test_what_is_signed_is_accepted_by_whom_it_is_for(signer: SenderKeys, known: SenderKeys, demands: Demands) -> None:
    assert verify(signed.sign(SAID, signer), known, demands) == SAID


def test_who_demands_both_takes_no_message_with_one() -> None:
    with pytest.raises(BadSignature, match="lacks"):
        verify(signed.sign(SAID, ONE), BOTH, STRICT)


def test_who_demands_both_takes_no_message_of_whom_it_knows_one_key() -> None:
    with pytest.raises(UnknownSigner, match="ML-DSA-65"):
        verify(signed.sign(SAID, BOTH), ONE, STRICT)


def test_a_message_from_which_a_signature_was_taken_is_worth_nothing_even_to_who_demands_one() -> None:
    stripped = structs.replace(signed.parse(signed.sign(SAID, BOTH)), mldsa65=b"")
    with pytest.raises(BadSignature):
        verify(msgpack.encode(stripped), BOTH, LENIENT)


@pytest.mark.parametrize("member", ["ed25519", "mldsa65"])
@pytest.mark.parametrize("demands", [STRICT, LENIENT])
def test_each_signature_counts_for_itself(member: str, demands: Demands) -> None:
    message, others = (signed.parse(signed.sign(SAID, keys)) for keys in (BOTH, OTHER))
    mixed = structs.replace(message, **{member: getattr(others, member)})
    with pytest.raises(BadSignature):
        verify(msgpack.encode(mixed), BOTH, demands)


@pytest.mark.parametrize(
    "changed",
    [
        structs.replace(SAID, request_id=bytes(16)),
        structs.replace(SAID, time_ms=NOW + 1),
        structs.replace(SAID, body=b"revoke 18"),
        structs.replace(SAID, body=b""),
    ],
)
def test_every_member_is_signed(changed: Statement) -> None:
    message = structs.replace(signed.parse(signed.sign(SAID, BOTH)), statement=changed)
    with pytest.raises(BadSignature):
        verify(msgpack.encode(message))


@pytest.mark.parametrize(
    ("changed", "demands", "sender"),
    [
        (structs.replace(SAID, sender="ra-2"), STRICT, "ra-2"),
        (structs.replace(SAID, recipient="ca-2"), replace(STRICT, recipient="ca-2"), "ra-1"),
        (structs.replace(SAID, domain="issuance"), replace(STRICT, domain="issuance"), "ra-1"),
        # The same octets in a row, cut elsewhere.
        (
            structs.replace(SAID, domain="revocationr", sender="a-1"),
            replace(STRICT, domain="revocationr"),
            "a-1",
        ),
    ],
)
def test_a_message_cannot_be_turned_into_one_of_others(changed: Statement, demands: Demands, sender: str) -> None:
    message = structs.replace(signed.parse(signed.sign(SAID, BOTH)), statement=changed)
    with pytest.raises(BadSignature):
        signed.verify(msgpack.encode(message), {sender: BOTH.public()}, demands, window(), NOW)


def test_it_is_for_one_recipient_and_one_domain() -> None:
    octets = signed.sign(SAID, BOTH)
    with pytest.raises(WrongRecipient):
        verify(octets, demands=replace(STRICT, recipient="ca-2"))
    with pytest.raises(WrongDomain):
        verify(octets, demands=replace(STRICT, domain="issuance"))


def test_nobody_else_signs_for_a_sender() -> None:
    with pytest.raises(BadSignature):
        verify(signed.sign(SAID, OTHER))
    with pytest.raises(UnknownSigner):
        verify(signed.sign(structs.replace(SAID, sender="ra-2"), BOTH))


@pytest.mark.parametrize("now_ms", [NOW - SPAN, NOW + SPAN])
def test_it_is_in_time_to_the_last_millisecond(now_ms: int) -> None:
    assert verify(signed.sign(SAID, BOTH), now_ms=now_ms) == SAID


def test_a_millisecond_outside_the_window_it_is_not() -> None:
    with pytest.raises(TooOld):
        verify(signed.sign(SAID, BOTH), now_ms=NOW + SPAN + 1)
    with pytest.raises(FromTheFuture):
        verify(signed.sign(SAID, BOTH), now_ms=NOW - SPAN - 1)


def test_it_is_accepted_once_even_if_it_is_signed_anew() -> None:
    remembered = window()
    again = signed.sign(structs.replace(SAID, time_ms=NOW + 1, body=b"revoke 18"), BOTH)
    keys = {"ra-1": BOTH.public()}
    signed.verify(signed.sign(SAID, BOTH), keys, STRICT, remembered, NOW)
    for octets in (signed.sign(SAID, BOTH), again):
        with pytest.raises(Replayed):
            signed.verify(octets, keys, STRICT, remembered, NOW)


def test_a_forged_message_uses_up_nothing() -> None:
    remembered = ReplayWindow(SPAN, 1, 1)
    keys = {"ra-1": BOTH.public()}
    for octets in (signed.sign(SAID, OTHER), signed.sign(structs.replace(SAID, sender="ra-2"), BOTH)):
        with pytest.raises(NotAccepted):
            signed.verify(octets, keys, STRICT, remembered, NOW)
    assert len(remembered) == 0
    assert signed.verify(signed.sign(SAID, BOTH), keys, STRICT, remembered, NOW) == SAID


def test_a_message_that_cannot_be_remembered_is_not_accepted() -> None:
    remembered = ReplayWindow(SPAN, 1, 1)
    remembered.admit("ra-1", bytes(16), NOW, NOW)
    with pytest.raises(WindowFull):
        signed.verify(signed.sign(SAID, BOTH), {"ra-1": BOTH.public()}, STRICT, remembered, NOW)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xc0",
        signed.sign(SAID, BOTH) + b"\x00",
        signed.sign(SAID, BOTH)[:-1],
        b"\xdc\x00\x03" + signed.sign(SAID, BOTH)[1:],
        msgpack.encode([["d", "s", "r", ID, NOW, b""], bytes(64), bytes(10)]),
        msgpack.encode([["d", "s", "r", ID, NOW, b""], bytes(63), b""]),
        msgpack.encode([["d", "s", "r", ID, -1, b""], bytes(64), b""]),
        msgpack.encode([["d", "s", "r", ID, 2**63, b""], bytes(64), b""]),
        msgpack.encode([["d", "s", "", ID, NOW, b""], bytes(64), b""]),
        msgpack.encode([["d", "s", "r r", ID, NOW, b""], bytes(64), b""]),
        msgpack.encode([["d", "ß", "r", ID, NOW, b""], bytes(64), b""]),
        msgpack.encode([["d", "s", "r", ID[1:], NOW, b""], bytes(64), b""]),
        bytes(2_000_000),
    ],
)
def test_anything_else_is_malformed(octets: bytes) -> None:
    with pytest.raises(Malformed):
        verify(octets)


def test_the_signed_octets_begin_with_the_purpose_and_are_laid_out_as_told() -> None:
    message = signed.parse(signed.sign(structs.replace(SAID, body=b""), ONE))
    empty = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    fields = [b"ed25519", b"revocation", b"ra-1", b"ca-1", ID, NOW.to_bytes(8, "big"), empty]
    layout = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    expected = b"TrustChain: signed message between hosts, version 1\n" + layout
    ONE.ed25519.public_key().verify(message.ed25519, expected)


def test_no_signature_of_another_length_constructs() -> None:
    with pytest.raises(ValueError, match="length"):
        SignedMessage(SAID, bytes(64), bytes(3_308))
