"""openssl finds true what evidence claims: the chain, the OCSP answer, the log's signature, and the issuer's seal."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = pytest.mark.interop

PURPOSE = b"TrustChain: evidence of a certificate, version 1\n"


class Claims:
    """One evidence file taken apart into files for openssl, without any code that made it."""

    def __init__(self, octets: bytes, directory: Path, openssl: str) -> None:
        self.octets = octets
        self.members: dict[str, Any] = json.loads(octets)
        self.directory = directory
        self._openssl = openssl
        for name, pem in zip(("leaf", "issuer", "root"), self.members["chain"], strict=True):
            self.write(f"{name}.pem", pem.encode())

    def write(self, name: str, octets: bytes) -> str:
        path = self.directory / name
        path.write_bytes(octets)
        return str(path)

    def file(self, name: str) -> str:
        return str(self.directory / name)

    def openssl(self, *arguments: str) -> str:
        done = subprocess.run([self._openssl, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def is_signed(self, content: bytes, signature: bytes, key: str) -> bool:
        files = self.write("content", content), self.write("signature", signature)
        return "Verified OK" in self.openssl("dgst", "-sha256", "-verify", key, "-signature", files[1], files[0])


@pytest.fixture
def claims(shared_tree: Tree, tmp_path: Path, require_peer: Callable[[str], str]) -> Claims:
    openssl = require_peer("openssl")
    serial = shared_tree.issue(signing_request("www.example.test")).json()["serial"]
    answer = shared_tree.api("GET", f"/v1/certificates/{serial}/evidence")
    assert answer.status == 200, answer.text
    return Claims(answer.body, tmp_path, openssl)


def test_openssl_verifies_the_chain(claims: Claims) -> None:
    chain = ["-CAfile", claims.file("root.pem"), "-untrusted", claims.file("issuer.pem")]
    assert claims.openssl("verify", "-x509_strict", *chain, claims.file("leaf.pem")).endswith("leaf.pem: OK\n")


def test_openssl_verifies_the_ocsp_answer(claims: Claims) -> None:
    answer = claims.write("answer.der", base64.b64decode(claims.members["ocsp"]))
    told = claims.openssl(
        "ocsp", "-respin", answer, "-issuer", claims.file("issuer.pem"), "-cert", claims.file("leaf.pem"),
        "-CAfile", claims.file("root.pem"), "-no_nonce",
    )  # fmt: skip
    assert "Response verify OK" in told
    assert f"{claims.file('leaf.pem')}: good" in told


def test_openssl_verifies_the_tree_head_by_the_logs_key(claims: Claims, shared_tree: Tree) -> None:
    log = claims.members["log"]
    private = serialization.load_pem_private_key((shared_tree.data_dir / "ct" / "log.key").read_bytes(), password=None)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = struct.pack(">BBQQ", 0, 1, log["timestamp"], log["tree_size"]) + base64.b64decode(log["root_hash"])
    signature = base64.b64decode(log["signature"])
    assert signature[:2] == b"\x04\x03"
    assert claims.is_signed(head, signature[4:], claims.write("log.pem", public))


def test_openssl_verifies_the_seal_over_all_other_octets(claims: Claims) -> None:
    seal = claims.members["seal"]
    sealed = claims.octets.replace(f'"seal":"{seal}"'.encode(), b'"seal":""')
    assert sealed != claims.octets
    issuer = x509.load_pem_x509_certificate(claims.members["chain"][1].encode())
    key = issuer.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert claims.is_signed(PURPOSE + sealed, base64.b64decode(seal), claims.write("key.pem", key))
