"""A certificate authority for tests of its clients: real calls on a real socket, a tiny policy, faults on demand.

It keeps what it issued, so that a test can say that nothing was stored.
"""

import asyncio
import datetime as dt
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.ca.messages import (
    Certificate,
    CertificatePage,
    GetCertificate,
    GetRoots,
    IssueRequest,
    ListCertificates,
    Refusal,
    Roots,
)
from services.rpc_server import Call, Server

_DAY = 86_400


def _authority(common_name: str, issuer: "tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None") -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder(
            issuer[0].subject if issuer else name, name, key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class FakeAuthority:
    """Serves the socket `path`.

    `fault` is raised, or called and awaited, before every answer; `issue_fault` is raised instead of issuing.
    """

    def __init__(self, path: Path) -> None:
        self.root, root_key = _authority("Test Root", None)
        self.issuer, self.issuer_key = _authority("Test Issuer", (self.root, root_key))
        self.root_pem = _pem(self.root)
        self.issued: dict[str, Certificate] = {}
        self.requests: list[object] = []
        self.traces: list[str] = []
        self.fault: Any = None
        self.issue_fault: Exception | None = None
        self.lifetime_shift = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._server: Server | None = None

    async def start(self) -> None:
        """Answer; also the calls that have waited in the backlog since `kill`."""
        self._server = Server(
            [self._listener],
            {
                "issue": (IssueRequest, self._answering(self._issue)),
                "get": (GetCertificate, self._answering(self._get)),
                "list": (ListCertificates, self._answering(self._list)),
                "roots": (GetRoots, self._answering(self._roots)),
            },
        )
        self._server.start()

    async def kill(self) -> None:
        """What a SIGKILL does: calls in flight are lost, the listening socket stays with its owner."""
        assert self._server is not None
        self._server.close()
        self._server = None

    async def stop(self) -> None:
        if self._server is not None:
            await self.kill()
        await asyncio.sleep(0)
        self._listener.close()

    def _answering(self, answer: Any) -> Any:
        async def handler(request: Any, call: Call) -> object:
            self.requests.append(request)
            self.traces.append(call.trace)
            if isinstance(self.fault, Exception):
                raise self.fault
            if self.fault is not None:
                await self.fault(call)
            return answer(request)

        return handler

    def _issue(self, request: IssueRequest) -> Certificate:
        if self.issue_fault is not None:
            raise self.issue_fault
        try:
            csr = x509.load_pem_x509_csr(request.csr)
        except ValueError:
            raise Refusal("malformed", "csr", "not a PKCS #10 request") from None
        if not csr.is_signature_valid:
            raise Refusal("bad-signature", "csr", "sign it with its own key")
        if request.profile == "no-such-profile":
            raise Refusal("unknown-profile", "profile", "there is tls-server")
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if "forbidden.test" in names.get_values_for_type(x509.DNSName):
            raise Refusal("forbidden-name", "csr", "forbidden.test is denied")
        serial = secrets.randbits(127) + 1
        not_before = int(time.time()) - 60 + self.lifetime_shift
        not_after = not_before + 60 + (request.validity_seconds or _DAY)
        signed = (
            x509.CertificateBuilder(self.issuer.subject, x509.Name([]), csr.public_key(), serial)
            .not_valid_before(dt.datetime.fromtimestamp(not_before, dt.UTC))
            .not_valid_after(dt.datetime.fromtimestamp(not_after, dt.UTC))
            .add_extension(names, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer_key.public_key()), critical=False
            )
            .sign(self.issuer_key, hashes.SHA256())
        )
        certificate = Certificate(
            serial=f"{serial:x}",
            certificate=_pem(signed),
            chain=[_pem(self.issuer)],
            not_before=not_before,
            not_after=not_after,
            profile=request.profile or "tls-server",
            subject="",
            names=[str(name.value) for name in names],
            issued_at=int(time.time()),
            status="valid",
        )
        self.issued[certificate.serial] = certificate
        return certificate

    def _get(self, request: GetCertificate) -> Certificate:
        if request.serial not in self.issued:
            raise Refusal("not-found", "serial", "no such certificate")
        return self.issued[request.serial]

    def _list(self, request: ListCertificates) -> CertificatePage:
        found = [c for c in self.issued.values() if request.name is None or request.name in c.names]
        return CertificatePage(certificates=found[: request.limit], next_cursor=None)

    def _roots(self, _: GetRoots) -> Roots:
        return Roots(certificates=[self.root_pem])
