"""What the log signs, and what is no signature of it."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.ct.signing import LogSigner
from services.rfc6962 import structures
from services.rfc6962.structures import X509Entry
from services.rfc6962.verifier import LogVerifier, SignatureRefused, SignedHead, TreeHead

SIGNER = LogSigner(ec.generate_private_key(ec.SECP256R1()))
OTHER = LogSigner(ec.generate_private_key(ec.SECP256R1()))
ENTRY = X509Entry(b"certificate")
HEAD = TreeHead(5, 7, bytes(32))


def test_an_sct_is_by_this_log_over_this_entry_at_this_place() -> None:
    sct = SIGNER.sign_entry(structures.signed_entry(ENTRY), 7, 5)
    SIGNER.verifier.verify_sct(sct, ENTRY)
    assert structures.parse_leaf_index(sct.extensions) == 5
    for verifier, entry in ((OTHER.verifier, ENTRY), (SIGNER.verifier, X509Entry(b"another"))):
        with pytest.raises(SignatureRefused):
            verifier.verify_sct(sct, entry)


def test_the_same_is_signed_in_the_same_octets() -> None:
    assert SIGNER.sign(b"data") == SIGNER.sign(b"data")


def test_a_head_is_by_this_log_and_over_all_of_it() -> None:
    signed = SIGNER.sign_head(HEAD)
    SIGNER.verifier.verify_head(signed)
    changed = (TreeHead(6, 7, bytes(32)), TreeHead(5, 8, bytes(32)), TreeHead(5, 7, bytes(31) + b"x"))
    for head in changed:
        with pytest.raises(SignatureRefused):
            SIGNER.verifier.verify_head(SignedHead(head, signed.signature))
    with pytest.raises(SignatureRefused):
        OTHER.verifier.verify_head(signed)
    with pytest.raises(SignatureRefused):
        SIGNER.verifier.verify_head(SignedHead(HEAD, b"\x04\x03\x00\x01"))


def test_a_key_is_known_by_its_public_part_alone() -> None:
    again = LogVerifier.of(SIGNER.verifier.public_key)
    assert again.log_id == SIGNER.log_id
    again.verify(SIGNER.sign(b"data"), b"data")


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()], ids=["P-384", "Ed25519"]
)
def test_other_keys_are_not_those_of_logs(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="the key of a log"):
        LogVerifier.of(public)
