"""Keys that stay in a token, with SoftHSM in its place: made, used, found again, refused, and lost."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from config.schema import Ca, KeyType
from services.ca.hierarchy import ceremony, hierarchy
from services.ca.hierarchy.creation import create_request
from services.ca.hierarchy.files import HierarchyFiles
from services.ca.hierarchy.keyring import Keyring
from services.ca.installation import new_hierarchy
from services.ca.issuance import issuance, signing
from services.ca.keys.signing_keys import token_uri
from services.ca.keys.token_keys import Pkcs11Token
from services.errors import ConfigurationError, Unavailable
from tests.integration.test_ca_cli import active, must
from tests.rig.recovery import kill
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, asked, issuers, means, rules

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
PIN = "654321"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


@dataclass(frozen=True)
class SoftHsm:
    """One token, and where its module is."""

    module: str
    label: str = "trust store"

    def token(self, pin: str = PIN, label: str | None = None) -> Pkcs11Token:
        return Pkcs11Token(self.module, self.label if label is None else label, pin.encode())

    def restart(self) -> None:
        """What the end of the process would do: sessions and logins are gone."""
        import pkcs11  # noqa: PLC0415 - only where SoftHSM is

        pkcs11.lib(self.module).reinitialize()

    def keyring(self) -> Keyring:
        return Keyring(token=self.token())


@pytest.fixture
def softhsm(require_peer: Peer, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    utility = require_peer("softhsm2-util")
    store, configuration = short_path / "tokens", short_path / "softhsm2.conf"
    store.mkdir()
    configuration.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(configuration))
    made = SoftHsm(next(module for module in MODULES if Path(module).exists()))
    # A module reads its configuration once in the life of a process, so that each test takes it anew.
    command = [utility, "--init-token", "--free", "--label", made.label, "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    made.restart()
    return made


@pytest.mark.parametrize("key_type", ["p256", "rsa3072"])
def test_an_authority_whose_keys_are_in_a_token_issues_and_is_found_again(
    softhsm: SoftHsm, tmp_path: Path, key_type: KeyType
) -> None:
    made = new_hierarchy(Ca(key_type=key_type), NOW, keyring=softhsm.keyring())
    files = HierarchyFiles(tmp_path, tmp_path / "root.pem", softhsm.keyring())
    files.commit(made)
    assert not list(tmp_path.rglob("key.pem"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("key.pkcs11")} == {0o600}
    assert all(b"id=%" in path.read_bytes() for path in tmp_path.rglob("key.pkcs11"))

    softhsm.restart()
    loaded = HierarchyFiles(tmp_path, tmp_path / "root.pem", softhsm.keyring()).load()
    hierarchy.verify(loaded)
    hierarchy.prove(loaded.issuer)
    decision = issuance.decide(asked(pem(request(dns("host.example")))), rules(), issuers(loaded), NOW, 1)
    issued = signing.certificate(issuance.to_be_signed(decision), loaded.issuer.private_key)
    x509.load_der_x509_certificate(issued).verify_directly_issued_by(made.issuer.certificate)


def test_requests_and_revocation_lists_are_signed_in_a_token(softhsm: SoftHsm) -> None:
    made = new_hierarchy(Ca(), NOW, keyring=softhsm.keyring())
    key = made.issuer.private_key
    assert create_request(means().plan, key).is_signature_valid
    begin = made.issuer.certificate.not_valid_before_utc
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(made.issuer.certificate.subject)
        .last_update(begin)
        .next_update(made.issuer.certificate.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    public_key = made.issuer.certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(public_key)


def test_a_key_in_a_token_gives_away_nothing(softhsm: SoftHsm) -> None:
    in_tokens: tuple[KeyType, ...] = ("p256", "rsa3072")
    for key_type in in_tokens:
        key = softhsm.token().generate(key_type, "a test")
        with pytest.raises(UnsupportedAlgorithm):
            key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        if isinstance(key, rsa.RSAPrivateKey):
            with pytest.raises(UnsupportedAlgorithm):
                key.sign(b"data", padding.PKCS1v15(), hashes.SHA512())


def test_the_hierarchy_is_rotated_within_the_token(softhsm: SoftHsm) -> None:
    keyring = softhsm.keyring()
    made = new_hierarchy(Ca(), NOW, keyring=keyring)
    new_root_key, key = (keyring.generate("classical", "p256", title) for title in ("root", "intermediate"))
    after = ceremony.rotated_root(made, means(NOW + 1), new_root_key, key)
    hierarchy.verify(after)


def test_a_wrong_pin_is_told_and_tried_once(softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = token_uri(softhsm.token().generate("p256", "a test"))
    assert uri is not None
    softhsm.restart()
    opened, tries = Pkcs11Token._opened, 0

    def counted(self: Pkcs11Token) -> Any:
        nonlocal tries
        tries += 1
        return opened(self)

    monkeypatch.setattr(Pkcs11Token, "_opened", counted)
    with pytest.raises(ConfigurationError, match=r"correct ca\.pkcs11_pin before it locks") as caught:
        softhsm.token("999999").key(uri)
    assert tries == 1
    assert "999999" not in str(caught.value)


def test_a_token_key_or_module_that_is_not_there_is_told(softhsm: SoftHsm) -> None:
    uri = "pkcs11:token=trust%20store;id=%01%02;type=private"
    with pytest.raises(ConfigurationError, match="does not hold the key"):
        softhsm.token().key(uri)
    with pytest.raises(ConfigurationError, match=r"ca\.pkcs11_token = 'elsewhere' is not exactly one token"):
        softhsm.token(label="elsewhere").key(uri)
    with pytest.raises(ConfigurationError, match=r"ca\.pkcs11_module = '/nowhere\.so' cannot be used"):
        Pkcs11Token("/nowhere.so", "", PIN.encode()).key(uri)
    with pytest.raises(ConfigurationError, match="names no key in a token"):
        softhsm.token().key("pkcs11:nothing")
    with pytest.raises(ConfigurationError, match="not made in tokens"):
        softhsm.token().generate("ed25519", "a test")


# The package's own searches complain when their session has gone under them.
LOST = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@LOST
def test_a_session_that_was_lost_is_opened_again(softhsm: SoftHsm) -> None:
    token = softhsm.token()
    key = token.generate("p256", "a test")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    token._session.close()
    signature = key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


@LOST
def test_a_token_that_is_gone_makes_signing_unavailable(softhsm: SoftHsm, short_path: Path) -> None:
    token = softhsm.token()
    key = token.generate("p256", "a test")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for path in (short_path / "tokens").rglob("*.object"):
        path.unlink()
    token._session.close()
    with pytest.raises(Unavailable, match="the token does not sign"):
        key.sign(b"data", ec.ECDSA(hashes.SHA256()))


@pytest.mark.integration
def test_a_tree_runs_with_its_keys_in_a_token(
    softhsm: SoftHsm, new_tree: Callable[..., Tree], short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(short_path))
    (short_path / "pin").write_text(PIN)
    settings = {"ca.pkcs11_module": softhsm.module, "ca.pkcs11_pin": "credential:pin"}
    tree = new_tree(settings=settings)
    tree.start_healthy()
    assert active(tree, "root")["key"] == "token"
    kill(tree.worker_pid("ca"))
    assert tree.issue(signing_request("www.example.test")).status == 201
    must(tree, "rotate", "intermediate")
    assert tree.issue(signing_request("www.example.test")).status == 201
    assert PIN not in tree.log
    assert tree.stop() == 0

    (short_path / "pin").write_text("999999")
    tree.start()
    assert tree.process is not None
    assert tree.process.wait(30) == 78, tree.log[-2000:]
    tree.process = None
    assert "the token does not take the PIN" in tree.log
    assert os.environ["SOFTHSM2_CONF"].startswith(str(short_path))
