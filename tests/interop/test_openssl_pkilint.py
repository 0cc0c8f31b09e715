"""What foreign programs say of the certificates that are issued, and that their certificate requests are read."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from config.schema import Ca, KeyType
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy, Issuer
from services.ca.installation import new_hierarchy
from services.ca.issuance import csr, issuance, precertificate, signing
from services.ca.keys.signing_keys import signing_hash
from tests.rig.fake_log import FakeLog
from tests.unit.ca.applicants import ApplicantKey, dns, ip, p256_key, pem, request, rsa_key
from tests.unit.ca.authorities import KEY_TYPES, certified, decided, rules

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
SERIAL = 0x80000000000000000000000000000001  # its DER has a leading zero octet
LONG = ".".join(["long"] * 16) + ".host.example"
LEAF_KEYS: dict[str, Callable[[], ApplicantKey]] = {
    "p256": p256_key,
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa2048": rsa_key,
}
EVERYTHING = """
description = "every extension that there is"
extended_key_usages = ["serverAuth", "clientAuth"]
[extensions]
must_staple = true
certificate_policies = ["1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"]
[subject]
organization = "Acme \u00c9tat"
"""
SERVER_NAMES = [*dns("host.example", "*.host.example"), *ip("192.0.2.1", "2001:db8::1")]
CLIENT_NAMES = [x509.RFC822Name("user@host.example"), x509.UniformResourceIdentifier("spiffe://host.example/web")]
LINTED_SERVER_NAMES = [*dns("host.example", "a.host.example"), *ip("192.0.2.1", "2001:db8::1")]
LINTED_CLIENT_NAMES = [x509.RFC822Name("user@host.example"), x509.UniformResourceIdentifier("https://host.example/web")]


@dataclass
class Bench:
    """A directory with an authority of one key type in it."""

    directory: Path
    made: Hierarchy
    now: int
    log: FakeLog

    def write(self, name: str, *certificates: x509.Certificate) -> str:
        path = self.directory / name
        path.write_bytes(b"".join(map(certificate_pem, certificates)))
        return str(path)

    @property
    def root(self) -> str:
        return self.write("root.pem", self.made.root)

    @property
    def intermediate(self) -> str:
        return self.write("intermediate.pem", self.made.issuer.certificate)

    def leaf(
        self, names: Sequence[x509.GeneralName], profile: str, key: ApplicantKey | None = None
    ) -> x509.Certificate:
        return self.pair(names, profile, key)[1]

    def pair(
        self, names: Sequence[x509.GeneralName], profile: str, key: ApplicantKey | None = None
    ) -> tuple[x509.Certificate, x509.Certificate]:
        """Precertificate and certificate."""
        ruled = rules({"everything": EVERYTHING})
        decision = decided(pem(request(names, key=key)), profile, self.made, ruled, self.now, SERIAL)
        before, after = asyncio.run(certified(decision, self.log, self.made.root))
        return x509.load_der_x509_certificate(before), x509.load_der_x509_certificate(after)


@pytest.fixture(params=KEY_TYPES)
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    key_type: KeyType = request.param
    now = int(time.time())
    return Bench(tmp_path, new_hierarchy(Ca(key_type=key_type), now), now, FakeLog())


def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def must(*command: str) -> None:
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("leaf_type", LEAF_KEYS)
def test_openssl_verifies_a_server_chain_strictly(require_peer: Peer, bench: Bench, leaf_type: str) -> None:
    leaf = bench.write("leaf.pem", bench.leaf(SERVER_NAMES, "tls-server", LEAF_KEYS[leaf_type]()))
    verify = (require_peer("openssl"), "verify", "-x509_strict", "-CAfile", bench.root)
    chain = ("-untrusted", bench.intermediate)
    must(*verify, *chain, "-purpose", "sslserver", "-verify_hostname", "a.host.example", leaf)
    must(*verify, *chain, "-purpose", "sslserver", "-verify_ip", "2001:db8::1", leaf)
    assert run(*verify, *chain, "-verify_hostname", "other.example", leaf).returncode != 0
    assert run(*verify, *chain, "-purpose", "sslclient", leaf).returncode != 0
    assert run(*verify, "-purpose", "sslserver", leaf).returncode != 0, "the intermediate is needed"


def test_openssl_verifies_a_client_chain_for_its_purpose_only(require_peer: Peer, bench: Bench) -> None:
    leaf = bench.write("leaf.pem", bench.leaf(CLIENT_NAMES, "tls-client"))
    verify = (
        require_peer("openssl"),
        "verify",
        "-x509_strict",
        "-CAfile",
        bench.root,
        "-untrusted",
        bench.intermediate,
    )
    must(*verify, "-purpose", "sslclient", "-verify_email", "user@host.example", leaf)
    assert run(*verify, "-purpose", "sslserver", leaf).returncode != 0


def test_openssl_verifies_a_leaf_with_an_empty_subject(require_peer: Peer, bench: Bench) -> None:
    leaf = bench.write("leaf.pem", bench.leaf(dns(LONG), "tls-server"))
    verify = (
        require_peer("openssl"),
        "verify",
        "-x509_strict",
        "-CAfile",
        bench.root,
        "-untrusted",
        bench.intermediate,
    )
    must(*verify, "-purpose", "sslserver", "-verify_hostname", LONG, leaf)


def test_openssl_refuses_what_a_leaf_has_signed(require_peer: Peer, bench: Bench) -> None:
    """A leaf whose owner poses as an authority with it."""
    signer = bench.leaf(dns("host.example"), "tls-server", p256_key())
    decision = decided(pem(request(dns("forged.example"))), None, bench.made, None, bench.now, SERIAL + 1)
    posing = replace(decision, issuer=Issuer.of(signer, p256_key()))
    signed = signing.certificate(precertificate.without_poison(issuance.to_be_signed(posing)), p256_key())
    forged = bench.write("forged.pem", x509.load_der_x509_certificate(signed))
    chain = bench.write("chain.pem", bench.made.issuer.certificate, signer)
    verify = (require_peer("openssl"), "verify", "-CAfile", bench.root, "-untrusted", chain)
    done = run(*verify, forged)
    assert done.returncode != 0
    assert "invalid CA certificate" in done.stdout + done.stderr


@pytest.mark.parametrize("leaf_type", LEAF_KEYS)
def test_gnutls_verifies_the_chain(require_peer: Peer, bench: Bench, leaf_type: str) -> None:
    leaf = bench.leaf(SERVER_NAMES, "tls-server", LEAF_KEYS[leaf_type]())
    certtool = require_peer("certtool")
    whole = bench.write("whole.pem", leaf, bench.made.issuer.certificate, bench.made.root)
    must(certtool, "--verify-chain", "--infile", whole)
    presented = bench.write("presented.pem", leaf, bench.made.issuer.certificate)
    verify = (certtool, "--verify", "--load-ca-certificate", bench.root, "--infile", presented)
    must(*verify, "--verify-hostname", "host.example", "--verify-purpose", "1.3.6.1.5.5.7.3.1")
    assert run(*verify, "--verify-hostname", "other.example").returncode != 0


@pytest.mark.parametrize("title", ["root", "intermediate"])
def test_pkilint_has_nothing_to_say_of_the_authoritys_own_certificates(
    require_peer: Peer, bench: Bench, title: str
) -> None:
    path = bench.root if title == "root" else bench.intermediate
    must(require_peer("lint_pkix_cert"), "lint", "--severity", "NOTICE", path)


@pytest.mark.parametrize(
    ("names", "profile", "leaf_type"),
    [
        (LINTED_SERVER_NAMES, "tls-server", "p256"),
        (LINTED_SERVER_NAMES, "tls-server", "rsa2048"),
        (LINTED_CLIENT_NAMES, "tls-client", "ed25519"),
        ([*LINTED_SERVER_NAMES, *LINTED_CLIENT_NAMES], "tls-server-client", "p384"),
        (dns(LONG), "tls-server", "p256"),
        (LINTED_SERVER_NAMES, "everything", "rsa2048"),
    ],
    ids=["server", "server-rsa", "client-ed25519", "both-p384", "empty-subject", "every-extension"],
)
def test_pkilint_has_nothing_to_say_of_leaves_and_their_precertificates(
    require_peer: Peer, bench: Bench, names: list[x509.GeneralName], profile: str, leaf_type: str
) -> None:
    before, after = bench.pair(names, profile, LEAF_KEYS[leaf_type]())
    lint = (require_peer("lint_pkix_cert"), "lint", "--severity", "NOTICE")
    must(*lint, bench.write("leaf.pem", after))
    must(*lint, bench.write("precertificate.pem", before))


def test_pkilint_finds_only_the_kinds_of_names_that_it_does_not_know(require_peer: Peer, bench: Bench) -> None:
    """Its checks of syntax know neither wildcards (RFC 6125), nor names of one label, nor most URI schemes."""
    path = bench.write("leaf.pem", bench.leaf([*SERVER_NAMES, *dns("localhost"), *CLIENT_NAMES], "tls-server-client"))
    done = run(require_peer("lint_pkix_cert"), "lint", "--severity", "NOTICE", "--format", "CSV", path)
    findings = sorted(line.split(",")[3] for line in done.stdout.splitlines()[1:] if line)
    assert findings == [*["pkix.invalid_domain_name_syntax"] * 2, "pkix.invalid_uri_syntax"], done.stdout


def test_pkilint_would_say_something(require_peer: Peer, tmp_path: Path) -> None:
    """A control: the same command finds fault with a certificate that has one."""
    now = int(time.time())
    made = new_hierarchy(Ca(), now)
    builder = issuance._builder(decided(pem(request(dns("host.example"))), None, made, None, now, SERIAL))
    builder._extensions = [e for e in builder._extensions if not isinstance(e.value, x509.AuthorityKeyIdentifier)]
    path = tmp_path / "faulty.pem"
    path.write_bytes(certificate_pem(builder.sign(made.issuer.private_key, signing_hash(made.issuer.private_key))))
    assert run(require_peer("lint_pkix_cert"), "lint", "--severity", "ERROR", str(path)).returncode != 0


@pytest.mark.parametrize(
    "algorithm",
    [
        ("-newkey", "rsa:2048"),
        ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512"),
        ("-newkey", "ed25519"),
        ("-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"),
    ],
    ids=["rsa", "p256", "p521", "ed25519", "rsa-pss-signature"],
)
def test_requests_by_openssl_are_read(require_peer: Peer, tmp_path: Path, algorithm: tuple[str, ...]) -> None:
    out = tmp_path / "request.pem"
    must(
        *(require_peer("openssl"), "req", "-new", "-nodes", "-subj", "/O=Acme/CN=ignored", *algorithm),
        *("-addext", "subjectAltName=DNS:host.example,IP:192.0.2.1", "-addext", "keyUsage=critical,keyCertSign"),
        *("-keyout", str(tmp_path / "key.pem"), "-out", str(out)),
    )
    assert csr.parse(out.read_bytes()).names == (("dns", "host.example"), ("ip", "192.0.2.1"))


def test_requests_by_gnutls_are_read(require_peer: Peer, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.write_text("cn = ignored\ndns_name = host.example\nip_address = 192.0.2.1\ntls_www_server\n")
    key, out = tmp_path / "key.pem", tmp_path / "request.pem"
    certtool = require_peer("certtool")
    must(certtool, "--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1", "--outfile", str(key))
    must(
        *(certtool, "--generate-request", "--load-privkey", str(key)),
        *("--template", str(template), "--outfile", str(out)),
    )
    assert csr.parse(out.read_bytes()).names == (("dns", "host.example"), ("ip", "192.0.2.1"))
