"""What foreign programs say of rotated roots, cross certificates and name constraints, and that theirs are imported."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from config.schema import Ca
from services.ca.hierarchy import ceremony, hierarchy
from services.ca.hierarchy.creation import create_request
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.messages import CeremonyRefused
from services.ca.installation import new_hierarchy
from services.ca.issuance import issuance, signing
from services.ca.keys import key_files
from services.ca.messages import Refusal
from tests.unit.ca.applicants import dns, ip, pem, request
from tests.unit.ca.authorities import asked, means, rotated, rules

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
NOW = int(time.time())
SERIAL = 0x80000000000000000000000000000001
SERVER = ("-purpose", "sslserver", "-x509_strict")


def just_after() -> int:
    """A time after what openssl made: it takes the time of the machine, which may be long after NOW."""
    return int(time.time()) + 1


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def must(*command: str) -> str:
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write(path: Path, *certificates: x509.Certificate) -> str:
    path.write_bytes(b"".join(map(certificate_pem, certificates)))
    return str(path)


def leaf(
    made: Hierarchy, names: Sequence[x509.GeneralName], *, checked: bool = True, now: int = NOW
) -> x509.Certificate:
    """A server's certificate; `checked`: name constraints are kept, as they always are outside of this test."""
    issuer = made.issuer if checked else replace(made.issuer, constraints=())
    wanted = asked(pem(request(names)))
    decision = issuance.decide(wanted, rules(), {"classical": issuer}, now, SERIAL)
    decision = replace(decision, profile=replace(decision.profile, transparency=False))
    return x509.load_der_x509_certificate(signing.certificate(issuance.to_be_signed(decision), issuer.private_key))


@pytest.fixture(scope="module")
def before() -> Hierarchy:
    return new_hierarchy(Ca(), NOW)


@pytest.fixture(scope="module")
def after(before: Hierarchy) -> Hierarchy:
    return rotated(before, "root", NOW)


def test_openssl_verifies_a_leaf_of_the_new_root_through_either_root(
    require_peer: Peer, tmp_path: Path, before: Hierarchy, after: Hierarchy
) -> None:
    verify = (require_peer("openssl"), "verify", *SERVER)
    given = write(tmp_path / "chain.pem", *after.issuer.chain)
    path = write(tmp_path / "leaf.pem", leaf(after, dns("host.example")))
    old, new = write(tmp_path / "old.pem", before.root), write(tmp_path / "new.pem", after.root)
    for root in (old, new, write(tmp_path / "both.pem", *after.trusted())):
        must(*verify, "-CAfile", root, "-untrusted", given, path)
    without_cross = write(tmp_path / "short.pem", *after.issuer.path)
    must(*verify, "-CAfile", new, "-untrusted", without_cross, path)
    assert run(*verify, "-CAfile", old, "-untrusted", without_cross, path).returncode != 0, "a control"


def test_gnutls_verifies_a_leaf_of_the_new_root_through_either_root(
    require_peer: Peer, tmp_path: Path, before: Hierarchy, after: Hierarchy
) -> None:
    certtool = require_peer("certtool")
    presented = write(tmp_path / "presented.pem", leaf(after, dns("host.example")), *after.issuer.chain)
    for root in (before.root, after.root):
        path = write(tmp_path / "root.pem", root)
        must(certtool, "--verify", "--load-ca-certificate", path, "--infile", presented)


def test_openssl_verifies_through_three_generations_of_roots(
    require_peer: Peer, tmp_path: Path, before: Hierarchy, after: Hierarchy
) -> None:
    third = rotated(after, "root", NOW)
    given = write(tmp_path / "chain.pem", *third.issuer.chain)
    path = write(tmp_path / "leaf.pem", leaf(third, dns("host.example")))
    for made in (before, after, third):
        root = write(tmp_path / "root.pem", made.root)
        must(require_peer("openssl"), "verify", *SERVER, "-CAfile", root, "-untrusted", given, path)


def test_pkilint_has_nothing_to_say_of_cross_and_constrained_certificates(
    require_peer: Peer, tmp_path: Path, after: Hierarchy
) -> None:
    constrained = new_hierarchy(
        Ca(permitted_names=("host.example", "192.0.2.0/24"), excluded_names=("x.example",)), NOW
    )
    for number, certificate in enumerate((after.root, after.issuer.chain[-1], constrained.issuer.certificate)):
        path = write(tmp_path / f"{number}.pem", certificate)
        must(require_peer("lint_pkix_cert"), "lint", "--severity", "NOTICE", path)


PERMITTED = ("corp.example", "192.0.2.0/24")
EXCLUDED = ("secret.corp.example", "192.0.2.128/25")
INSIDE = (
    *(dns("corp.example"), dns("a.corp.example", "*.b.corp.example"), ip("192.0.2.1")),
    dns("b.corp.example") + ip("192.0.2.7"),
)
OUTSIDE = (
    *(dns("other.example"), dns("a.corp.example", "other.example"), dns("secret.corp.example")),
    *(dns("a.secret.corp.example"), ip("198.51.100.1"), ip("192.0.2.129"), dns("corp.example") + ip("198.51.100.1")),
)


@pytest.fixture(scope="module")
def constrained() -> Hierarchy:
    return new_hierarchy(Ca(permitted_names=PERMITTED, excluded_names=EXCLUDED), NOW)


@pytest.mark.parametrize("names", INSIDE, ids=lambda names: " ".join(str(name.value) for name in names))
def test_names_within_the_constraints_are_issued_and_verify(
    require_peer: Peer, tmp_path: Path, constrained: Hierarchy, names: list[x509.GeneralName]
) -> None:
    issued = leaf(constrained, names)
    assert accepts_openssl(require_peer, tmp_path, constrained, issued)
    assert accepts_gnutls(require_peer, tmp_path, constrained, issued)


@pytest.mark.parametrize("names", OUTSIDE, ids=lambda names: " ".join(str(name.value) for name in names))
def test_names_outside_the_constraints_are_not_issued_and_would_not_verify(
    require_peer: Peer, tmp_path: Path, constrained: Hierarchy, names: list[x509.GeneralName]
) -> None:
    with pytest.raises(Refusal, match="by the name constraints of the issuing certificate"):
        leaf(constrained, names)
    forced = leaf(constrained, names, checked=False)
    assert not accepts_openssl(require_peer, tmp_path, constrained, forced)
    assert not accepts_gnutls(require_peer, tmp_path, constrained, forced)


def accepts_openssl(require_peer: Peer, directory: Path, made: Hierarchy, certificate: x509.Certificate) -> bool:
    root, chain = write(directory / "root.pem", made.root), write(directory / "chain.pem", *made.issuer.chain)
    path = write(directory / "leaf.pem", certificate)
    done = run(require_peer("openssl"), "verify", *SERVER, "-CAfile", root, "-untrusted", chain, path)
    return done.returncode == 0


def accepts_gnutls(require_peer: Peer, directory: Path, made: Hierarchy, certificate: x509.Certificate) -> bool:
    root = write(directory / "root.pem", made.root)
    presented = write(directory / "presented.pem", certificate, *made.issuer.chain)
    done = run(require_peer("certtool"), "--verify", "--load-ca-certificate", root, "--infile", presented)
    return done.returncode == 0


def openssl_root(openssl: str, directory: Path, *digest: str) -> tuple[str, str]:
    """Key and certificate of a root that openssl made."""
    key, root = str(directory / "root.key"), str(directory / "root.crt")
    extensions = ("-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    subject = ("-subj", "/O=Acme/CN=Acme Root", "-days", "100")
    must(
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *digest,
        *subject,
        *extensions,
        "-keyout",
        key,
        "-out",
        root,
    )
    return key, root


def openssl_sign(openssl: str, directory: Path, csr: bytes, *digest: str) -> x509.Certificate:
    """What openssl, as an authority, makes of a request for an intermediate."""
    key, root = openssl_root(openssl, directory)
    request_path, out, extensions = (str(directory / name) for name in ("request.pem", "signed.crt", "extensions"))
    Path(request_path).write_bytes(csr)
    Path(extensions).write_text(
        "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    signing = ("-CA", root, "-CAkey", key, "-CAcreateserial", "-days", "50", "-extfile", extensions)
    must(openssl, "x509", "-req", *digest, "-in", request_path, *signing, "-out", out)
    return x509.load_pem_x509_certificate(Path(out).read_bytes())


def test_an_intermediate_that_openssl_signed_issues(require_peer: Peer, tmp_path: Path, before: Hierarchy) -> None:
    openssl = require_peer("openssl")
    key = Keyring().generate("classical", "p256", "")
    csr = key_files.csr_pem(create_request(means().plan, key))
    must(openssl, "req", "-verify", "-noout", "-in", _bytes(tmp_path / "r.pem", csr))
    certificate = openssl_sign(openssl, tmp_path, csr)
    root = x509.load_pem_x509_certificate((tmp_path / "root.crt").read_bytes())
    after = ceremony.imported_intermediate(before, just_after(), certificate, [root], key)
    hierarchy.verify(after)
    issued = leaf(after, dns("host.example"), now=just_after())
    assert accepts_openssl(require_peer, tmp_path, after, issued)
    assert accepts_gnutls(require_peer, tmp_path, after, issued)


def test_a_root_that_openssl_made_is_imported_and_its_leaves_verify(
    require_peer: Peer, tmp_path: Path, before: Hierarchy
) -> None:
    key_path, root_path = openssl_root(require_peer("openssl"), tmp_path)
    root = x509.load_pem_x509_certificate(Path(root_path).read_bytes())
    root_key = key_files.parse_key(Path(key_path).read_bytes(), None)
    after = ceremony.imported_root(
        before, means(just_after()), root, root_key, Keyring().generate("classical", "p256", "")
    )
    hierarchy.verify(after)
    assert accepts_openssl(require_peer, tmp_path, after, leaf(after, dns("host.example"), now=just_after()))


def test_an_intermediate_that_is_signed_with_sha1_is_not_imported(
    require_peer: Peer, tmp_path: Path, before: Hierarchy
) -> None:
    key = Keyring().generate("classical", "p256", "")
    csr = key_files.csr_pem(create_request(means().plan, key))
    certificate = openssl_sign(require_peer("openssl"), tmp_path, csr, "-sha1")
    root = x509.load_pem_x509_certificate((tmp_path / "root.crt").read_bytes())
    with pytest.raises(CeremonyRefused, match="Unsupported signature algorithm"):
        ceremony.imported_intermediate(before, just_after(), certificate, [root], key)


def test_an_exported_key_is_read_by_openssl(require_peer: Peer, tmp_path: Path, before: Hierarchy) -> None:
    root_key = before.active_root().private_key
    assert root_key is not None
    path = _bytes(tmp_path / "key.pem", key_files.pkcs8(root_key, b"correct horse"))
    must(require_peer("openssl"), "pkey", "-in", path, "-passin", "pass:correct horse", "-noout", "-check")


def _bytes(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)
