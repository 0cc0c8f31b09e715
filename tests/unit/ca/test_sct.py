"""Signed certificate timestamps: believed only when the log has signed them."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.ca.issuance import sct
from services.ca.issuance.certification import Certifier
from services.ca.issuance.sct import SctError, SctFromTheFuture, check_clock, verify
from services.ct.messages import AcceptRoots, AddChain, SignedCertificateTimestamp
from services.rfc6962 import structures
from services.rfc6962.structures import Sct
from services.rfc6962.verifier import LogVerifier
from tests.rig.fake_log import FakeLog
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, decided, hierarchy_of

LOG = FakeLog(now=lambda: NOW * 1000 + 123)
IDENTITY = LogVerifier.of(LOG.spki)
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
    taken_apart = structures.parse_sct(PROMISE.serialized)
    assert taken_apart == Sct(LOG.log_id, NOW * 1000 + 123, b"\x00\x00\x05" + bytes(5), PROMISE.signature)
    assert structures.parse_leaf_index(taken_apart.extensions) == PROMISE.leaf_index == 0


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
        (reserialized(PROMISE.timestamp, b"", SIGNATURE), "not one leaf index"),
        (reserialized(PROMISE.timestamp, EXTENSIONS, SIGNATURE[:4] + bytes(len(SIGNATURE) - 4)), "does not verify"),
        (changed(serialized=b"\x01" + PROMISE.serialized[1:]), "not of version 1"),
        (changed(serialized=PROMISE.serialized + b"\0"), "1 octets follow"),
        (changed(serialized=PROMISE.serialized[:-1]), "cut off"),
        (changed(serialized=b""), "cut off"),
    ],
)
def test_a_promise_that_is_not_the_logs_is_refused(reply: SignedCertificateTimestamp, why: str) -> None:
    with pytest.raises(SctError, match=why):
        verify(reply, IDENTITY, CERTIFIER.key_hash, MADE.logged)


def test_a_promise_for_something_else_is_refused() -> None:
    other = LogVerifier.of(FakeLog().spki)
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
    with pytest.raises(ValueError, match="key"):
        LogVerifier.of(key())


def test_a_timestamp_of_the_future_is_a_clocks_fault() -> None:
    check_clock(NOW * 1000, NOW * 1000)
    check_clock(NOW * 1000 + sct.MAX_AHEAD_MILLISECONDS, NOW * 1000)
    with pytest.raises(SctFromTheFuture, match="61 s ahead"):
        check_clock(NOW * 1000 + 61_000, NOW * 1000)
