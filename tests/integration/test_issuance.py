"""What the running tree issues, looked at by programs that others wrote."""

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree

pytestmark = [pytest.mark.integration, pytest.mark.interop]


def test_issue_writes_what_openssl_verifies(
    shared_tree: Tree, short_path: Path, require_peer: Callable[[str], str]
) -> None:
    openssl = require_peer("openssl")
    out = short_path / "issued"
    shared_tree.run("issue", "--dns", "www.example.test", "--out", str(out))
    files = {path.name: path for path in out.iterdir()}
    key = next(path for name, path in files.items() if "key" in name)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    certificate = next(path for name, path in files.items() if "cert" in name)
    chain = next(path for name, path in files.items() if "chain" in name)
    verify = [openssl, "verify", "-purpose", "sslserver", "-verify_hostname", "www.example.test"]
    verify += ["-CAfile", str(shared_tree.root_certificate), "-untrusted", str(chain), str(certificate)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_gnutls_verifies_what_is_issued(
    shared_tree: Tree, short_path: Path, require_peer: Callable[[str], str]
) -> None:
    certtool = require_peer("certtool")
    issued = shared_tree.issue(signing_request("gnutls.example.test")).json()
    bundle = short_path / "bundle.pem"
    bundle.write_text(issued["certificate"] + "".join(issued["chain"]))
    verify = [certtool, "--verify", "--load-ca-certificate", str(shared_tree.root_certificate), "--infile", str(bundle)]
    checked = subprocess.run([*verify, "--verify-profile=medium"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("profile", ["tls-server", "tls-client", "tls-server-client"])
def test_pkilint_finds_no_error(
    shared_tree: Tree, short_path: Path, require_peer: Callable[[str], str], profile: str
) -> None:
    lint = require_peer("lint_pkix_cert")
    answer = shared_tree.issue(signing_request("lint.example.test", "192.0.2.7"), profile=profile)
    assert answer.status == 201, answer.text
    issued = answer.json()
    for number, pem in enumerate([issued["certificate"], *issued["chain"], shared_tree.root_certificate.read_text()]):
        path = short_path / f"{number}.pem"
        path.write_text(pem)
        linted = subprocess.run(
            [lint, "lint", "--severity", "ERROR", "--format", "json", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert linted.returncode == 0, linted.stdout + linted.stderr
        assert json.loads(linted.stdout)["results"] == [], linted.stdout
