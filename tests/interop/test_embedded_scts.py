"""Foreign programs read the timestamps in certificates, and accept them as the log's."""

import asyncio
import base64
import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from config.schema import Ca, KeyType
from services.ca.hierarchy.files import certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.installation import new_hierarchy
from tests.rig.fake_log import FakeLog, without_poison
from tests.rig.polling import eventually
from tests.unit.ca import applicants
from tests.unit.ca.applicants import dns, p256_key, pem
from tests.unit.ca.authorities import KEY_TYPES, certified, decided

pytestmark = pytest.mark.interop

Peer = Callable[[str], str]
NAME = "host.example"


@dataclass
class Site:
    """A directory with a certificate of NAME, its key and its chain, and the log that promised it."""

    directory: Path
    made: Hierarchy
    log: FakeLog
    certificate: x509.Certificate

    def path(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture(params=KEY_TYPES)
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    key_type: KeyType = request.param
    now = int(time.time())
    made, log = new_hierarchy(Ca(key_type=key_type), now), FakeLog()
    decision = decided(pem(applicants.request(dns(NAME))), None, made, None, now)
    _, certificate = asyncio.run(certified(decision, log, made.root))
    leaf = x509.load_der_x509_certificate(certificate)
    (tmp_path / "leaf.pem").write_bytes(certificate_pem(leaf))
    (tmp_path / "intermediate.pem").write_bytes(certificate_pem(made.issuer.certificate))
    (tmp_path / "root.pem").write_bytes(certificate_pem(made.root))
    (tmp_path / "key.pem").write_bytes(
        p256_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Site(tmp_path, made, log, leaf)


@contextlib.contextmanager
def served(openssl: str, site: Site, port: int) -> Iterator[None]:
    """`openssl s_server` with the certificate and its chain, once it accepts connections."""
    command = (openssl, "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-www", "-key", site.path("key.pem"))
    files = ("-cert", site.path("leaf.pem"), "-cert_chain", site.path("intermediate.pem"))
    server = subprocess.Popen((*command, *files), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually("s_server accepts connections", lambda: can_connect(port), within=20.0)
        yield
    finally:
        server.kill()
        server.wait()


def can_connect(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 5.0):
        return True


def log_list(site: Site, log: FakeLog) -> str:
    """The logs that a client knows, as CTLOG_STORE_new(3) reads them."""
    key = base64.b64encode(log.spki).decode()
    path = site.directory / "ctlog.conf"
    path.write_text(f"enabled_logs = fake\n[fake]\ndescription = a log of the tests\nkey = {key}\n")
    return str(path)


def visited(openssl: str, site: Site, port: int, log: FakeLog) -> str:
    """What `s_client` says of the timestamps of the certificate that is served."""
    command = (openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", site.path("root.pem"))
    asked = ("-servername", NAME, "-verify_hostname", NAME, "-verify_return_error", "-ct", "-ctlogfile")
    done = subprocess.run(
        (*command, *asked, log_list(site, log)), input="", capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_openssl_prints_the_timestamp(require_peer: Peer, site: Site) -> None:
    command = (require_peer("openssl"), "x509", "-in", site.path("leaf.pem"), "-noout", "-text")
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "CT Precertificate SCTs" in printed
    assert site.log.log_id.hex(":").upper() in printed.replace("\n", "").replace(" ", "")
    assert "CT Precertificate Poison" not in printed


def test_openssl_accepts_the_timestamp_of_a_served_certificate(
    require_peer: Peer, free_port: Callable[[], int], site: Site
) -> None:
    openssl, port = require_peer("openssl"), free_port()
    with served(openssl, site, port):
        said = visited(openssl, site, port, site.log)
        assert "Verify return code: 0 (ok)" in said, said
        assert "SCT validation status: valid" in said, said
        other = visited(openssl, site, port, FakeLog())
        assert "SCT validation status: unknown log" in other, other


def test_cryptography_reads_the_same_timestamp_and_the_same_octets_under_it(site: Site) -> None:
    """Its own removal of the list gives what the log has signed."""
    (timestamp,) = site.certificate.extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps
    ).value
    (promise,) = site.log.promised.values()
    (precertificate,) = (x509.load_der_x509_certificate(entry) for entry in site.log.promised)
    assert timestamp.log_id == site.log.log_id
    assert int(timestamp.timestamp.timestamp() * 1000) // 1000 == promise.timestamp // 1000
    assert site.certificate.tbs_precertificate_bytes == without_poison(precertificate.tbs_certificate_bytes)
