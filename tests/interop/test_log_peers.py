"""Foreign programs accept the log of a running tree: openssl its timestamps, certspotter its tree and its entries."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.rig.polling import eventually
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
SPKI = PublicFormat.SubjectPublicKeyInfo


def public_key(tree: Tree) -> bytes:
    """The SubjectPublicKeyInfo of the log, from its key file."""
    key = serialization.load_pem_private_key((tree.data_dir / "ct" / "log.key").read_bytes(), None)
    return key.public_key().public_bytes(Encoding.DER, SPKI)


def test_openssl_accepts_the_timestamp_of_the_certificate_that_the_tree_serves(
    require_peer: Peer, shared_tree: Tree, tmp_path: Path
) -> None:
    known = tmp_path / "ctlog.conf"
    key = base64.b64encode(public_key(shared_tree)).decode()
    known.write_text(f"enabled_logs = ours\n[ours]\ndescription = the log of this tree\nkey = {key}\n")
    command = [require_peer("openssl"), "s_client", "-connect", f"127.0.0.1:{shared_tree.api_port}"]
    trusted = ["-CAfile", str(shared_tree.root_certificate), "-verify_ip", "127.0.0.1", "-verify_return_error"]
    done = subprocess.run(
        [*command, *trusted, "-ct", "-ctlogfile", str(known)],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Verify return code: 0 (ok)" in said, said
    assert "SCT validation status: valid" in said, said


def test_certspotter_follows_the_log_and_finds_what_was_issued(
    require_peer: Peer, shared_tree: Tree, tmp_path: Path
) -> None:
    """It verifies the head's signature, hashes the entries itself and compares the roots, before it is done."""
    certspotter = require_peer("certspotter")
    names = [f"h{at}.watched.test" for at in range(3)]
    for name in (*names, "www.unnoticed.test"):
        assert shared_tree.issue(signing_request(name)).status == 201
    said = followed(certspotter, shared_tree, public_key(shared_tree), tmp_path, until="finished downloading")
    for name in names:
        assert f"DNS Name = {name}" in said, said
    assert "unnoticed" not in said
    assert "rror" not in said, said


def test_certspotter_refuses_a_head_that_another_key_would_have_had_to_sign(
    require_peer: Peer, shared_tree: Tree, tmp_path: Path
) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, SPKI)
    said = followed(require_peer("certspotter"), shared_tree, other, tmp_path, until="rror")
    assert "signature" in said, said
    assert "downloading" not in said, said


def followed(certspotter: str, tree: Tree, key: bytes, directory: Path, until: str) -> str:
    """What certspotter says of the tree's log, if `key` were the log's, up to a word."""
    log = {
        "description": "the log of this tree",
        "log_id": base64.b64encode(sha256(key).digest()).decode(),
        "key": base64.b64encode(key).decode(),
        "url": f"https://127.0.0.1:{tree.api_port}/",
        "mmd": 1,
        "state": {"usable": {"timestamp": "2026-01-01T00:00:00Z"}},
    }
    logs, watched, found = directory / "logs.json", directory / "watchlist", directory / "found"
    logs.write_text(json.dumps({"version": "1", "operators": [{"name": "TrustChain", "email": [], "logs": [log]}]}))
    watched.write_text(".watched.test\n")
    files = ["-logs", str(logs), "-watchlist", str(watched), "-state_dir", str(directory / "state")]
    with found.open("w") as output:
        process = subprocess.Popen(
            [certspotter, *files, "-stdout", "-verbose"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SSL_CERT_FILE": str(tree.root_certificate)},
        )
        try:
            eventually(f"certspotter says {until}", lambda: until in found.read_text(), within=60.0)
        finally:
            process.kill()
            process.wait()
    return found.read_text()
