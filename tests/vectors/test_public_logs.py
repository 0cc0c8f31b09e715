"""Octets that public logs and specifications have published: read, and verified, as every client would."""

import base64
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services import der
from services.ct import chain
from services.rfc6962 import note, structures
from services.rfc6962.structures import PrecertEntry, Sct
from services.rfc6962.verifier import LogVerifier, SignedHead, TreeHead

ICARUS = base64.b64decode(
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETtK8v7MICve56qTHHDhhBOuV4IlUaESxZryCfk9QbG9co/CqPvTsgPDbCpp6oFtyAHwlDhnvr7Ji"
    "jXRD9Cb2FA=="
)
LETS_ENCRYPT_X3_KEY_HASH = base64.b64decode("YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=")
SCT_LIST = bytes.fromhex("060a2b06010401d679020402")

# github.com/FiloSottile/sunlight (ISC), cmd/skylight/testdata/tree: checkpoint, and key and log_id of log.v3.json.
ROME_KEY = base64.b64decode(
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPIcer7RB32jt4bTEbhgUKLKvOctFD+I2hoDItFxUBlJiGFvftBuRk3fO7e1T7gC2ekyfL7XoO2oN"
    "/ObcZyc4EA=="
)
ROME_LOG_ID = base64.b64decode("CKIDXIl+znJaHUyhzhNVaSxIUov59RCXLh3fJXJExnk=")
ROME_CHECKPOINT = (
    "rome2026h1.example.org\n"
    "300\n"
    "lCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n"
    "\n"
    "— rome2026h1.example.org kVB1JgAAAZtxtEwABAMARzBFAiEAi+mTa2xjL1IdWpH82OeciGsGvwRAP+f1WkfKaSZCfFECIHoNPZ/Q3y6UNzvK"
    "OO9cuLr6V16vPNfhwhle9f6r5H/Z\n"
).encode()

# C2SP signed-note, the example at its beginning.
SIGNED_NOTE = (
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3Ze"
    "kRwNtIc=\n"
).encode()


def certificate() -> x509.Certificate:
    return x509.load_pem_x509_certificate((Path(__file__).parent / "icarus-certificate.pem").read_bytes())


def sct_list(data: bytes) -> list[bytes]:
    """The SCTs of a certificate, each as a list holds it, read from its octets."""
    tbs = der.members(der.whole(data, der.SEQUENCE))[0]
    extensions = der.members(der.whole(der.members(tbs)[-1].value, der.SEQUENCE))
    (listed,) = (each for each in extensions if each.value.startswith(SCT_LIST))
    octets = der.whole(der.members(listed)[-1].value, der.OCTET_STRING).value
    assert int.from_bytes(octets[:2], "big") == len(octets) - 2
    found = []
    at = 2
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 2], "big")
        found.append(octets[at + 2 : at + 2 + length])
        at += 2 + length
    return found


def test_an_sct_of_a_public_log_verifies_over_the_structures_made_here() -> None:
    serialized = sct_list(certificate().public_bytes(Encoding.DER))
    assert len(serialized) == 2
    parsed = [structures.parse_sct(each) for each in serialized]
    assert [structures.sct(each) for each in parsed] == serialized
    assert parsed[0].log_id == sha256(ICARUS).digest()
    entry = PrecertEntry(LETS_ENCRYPT_X3_KEY_HASH, certificate().tbs_precertificate_bytes)
    LogVerifier.of(ICARUS).verify_sct(parsed[0], entry)


def test_an_extension_is_cut_out_of_a_public_certificate_octet_for_octet() -> None:
    """Without its SCT list: what the library, which does the same for SCT lists, says."""
    data = certificate().public_bytes(Encoding.DER)
    assert chain.tbs_without(data, SCT_LIST) == certificate().tbs_precertificate_bytes


def test_a_checkpoint_of_another_implementation_is_read_and_verifies() -> None:
    verifier = LogVerifier.of(ROME_KEY)
    assert verifier.log_id == ROME_LOG_ID
    parsed = note.parse(ROME_CHECKPOINT)
    assert note.encode(parsed) == ROME_CHECKPOINT
    checkpoint = note.parse_checkpoint(parsed.text)
    assert (checkpoint.origin, checkpoint.size) == ("rome2026h1.example.org", 300)
    timestamp, signature = note.find_rfc6962_signature(parsed, checkpoint.origin, verifier.log_id)
    assert timestamp == 1_767_139_200_000
    verifier.verify_head(SignedHead(TreeHead(checkpoint.size, timestamp, checkpoint.root), signature))


def test_the_example_of_the_specification_is_read_and_written_again() -> None:
    parsed = note.parse(SIGNED_NOTE)
    assert parsed.text.endswith("\n\ned è subito sera.\n")
    assert [(each.name, each.key_id.hex()) for each in parsed.signatures] == [
        ("quasimodo.example/salvatore", "367ba04b")
    ]
    assert note.encode(parsed) == SIGNED_NOTE


def test_the_extension_with_a_leaf_index_is_that_of_the_specification() -> None:
    """Eight octets: type 0, length 5, a 40-bit number (static-ct-api, "SCT Extension")."""
    assert structures.leaf_index_extension(0x0102030405) == bytes.fromhex("0000050102030405")
    assert structures.parse_leaf_index(bytes.fromhex("0000050102030405")) == 0x0102030405


def test_an_sct_is_laid_out_as_rfc_6962_has_it() -> None:
    """Section 3.2: version, log ID, timestamp, extensions, DigitallySigned."""
    signature = bytes.fromhex("0403000130")
    laid_out = structures.sct(Sct(bytes(range(32)), 0x0102, b"ext", signature))
    assert laid_out == b"\x00" + bytes(range(32)) + (0x0102).to_bytes(8, "big") + b"\x00\x03ext" + signature
