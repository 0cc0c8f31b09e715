"""What foreign programs say of revocation lists and OCSP answers: openssl, gnutls and pkilint."""

import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from config.schema import Ca, KeyType
from services.ca.hierarchy.files import certificate_pem
from services.ca.installation import new_hierarchy
from services.ca.serials import serial_text
from services.ca.status import crl
from services.ca.status.messages import OcspAnswer, OcspQuery
from tests.unit.ca.authorities import KEY_TYPES
from tests.unit.ca.statuses import CALL, StatusHost, on_status

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
REASONS = ("unspecified", "keyCompromise", "superseded")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def must(*command: str) -> str:
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def octets(path: str) -> bytes:
    return Path(path).read_bytes()


class Files:
    """The certificates and lists of one host as files for other programs."""

    def __init__(self, directory: Path, host: StatusHost) -> None:
        self.directory = directory
        self.host = host
        self.root = self.write("root.pem", host.hierarchy.root)
        self.intermediate = self.write("intermediate.pem", host.hierarchy.issuer.certificate)

    def write(self, name: str, *certificates: x509.Certificate) -> str:
        path = self.directory / name
        path.write_bytes(b"".join(map(certificate_pem, certificates)))
        return str(path)

    async def leaf(self, name: str, reason: str | None) -> tuple[int, str]:
        """A leaf that carries its URLs, revoked with `reason` if that is given; its serial number and file."""
        host = self.host
        serial = await host.issue()
        row = host.storage.on_record(serial_text(serial))
        assert row is not None
        assert row.certificate is not None
        certificate = x509.load_der_x509_certificate(row.certificate)
        if reason is not None:
            await host.revoke(serial, reason)
        return serial, self.write(name, certificate)

    def lists(self) -> list[str]:
        """All lists as PEM files, of the root too."""
        paths = []
        for path in sorted(self.host.files.directory.glob("*.crl")):
            target = self.directory / f"{path.stem}.pem"
            target.write_bytes(x509.load_der_x509_crl(path.read_bytes()).public_bytes(serialization.Encoding.PEM))
            paths.append(str(target))
        return paths

    async def answer(self, request: str) -> str:
        """The answer to a request that another program wrote into a file."""
        return self.write_der(await self.host.service.ocsp(OcspQuery(request=octets(request)), CALL))

    def write_der(self, answer: OcspAnswer) -> str:
        path = self.directory / "answer.der"
        path.write_bytes(answer.der)
        return str(path)


@pytest.fixture(params=KEY_TYPES)
def with_peers(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Callable[[Files], Awaitable[None]]], None]:
    key_type: KeyType = request.param

    def go(test: Callable[[Files], Awaitable[None]]) -> None:
        now = int(time.time())

        async def inside(host: StatusHost) -> None:
            await test(Files(tmp_path, host))

        on_status(tmp_path / "data", inside, new_hierarchy(Ca(key_type=key_type), now), now)

    return go


WithPeers = Callable[[Callable[[Files], Awaitable[None]]], None]


def test_openssl_verifies_chains_against_the_lists(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        _, good = await files.leaf("good.pem", None)
        revoked = [(await files.leaf(f"{reason}.pem", reason))[1] for reason in REASONS]
        lists = [argument for path in files.lists() for argument in ("-CRLfile", path)]
        strictly = (require_peer("openssl"), "verify", "-x509_strict", "-extended_crl", "-CAfile", files.root)
        verify = (*strictly, "-untrusted", files.intermediate, *lists)
        for check in (("-crl_check",), ("-crl_check", "-crl_check_all")):
            must(*verify, *check, good)
            for path in revoked:
                done = run(*verify, *check, path)
                assert done.returncode != 0
                assert "certificate revoked" in done.stdout + done.stderr

    with_peers(test)


def test_openssl_refuses_a_chain_with_a_revoked_intermediate(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        _, good = await files.leaf("good.pem", None)
        await files.host.revoke(files.host.hierarchy.issuer.certificate.serial_number, "cACompromise")
        lists = [argument for path in files.lists() for argument in ("-CRLfile", path)]
        verify = (require_peer("openssl"), "verify", "-extended_crl", "-CAfile", files.root, *lists)
        done = run(*verify, "-untrusted", files.intermediate, "-crl_check", "-crl_check_all", good)
        assert done.returncode != 0
        assert "error 23 at 1 depth lookup: certificate revoked" in done.stdout + done.stderr

    with_peers(test)


@pytest.mark.parametrize("digest", ["-sha1", "-sha256", "-sha384", "-sha512"])
def test_openssl_believes_the_ocsp_answers(require_peer: Peer, with_peers: WithPeers, digest: str) -> None:
    async def test(files: Files) -> None:
        openssl = require_peer("openssl")
        for reason, expected in ((None, "good"), ("keyCompromise", "revoked"), ("unspecified", "revoked")):
            _, path = await files.leaf("leaf.pem", reason)
            request = str(files.directory / "request.der")
            must(
                *(openssl, "ocsp", "-issuer", files.intermediate, digest, "-cert", path),
                *("-reqout", request),
            )
            answer = await files.answer(request)
            told = must(
                *(openssl, "ocsp", "-issuer", files.intermediate, digest, "-cert", path, "-respin", answer),
                *("-CAfile", files.root, "-verify_other", files.intermediate, "-validity_period", "5"),
            )
            assert "Response verify OK" in told
            assert f"{path}: {expected}" in told
            assert ("Reason: keyCompromise" in told) == (reason == "keyCompromise")

    with_peers(test)


def test_openssl_asks_about_several_at_once(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        openssl, request = require_peer("openssl"), str(files.directory / "request.der")
        _, good = await files.leaf("good.pem", None)
        _, revoked = await files.leaf("revoked.pem", "superseded")
        about = ("-issuer", files.intermediate, "-cert", good, "-sha256", "-cert", revoked)
        must(openssl, "ocsp", *about, "-reqout", request)
        answer = await files.answer(request)
        trusted = ("-CAfile", files.root, "-verify_other", files.intermediate)
        told = must(openssl, "ocsp", *about, "-respin", answer, *trusted)
        assert "Response verify OK" in told
        assert f"{good}: good" in told
        assert f"{revoked}: revoked" in told

    with_peers(test)


def test_openssl_is_told_unknown_and_unauthorized(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        openssl = require_peer("openssl")
        request = str(files.directory / "request.der")
        for issuer, expected in ((files.intermediate, "0x5: unknown"), (files.root, "unauthorized (6)")):
            must(openssl, "ocsp", "-no_nonce", "-issuer", issuer, "-serial", "0x5", "-reqout", request)
            answer = await files.answer(request)
            ask = (openssl, "ocsp", "-issuer", issuer, "-serial", "0x5", "-respin", answer, "-CAfile", files.root)
            done = run(*ask, "-verify_other", files.intermediate)
            assert expected in done.stdout + done.stderr

    with_peers(test)


def test_gnutls_believes_the_ocsp_answers(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        ocsptool = require_peer("ocsptool")
        for reason, expected in ((None, "good"), ("superseded", "revoked")):
            _, path = await files.leaf("leaf.pem", reason)
            request = str(files.directory / "request.der")
            load = ("--load-issuer", files.intermediate, "--load-cert", path)
            must(ocsptool, "--generate-request", *load, "--outfile", request)
            answer = await files.answer(request)
            must(
                *(ocsptool, "--verify-response", "--load-response", answer),
                *("--load-trust", files.intermediate, *load),
            )
            told = must(ocsptool, "--response-info", "--infile", answer)
            assert f"Certificate Status: {expected}" in told

    with_peers(test)


def test_gnutls_verifies_the_lists(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        certtool = require_peer("certtool")
        serial, _ = await files.leaf("revoked.pem", "keyCompromise")
        for path in files.lists():
            signer = files.root if Path(path).name.startswith(files.host.root) else files.intermediate
            must(certtool, "--verify-crl", "--load-ca-certificate", signer, "--infile", path)
        place = files.host.authorities.partition(serial, None)
        info = must(certtool, "--crl-info", "--infile", str(files.directory / f"{files.host.issuer}-{place}.pem"))
        assert serial_text(serial) in info

    with_peers(test)


def test_pkilint_has_nothing_to_say_of_the_lists(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        for reason in REASONS:
            await files.leaf("revoked.pem", reason)
        lint = (require_peer("lint_crl"), "lint", "--profile", "PKIX", "--severity", "NOTICE")
        for path in files.lists():
            kind = "ARL" if Path(path).name.startswith(files.host.root) else "CRL"
            must(*lint, "--type", kind, path)

    with_peers(test)


def test_pkilint_would_say_something_of_a_list(require_peer: Peer, tmp_path: Path) -> None:
    """A control: the same command finds fault with a list that has one."""
    now = int(time.time())
    made = new_hierarchy(Ca(), now)
    authority = made.active_root().signer()
    assert authority is not None
    path = tmp_path / "faulty.crl"
    path.write_bytes(crl.sign(authority, crl.Scope(()), (), 0, now, now - 5))
    lint = (require_peer("lint_crl"), "lint", "--profile", "PKIX", "--type", "CRL", "--severity", "ERROR")
    assert run(*lint, str(path)).returncode != 0


def test_pkilint_has_nothing_to_say_of_ocsp_answers_and_responders(require_peer: Peer, with_peers: WithPeers) -> None:
    async def test(files: Files) -> None:
        host = files.host
        good, revoked = await host.issue(), await host.issue()
        await host.revoke(revoked, "keyCompromise")
        lint = (require_peer("lint_ocsp_response"), "lint", "--severity", "NOTICE")
        for serial in (good, revoked, 5):
            must(*lint, files.write_der(await host.ask(serial)))
        responder = await host.service._responders.get(host.issuer)
        path_of_responder = files.write("responder.pem", responder.certificate)
        must(require_peer("lint_pkix_cert"), "lint", "--severity", "NOTICE", path_of_responder)
        must(
            *(require_peer("openssl"), "verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", files.root),
            *("-untrusted", files.intermediate, path_of_responder),
        )

    with_peers(test)
