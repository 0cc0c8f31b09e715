"""Signed certificate timestamps: read, listed, and believed only when the log has signed them."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.ca.issuance import sct
from services.ca.issuance.certification import Certifier
from services.ca.issuance.sct import (
    LogIdentity,
    Sct,
    SctError,
    SctFromTheFuture,
    check_clock,
    parse_list,
    parse_sct,
    verify,
)
from services.ct.messages import AcceptRoots, AddChain, SignedCertificateTimestamp
from tests.rig.fake_log import FakeLog
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, decided, hierarchy_of

LOG = FakeLog(now=lambda: NOW * 1000 + 123)
IDENTITY = LogIdentity.of(LOG.spki)
CERTIFIER = Certifier(hierarchy_of().issuer)
MADE = CERTIFIER.precertificate(CERTIFIER.draft(decided(pem(request(dns("host.example"))))))


def promise() -> SignedCertificateTimestamp:
    async def asked() -> SignedCertificateTimestamp:
        root = hierarchy_of().root.public_bytes(serialization.Encoding.DER)
        await LOG.accept_roots(AcceptRoots(certificates=[root]))
        return await LOG.add(AddChain(chain=CERTIFIER.chain(MADE), entry_type="precert"))

    return asyncio.run(asked())


PROMISE = promise()


def test_a_promise_of_the_log_is_believed() -> None:
    verify(PROMISE, IDENTITY, CERTIFIER.key_hash, MADE.logged)
    taken_apart = parse_sct(PROMISE.serialized)
    assert taken_apart == Sct(LOG.log_id, NOW * 1000 + 123, b"\x00\x00\x05" + bytes(5), PROMISE.signature)
    assert sct.leaf_index_of(taken_apart.extensions) == PROMISE.leaf_index == 0


def test_the_log_id_is_the_hash_of_its_key() -> None:
    assert IDENTITY.log_id == LOG.log_id


def changed(**fields: object) -> SignedCertificateTimestamp:
    return msgspec.structs.replace(PROMISE, **fields)


def reserialized(timestamp: int, extensions: bytes, signature: bytes) -> SignedCertificateTimestamp:
    """Fields and structure that say the same, but not what was signed."""
    serialized = (
        b"\0" + LOG.log_id + timestamp.to_bytes(8, "big") + len(extensions).to_bytes(2, "big") + extensions + signature
    )
    return changed(timestamp=timestamp, extensions=extensions, signature=signature, serialized=serialized)


EXTENSIONS, SIGNATURE = PROMISE.extensions, PROMISE.signature


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (changed(timestamp=PROMISE.timestamp + 1), "something else than the reply"),
        (changed(log_id=bytes(32)), "something else than the reply"),
        (changed(extensions=b""), "something else than the reply"),
        (changed(signature=SIGNATURE[:-1] + b"\0"), "something else than the reply"),
        (changed(leaf_index=1), "for the leaf 0, in a reply about the leaf 1"),
        (reserialized(PROMISE.timestamp + 1, EXTENSIONS, SIGNATURE), "does not verify"),
        (reserialized(PROMISE.timestamp, b"", SIGNATURE), "does not verify"),
        (reserialized(PROMISE.timestamp, EXTENSIONS, SIGNATURE[:4] + bytes(len(SIGNATURE) - 4)), "does not verify"),
        (changed(serialized=b"\x01" + PROMISE.serialized[1:]), "version 2"),
        (changed(serialized=PROMISE.serialized + b"\0"), "wrong length"),
        (changed(serialized=PROMISE.serialized[:-1]), "wrong length"),
        (changed(serialized=b""), "cut off"),
    ],
)
def test_a_promise_that_is_not_the_logs_is_refused(reply: SignedCertificateTimestamp, why: str) -> None:
    with pytest.raises(SctError, match=why):
        verify(reply, IDENTITY, CERTIFIER.key_hash, MADE.logged)


def test_a_promise_for_something_else_is_refused() -> None:
    other = LogIdentity.of(FakeLog().spki)
    for log, key_hash, logged in (
        (other, CERTIFIER.key_hash, MADE.logged),
        (IDENTITY, bytes(32), MADE.logged),
        (IDENTITY, CERTIFIER.key_hash, MADE.to_be_signed),
        (IDENTITY, CERTIFIER.key_hash, MADE.logged[:-1] + b"\0"),
    ):
        with pytest.raises(SctError):
            verify(PROMISE, log, key_hash, logged)


def spki(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "key",
    [
        lambda: b"",
        lambda: b"\x30\x00",
        lambda: LOG.spki[:-1],
        lambda: LOG.spki + b"\0",
        lambda: spki(ec.generate_private_key(ec.SECP384R1())),
        lambda: spki(ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_a_key_that_no_log_has_is_refused(key: Callable[[], bytes]) -> None:
    with pytest.raises(SctError, match="the log's key"):
        LogIdentity.of(key())


def test_a_list_is_read_as_it_was_written() -> None:
    for scts in ((PROMISE.serialized,), (b"a", b"bc"), (bytes(65_533),)):
        assert parse_list(sct.encode_list(scts)) == scts


@pytest.mark.parametrize(
    "octets", ["", "00", "0000", "0001", "000100", "00020000", "0003000241", "0004000141", "0003000141ff", "00030001"]
)
def test_what_is_no_list_is_refused(octets: str) -> None:
    with pytest.raises(SctError, match="list"):
        parse_list(bytes.fromhex(octets))


@pytest.mark.parametrize("scts", [[], [b""], [b"a", b""], [bytes(65_534)]])
def test_what_cannot_be_a_list_is_refused(scts: list[bytes]) -> None:
    with pytest.raises(SctError, match="empty or too long"):
        sct.encode_list(scts)


def test_a_timestamp_of_the_future_is_a_clocks_fault() -> None:
    check_clock(NOW * 1000, NOW * 1000)
    check_clock(NOW * 1000 + sct.MAX_AHEAD_MILLISECONDS, NOW * 1000)
    with pytest.raises(SctFromTheFuture, match="61 s ahead"):
        check_clock(NOW * 1000 + 61_000, NOW * 1000)


def test_octets_that_a_log_signs_are_those_of_rfc_6962() -> None:
    """Section 3.2: version, signature type, timestamp, entry type, issuer key hash, TBSCertificate, extensions."""
    signed = sct.signed_octets(0x0102030405060708, b"\xaa" * 32, b"tbs", b"ext")
    assert signed.hex() == "000001020304050607080001" + "aa" * 32 + "0000037462730003657874"
