"""A running tree revokes: by token, by the key of the certificate, by the command line; what bad input gets."""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rig.peers import require_peer
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Response, Tree

pytestmark = pytest.mark.integration


def issued(tree: Tree, name: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    answer = tree.issue(signing_request(name, key=key))
    assert answer.status == 201, answer.text
    return str(answer.json()["serial"])


def revoke(tree: Tree, serial: str, *, authorized: bool = True, **members: object) -> Response:
    return tree.api("POST", f"/v1/certificates/{serial}/revoke", members, authorized=authorized)


def problem(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json()["type"].removeprefix("urn:trustchain:problem:")


def listed(tree: Tree) -> set[str]:
    """All serial numbers on all published lists."""
    return {
        f"{entry.serial_number:x}"
        for path in (tree.data_dir / "ca" / "crl").glob("*.crl")
        for entry in x509.load_der_x509_crl(path.read_bytes())
    }


def test_an_administrator_revokes_and_everything_says_so(shared_tree: Tree) -> None:
    serial, other = issued(shared_tree, "revoked.example.test"), issued(shared_tree, "valid.example.test")
    before = int(time.time())
    answer = revoke(shared_tree, serial, reason="superseded")
    assert answer.status == 200, answer.text
    told = answer.json()
    assert (told["serial"], told["reason"]) == (serial, "superseded")
    assert before <= told["revoked_at"] <= time.time()
    assert isinstance(told["crl_number"], int)
    assert serial in listed(shared_tree)
    document = shared_tree.api("GET", f"/v1/certificates/{serial}").json()
    assert (document["status"], document["revocation_reason"]) == ("revoked", "superseded")
    assert document["revoked_at"] == told["revoked_at"]
    found = shared_tree.api("GET", "/v1/certificates?status=revoked").json()["certificates"]
    assert serial in {row["serial"] for row in found}
    assert other not in {row["serial"] for row in found}
    valid = shared_tree.api("GET", "/v1/certificates?status=valid&limit=1000").json()["certificates"]
    assert serial not in {row["serial"] for row in valid}
    assert other in {row["serial"] for row in valid}
    assert problem(revoke(shared_tree, serial)) == (409, "already-revoked")


def test_bad_input_gets_its_status_and_revokes_nothing(shared_tree: Tree) -> None:
    serial = issued(shared_tree, "stays.example.test")
    assert problem(revoke(shared_tree, serial, authorized=False)) == (401, "unauthorized")
    assert problem(revoke(shared_tree, "f" * 32)) == (404, "not-found")
    assert problem(revoke(shared_tree, "f" * 41)) == (422, "bad-field")
    assert problem(revoke(shared_tree, serial, reason="certificateHold")) == (422, "bad-reason")
    assert problem(revoke(shared_tree, serial, reason="cACompromise")) == (422, "bad-reason")
    assert problem(revoke(shared_tree, serial, reason=7)) == (422, "bad-field")
    assert problem(revoke(shared_tree, serial, because="x")) == (422, "bad-field")
    assert problem(revoke(shared_tree, serial, proof={"signed_at": 1, "signature": "?"})) == (422, "bad-field")
    assert problem(shared_tree.api("POST", f"/v1/certificates/{serial}/revoke", b"{")) == (400, "bad-json")
    assert serial not in listed(shared_tree)
    assert shared_tree.api("GET", f"/v1/certificates/{serial}").json()["status"] == "valid"


def test_the_owner_revokes_with_the_key_alone_by_what_openssl_signs(shared_tree: Tree, short_path: Path) -> None:
    openssl, key = require_peer("openssl"), new_key()
    serial = issued(shared_tree, "owner.example.test", key)
    (short_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    now = int(time.time())
    message = f"TrustChain: revoke a certificate, version 1\n{serial}\nkeyCompromise\n{now}\n"
    done = subprocess.run(
        [openssl, "dgst", "-sha256", "-sign", str(short_path / "key.pem")],
        input=message.encode(),
        capture_output=True,
        check=True,
    )

    def proof(signature: bytes, signed_at: int = now) -> dict[str, Any]:
        return {"signed_at": signed_at, "signature": base64.b64encode(signature).decode()}

    of_another = new_key().sign(message.encode(), ec.ECDSA(hashes.SHA256()))
    stolen = revoke(shared_tree, serial, authorized=False, reason="keyCompromise", proof=proof(of_another))
    assert problem(stolen) == (403, "unauthorized-revocation")
    late = revoke(shared_tree, serial, authorized=False, reason="keyCompromise", proof=proof(done.stdout, now - 3600))
    assert problem(late) == (403, "unauthorized-revocation")
    answer = revoke(shared_tree, serial, authorized=False, reason="keyCompromise", proof=proof(done.stdout))
    assert answer.status == 200, answer.text
    assert serial in listed(shared_tree)


def test_the_command_line_revokes_and_shows_it(shared_tree: Tree) -> None:
    serial = issued(shared_tree, "cli.example.test")
    spelled = ":".join(serial[at : at + 2] for at in range(0, len(serial), 2)).upper()
    told = shared_tree.run("revoke", spelled, "--reason", "cessationOfOperation").stdout
    assert f"serial       {serial}\n" in told
    assert "reason       cessationOfOperation\n" in told
    lines = shared_tree.run("certs", "--status", "revoked").stdout.splitlines()
    assert any(line.startswith(f"{serial}  revoked") for line in lines)
    as_json = json.loads(shared_tree.run("certs", "--name", "cli.example.test", "--json").stdout)
    assert as_json["certificates"][0]["revocation_reason"] == "cessationOfOperation"
    again = shared_tree.run("revoke", serial, check=False)
    assert again.returncode == 1
    assert "revoked already" in again.stderr
    wrong = shared_tree.run("revoke", "no-serial", check=False)
    assert wrong.returncode == 1
    assert "trustchain certs" in wrong.stderr


def test_revocations_and_lists_are_counted(shared_tree: Tree) -> None:
    revoke(shared_tree, issued(shared_tree, "counted.example.test"), reason="affiliationChanged")
    exposed = shared_tree.metrics()
    for family in (
        "trustchain_ca_revocations_total",
        "trustchain_ca_crl_number",
        "trustchain_ca_crl_next_update_seconds",
        "trustchain_ca_crl_sign_seconds",
        "trustchain_ca_ocsp_answers_total",
        "trustchain_ca_ocsp_responder_not_after_seconds",
    ):
        assert family in exposed
