"""`trustchain ca ...` on a running tree: rotation while it serves, keys kept elsewhere, and what is told otherwise."""

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.rig.recovery import kill
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree, trustchain

pytestmark = pytest.mark.integration

PASSPHRASE = "correct horse battery staple"


def ca(tree: Tree, *arguments: str, passphrase: str | None = None) -> subprocess.CompletedProcess[str]:
    """`trustchain ca ARGUMENTS`; a passphrase comes through a file descriptor."""
    command = [trustchain(), "ca", *arguments, "--data-dir", str(tree.data_dir)]
    if passphrase is not None:
        command += ["--passphrase-fd", "0"]
    return subprocess.run(
        command, input=passphrase or "", capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


def must(tree: Tree, *arguments: str, passphrase: str | None = None) -> str:
    done = ca(tree, *arguments, passphrase=passphrase)
    assert done.returncode == 0, done.stderr
    return done.stdout


def authorities(tree: Tree) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(must(tree, "list", "--json"))["authorities"]
    return found


def active(tree: Tree, role: str) -> dict[str, Any]:
    return next(each for each in authorities(tree) if each["role"] == role and each["state"] == "active")


def issued(tree: Tree) -> dict[str, Any]:
    answer = tree.issue(signing_request("www.example.test"))
    assert answer.status == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.interop
def test_root_and_intermediate_are_rotated_while_the_tree_serves(
    tree: Tree, short_path: Path, require_peer: Callable[[str], str]
) -> None:
    openssl = require_peer("openssl")
    old_root = short_path / "old-root.pem"
    old_root.write_bytes(tree.root_certificate.read_bytes())
    before = issued(tree)

    must(tree, "rotate", "intermediate")
    second = issued(tree)
    assert second["chain"] != before["chain"]
    must(tree, "rotate", "root")
    third = issued(tree)
    assert tree.api("GET", f"/v1/certificates/{before['serial']}").json()["chain"] == before["chain"]

    new_root = short_path / "new-root.pem"
    new_root.write_text(active(tree, "root")["certificate"])
    for given, roots in ((before, (old_root,)), (second, (old_root,)), (third, (old_root, new_root))):
        chain, leaf = short_path / "chain.pem", short_path / "leaf.pem"
        chain.write_text("".join(given["chain"]))
        leaf.write_text(given["certificate"])
        for root in (*roots, tree.root_certificate):
            verify = [openssl, "verify", "-x509_strict", "-CAfile", str(root), "-untrusted", str(chain), str(leaf)]
            done = subprocess.run(verify, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    kill(tree.worker_pid("ca"))
    assert issued(tree)["chain"] == third["chain"], "the next process goes on with it"
    assert tree.run("root", "--fingerprint").stdout.splitlines()[0] == str(tree.root_certificate)
    tree.wait_healthy(within=15)


def test_the_root_key_is_exported_removed_and_brought_when_it_is_needed(tree: Tree, short_path: Path) -> None:
    root, exported = active(tree, "root"), short_path / "root.key"
    told = must(tree, "export-root-key", "--out", str(exported), passphrase=PASSPHRASE)
    assert f"--id {root['id']} --exported {exported}" in told
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert (
        "exists: it is not replaced"
        in ca(tree, "export-root-key", "--out", str(exported), passphrase=PASSPHRASE).stderr
    )
    wrong = ca(tree, "remove-root-key", "--exported", str(exported), passphrase="wrong")
    assert (wrong.returncode, "refused: bad-key" in wrong.stderr) == (1, True)
    must(tree, "remove-root-key", "--exported", str(exported), passphrase=PASSPHRASE)
    assert not list(tree.data_dir.glob(f"ca/authorities/{root['id']}/key*"))
    assert active(tree, "root")["key"] == "offline"

    kill(tree.worker_pid("ca"))
    issued(tree)
    assert "--root-key FILE" in ca(tree, "rotate", "intermediate").stderr
    must(tree, "rotate", "intermediate", "--root-key", str(exported), passphrase=PASSPHRASE)
    assert active(tree, "root")["key"] == "offline", "it is used and not kept"
    must(tree, "rotate", "root", "--root-key", str(exported), passphrase=PASSPHRASE)
    assert active(tree, "root")["key"] == "file", "a new root has its key here"
    issued(tree)


def test_an_intermediate_is_requested_and_installed(tree: Tree, short_path: Path) -> None:
    request, certificate, chain = (short_path / name for name in ("request.pem", "signed.pem", "root.pem"))
    must(tree, "request-intermediate", "--out", str(request))
    csr = x509.load_pem_x509_csr(request.read_bytes())
    assert csr.is_signature_valid
    chain.write_text(active(tree, "root")["certificate"])
    certificate.write_text(active(tree, "intermediate")["certificate"])
    refused = ca(tree, "install-intermediate", "--certificate", str(certificate), "--chain", str(chain))
    assert "it is not for the key of a request that was made here" in refused.stderr
    assert "exists: it is not replaced" in ca(tree, "request-intermediate", "--out", str(request)).stderr


def test_without_a_running_tree_the_command_says_so(short_path: Path) -> None:
    done = ca(Tree(short_path / "nothing"), "list")
    assert done.returncode == 1
    assert "act through the running tree; start it with `trustchain run`" in done.stderr


def test_a_constrained_tree_serves_and_issues_only_what_its_constraints_permit(new_tree: Callable[..., Tree]) -> None:
    permitted = '["corp.example", "10.0.0.0/8"]'
    tree = new_tree(settings={"ca.permitted_names": permitted, "ca.excluded_names": '["secret.corp.example"]'})
    tree.start_healthy()
    for name in ("www.corp.example", "10.1.2.3", "localhost"):
        assert tree.issue(signing_request(name)).status == 201, name
    for name in ("www.example.test", "secret.corp.example", "192.0.2.1"):
        refused = tree.issue(signing_request(name))
        assert (refused.status, "name constraints" in refused.text) == (403, True), name


def test_a_post_quantum_hierarchy_stands_beside_the_classical_one(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree(settings={"ca.post_quantum": "true"})
    tree.start_healthy()
    found = {(each["kind"], each["role"]) for each in authorities(tree)}
    assert found == {(kind, role) for kind in ("classical", "post-quantum") for role in ("root", "intermediate")}
    must(tree, "rotate", "root", "--kind", "post-quantum")
    kill(tree.worker_pid("ca"))
    issued(tree)
    ends = tree.metrics()
    for title in ("root", "intermediate", "post-quantum-root", "post-quantum-intermediate", "retired"):
        line = next(line for line in ends.splitlines() if f'not_after_seconds{{certificate="{title}"}}' in line)
        assert float(line.split()[-1]) > 0, line
