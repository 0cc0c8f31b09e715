"""The commands `root`, `issue` and `certs` against a running API."""

import json
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.cli import certs, issue, root
from services.errors import Unavailable
from tests.integration.running_api import RunningApi
from tests.rig.ports import free_port
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    directory = short_directory()
    with RunningApi(directory) as running:
        yield running
    remove_directory(directory)


def run(command: object, api: RunningApi, *arguments: str, port: int | None = None) -> Result:
    where = ["--data-dir", str(api.paths.data_dir), "--set", f"api.port={port or api.port}"]
    return CliRunner().invoke(command, [*where, *arguments])  # type: ignore[arg-type]  # click's commands are untyped here


@pytest.mark.parametrize(
    ("key_type", "kind"),
    [("p256", ec.EllipticCurvePrivateKey), ("ed25519", ed25519.Ed25519PrivateKey), ("rsa3072", rsa.RSAPrivateKey)],
)
def test_issue_writes_a_key_and_the_certificates_that_prove_it(
    api: RunningApi, tmp_path: Path, key_type: str, kind: type
) -> None:
    out = tmp_path / "new" / "place"
    result = run(issue, api, "--dns", "a.test", "--ip", "192.0.2.1", "--key-type", key_type, "--out", str(out))
    assert result.exit_code == 0, result.output
    key = load_pem_private_key((out / "key.pem").read_bytes(), None)
    (leaf,) = x509.load_pem_x509_certificates((out / "certificate.pem").read_bytes())
    (issuer,) = x509.load_pem_x509_certificates((out / "chain.pem").read_bytes())
    assert x509.load_pem_x509_certificates((out / "fullchain.pem").read_bytes()) == [leaf, issuer]
    assert isinstance(key, kind)
    assert key.public_key() == leaf.public_key()
    leaf.verify_directly_issued_by(issuer)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["a.test", "192.0.2.1"]
    assert f"serial       {leaf.serial_number:x}\n" in result.output
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {
        "key.pem": 0o600,
        "certificate.pem": 0o644,
        "chain.pem": 0o644,
        "fullchain.pem": 0o644,
    }


def test_what_was_issued_serves_tls_to_who_trusts_the_root(api: RunningApi, tmp_path: Path) -> None:
    assert run(issue, api, "--dns", "a.test", "--out", str(tmp_path)).exit_code == 0
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "fullchain.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cadata=run(root, api).output)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="a.test"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].getpeercert()


def test_profile_and_lifetime_are_passed_on(api: RunningApi, tmp_path: Path) -> None:
    result = run(issue, api, "--dns", "a.test", "--profile", "tls-client", "--validity", "600", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    issued = list(api.authority.issued.values())[-1]
    assert (issued.profile, issued.not_after - issued.not_before) == ("tls-client", 660)


def test_existing_files_are_replaced_only_by_force_and_nothing_is_issued_before(
    api: RunningApi, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text("precious")
    before = len(api.authority.issued)
    refused = run(issue, api, "--dns", "a.test", "--out", str(tmp_path))
    assert refused.exit_code == 1
    assert "key.pem exists" in refused.output
    assert (tmp_path / "key.pem").read_text() == "precious"
    assert len(api.authority.issued) == before
    assert run(issue, api, "--dns", "a.test", "--out", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "key.pem").read_text() != "precious"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give at least one name"),
        (("--ip", "300.1.1.1"), "--ip 300.1.1.1"),
        (("--dns", "bücher.test"), "--dns bücher.test"),
        (("--dns", "forbidden.test"), "A name is not allowed: forbidden.test is denied (field: csr)"),
        (("--dns", "a.test", "--profile", "no-such-profile"), "there is tls-server (field: profile)"),
    ],
)
def test_a_refusal_is_told_and_leaves_no_file(
    api: RunningApi, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    result = run(issue, api, *arguments, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert told in result.output
    assert os.listdir(tmp_path) == []


def test_a_tree_that_does_not_run_is_named_as_the_cause(api: RunningApi, tmp_path: Path) -> None:
    result = run(issue, api, "--dns", "a.test", "--out", str(tmp_path), port=free_port())
    assert result.exit_code == 1
    assert "Is the tree running?" in result.output


def test_a_data_directory_without_a_tree_is_named_as_the_cause(tmp_path: Path) -> None:
    for command, arguments in ((root, []), (certs, []), (issue, ["--dns", "a.test", "--out", str(tmp_path / "o")])):
        result = CliRunner().invoke(command, ["--data-dir", str(tmp_path), *arguments])
        assert result.exit_code == 1
        assert "there is no root certificate" in result.output
        assert "trustchain run" in result.output


def test_another_servers_certificate_is_not_accepted(api: RunningApi) -> None:
    directory = short_directory()
    with RunningApi(directory) as other:
        result = run(certs, api, port=other.port)
    remove_directory(directory)
    assert result.exit_code == 1
    assert "is not the API of the tree" in result.output


def test_a_wrong_token_is_told(api: RunningApi) -> None:
    content = api.paths.admin_token.read_text()
    api.paths.admin_token.write_text("x" * 43)
    try:
        result = run(certs, api)
    finally:
        api.paths.admin_token.write_text(content)
    assert result.exit_code == 1
    assert "the token is not valid" in result.output
    assert content.strip() not in result.output


def test_a_short_unavailability_is_waited_for(api: RunningApi, tmp_path: Path) -> None:
    left = 2

    async def unavailable_twice(_: object) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Unavailable("in a moment")

    api.authority.fault = unavailable_twice
    try:
        result = run(issue, api, "--dns", "a.test", "--out", str(tmp_path))
    finally:
        api.authority.fault = None
    assert result.exit_code == 0, result.output


def test_root_prints_the_certificate_or_what_to_compare(api: RunningApi) -> None:
    assert run(root, api).output == api.authority.root_pem
    digest = sha256(ssl.PEM_cert_to_DER_cert(api.authority.root_pem)).hexdigest().upper()
    output = run(root, api, "--fingerprint").output
    assert output.splitlines()[0] == str(api.paths.root_certificate)
    assert output.splitlines()[1].replace(":", "").endswith(digest)


def test_certs_lists_what_was_issued(api: RunningApi, tmp_path: Path) -> None:
    assert run(issue, api, "--dns", "listed.test", "--out", str(tmp_path)).exit_code == 0
    lines = run(certs, api, "--name", "listed.test").output.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("listed.test")
    document = json.loads(run(certs, api, "--name", "listed.test", "--json", "--limit", "1").output)
    assert document["more"] is False
    assert document["certificates"][0]["names"] == ["listed.test"]
    assert document["certificates"][0]["certificate"].startswith("-----BEGIN CERTIFICATE-----")


def test_the_token_is_in_no_output(api: RunningApi, tmp_path: Path) -> None:
    for result in (run(certs, api), run(issue, api, "--dns", "a.test", "--out", str(tmp_path)), run(root, api)):
        assert api.token not in result.output


def test_light_commands_do_not_load_what_only_heavy_ones_need() -> None:
    code = "import sys, services.cli; print([m for m in ('cryptography', 'aiohttp', 'uvloop') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
