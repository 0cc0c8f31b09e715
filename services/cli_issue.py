"""What `trustchain issue` does: a key that never leaves this machine, a request for it, four files.

Rules:
- The key is created here, written 0600 and sent nowhere.
- Everything that can be wrong with names and files is found before the API is asked, so that nothing is issued in vain.
- All files are on the disk under other names before the first one gets its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from config.schema import Settings
from services.api.durable import File, write_files
from services.ca.messages import Certificate
from services.cli_client import ApiClient, CommandError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

KEY_FACTORIES: Final[Mapping[str, Callable[[], PrivateKey]]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa3072": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the operator asks for; the fields are the options of the command."""

    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    profile: str | None = None
    validity: int | None = None
    key_type: str = "p256"
    out: Path
    force: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Where key and certificates go."""

    directory: Path

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.directory / "certificate.pem"

    @property
    def chain(self) -> Path:
        return self.directory / "chain.pem"

    @property
    def fullchain(self) -> Path:
        return self.directory / "fullchain.pem"

    def prepare(self, *, force: bool) -> None:
        """Create the directory. Raises CommandError for files that are there already, unless `force` replaces them."""
        present = [path for path in (self.key, self.certificate, self.chain, self.fullchain) if path.exists()]
        if present and not force:
            raise CommandError(f"{present[0]} exists: choose another --out, or allow to replace it with --force")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{self.directory} cannot be created: {error.strerror}") from error

    def write(self, key: PrivateKey, issued: Certificate) -> None:
        """Store key, certificate, chain, and certificate with chain. Raises CommandError."""
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate, chain = issued.certificate.encode("ascii"), "".join(issued.chain).encode("ascii")
        files = [
            File(self.key, key_pem, 0o600),
            File(self.certificate, certificate, 0o644),
            File(self.chain, chain, 0o644),
            File(self.fullchain, certificate + chain, 0o644),
        ]
        try:
            write_files(files)
        except OSError as error:
            raise CommandError(
                f"certificate {issued.serial} was issued, but {self.directory} cannot be written: {error.strerror}. "
                "The key is lost; ask for another certificate."
            ) from error


def carry_out(settings: Settings, order: Order) -> tuple[Certificate, Files]:
    """Make the key, have it certified, write the files. Raises CommandError."""
    files = Files(order.out)
    key = KEY_FACTORIES[order.key_type]()
    body: dict[str, Any] = {"csr": certificate_request(key, order)}
    if order.profile is not None:
        body["profile"] = order.profile
    if order.validity is not None:
        body["validity_seconds"] = order.validity
    client = ApiClient(settings)
    files.prepare(force=order.force)
    issued = client.post("/v1/certificates", body, Certificate)
    files.write(key, issued)
    return issued, files


def certificate_request(key: PrivateKey, order: Order) -> str:
    """A PKCS #10 request (PEM) for the names of `order`. Raises CommandError for one that no request can carry."""
    names: list[x509.GeneralName] = []
    for option, kind, texts in (
        ("--dns", x509.DNSName, order.dns),
        ("--ip", lambda text: x509.IPAddress(ip_address(text)), order.ip),
        ("--email", x509.RFC822Name, order.email),
        ("--uri", x509.UniformResourceIdentifier, order.uri),
    ):
        for text in texts:
            try:
                names.append(kind(text))
            except ValueError as error:
                raise CommandError(f"{option} {text}: {error}") from error
    if not names:
        raise CommandError("give at least one name: --dns, --ip, --email or --uri")
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(
        x509.SubjectAlternativeName(names), critical=True
    )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode("ascii")
