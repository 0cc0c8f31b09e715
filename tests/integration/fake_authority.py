"""A certificate authority for tests of its clients: a tiny policy, real certificates, revocation lists and OCSP.

It keeps what it issued, so that a test can say that nothing was stored.
"""

import datetime as dt
import secrets
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
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
from services.ca.status.messages import (
    MAX_CRL_PART_OCTETS,
    CrlDocument,
    GetCrl,
    GetIssuerCertificate,
    IssuerCertificate,
    OcspAnswer,
    OcspQuery,
)
from tests.integration.fake_service import FakeService

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


class FakeAuthority(FakeService):
    """Serves the socket `path`. `issue_fault` is raised instead of issuing; `crl_part` is the size of a CRL's parts."""

    def __init__(self, path: Path) -> None:
        self.root, root_key = _authority("Test Root", None)
        self.issuer, self.issuer_key = _authority("Test Issuer", (self.root, root_key))
        self.root_pem = _pem(self.root)
        self.issuer_id = _hexadecimal(self.issuer.serial_number)
        self.issued: dict[str, Certificate] = {}
        self.revoked: list[int] = []
        self.crl_number = 1
        self.crl_part = MAX_CRL_PART_OCTETS
        self.issue_fault: Exception | None = None
        self.lifetime_shift = 0
        self.updated_at = int(time.time())
        self._signed_crl: tuple[tuple[int, ...], bytes] = ((), b"")
        super().__init__(
            path,
            {
                "issue": (IssueRequest, self._issue),
                "get": (GetCertificate, self._get),
                "list": (ListCertificates, self._list),
                "roots": (GetRoots, self._roots),
                "crl": (GetCrl, self._crl),
                "ocsp": (OcspQuery, self._ocsp),
                "issuer_certificate": (GetIssuerCertificate, self._issuer_certificate),
            },
        )

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

    def _crl(self, request: GetCrl) -> CrlDocument:
        if request.issuer != self.issuer_id or request.partition != 0:
            raise Refusal("not-found", "issuer", "no such list")
        whole = self.crl()
        return CrlDocument(
            der=whole[request.offset : request.offset + self.crl_part],
            size=len(whole),
            number=self.crl_number,
            this_update=self.updated_at,
            next_update=self.updated_at + _DAY,
        )

    def crl(self) -> bytes:
        """The list as it is now, DER; the same until `crl_number`, `revoked` or `updated_at` changes."""
        state = (self.crl_number, self.updated_at, *self.revoked)
        if self._signed_crl[0] != state:
            self._signed_crl = (state, self._sign_crl())
        return self._signed_crl[1]

    def _sign_crl(self) -> bytes:
        this_update = dt.datetime.fromtimestamp(self.updated_at, dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder(self.issuer.subject)
            .last_update(this_update)
            .next_update(this_update + dt.timedelta(seconds=_DAY))
            .add_extension(x509.CRLNumber(self.crl_number), critical=False)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def _ocsp(self, request: OcspQuery) -> OcspAnswer:
        try:
            asked = ocsp.load_der_ocsp_request(request.request)
        except ValueError:
            der = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
            encoded = der.public_bytes(serialization.Encoding.DER)
            return OcspAnswer(der=encoded, this_update=0, next_update=0, produced_at=0)
        is_revoked = asked.serial_number in self.revoked
        this_update = dt.datetime.fromtimestamp(self.updated_at, dt.UTC)
        signed = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                issuer_name_hash=asked.issuer_name_hash,
                issuer_key_hash=asked.issuer_key_hash,
                serial_number=asked.serial_number,
                algorithm=asked.hash_algorithm,
                cert_status=ocsp.OCSPCertStatus.REVOKED if is_revoked else ocsp.OCSPCertStatus.GOOD,
                this_update=this_update,
                next_update=this_update + dt.timedelta(seconds=_DAY),
                revocation_time=this_update if is_revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.issuer)
            .sign(self.issuer_key, hashes.SHA256())
        )
        return OcspAnswer(
            der=signed.public_bytes(serialization.Encoding.DER),
            this_update=self.updated_at,
            next_update=self.updated_at + _DAY,
            produced_at=int(time.time()),
        )

    def _issuer_certificate(self, request: GetIssuerCertificate) -> IssuerCertificate:
        if request.issuer != self.issuer_id:
            raise Refusal("not-found", "issuer", "no such issuer")
        return IssuerCertificate(der=self.issuer.public_bytes(serialization.Encoding.DER))


def _hexadecimal(serial: int) -> str:
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex()
