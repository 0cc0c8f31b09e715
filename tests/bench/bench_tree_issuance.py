"""Issuance through the whole tree: HTTPS, token, checks, serial row durable, signing, certificate durable, answer.

Each client keeps its connection and has one request under way. fsync is on. Beside it, in the same run, what the same
clients get for the root certificates: the share of HTTPS, the call and this client in the figures of issuance; and what
they get of cfssl's signer over HTTPS, if it is installed (Debian: golang-cfssl), which signs the same request with a
P-256 key and keeps nothing: no token, no record, no log, no check of what it has signed.

    .venv/bin/python -m tests.bench.bench_tree_issuance [SECONDS]
"""

import asyncio
import ipaddress
import json
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.rig.polling import eventually
from tests.rig.ports import free_port
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import running_tree

_CLIENTS = (1, 8)
_WARM_UP = 20


@dataclass(frozen=True)
class Server:
    """Who is asked, and how it is trusted."""

    url: str
    tls: ssl.SSLContext
    headers: dict[str, str]


def main(seconds: float = 5.0) -> None:
    """Prints a row for each number of clients and each kind of request, and the ratio to the peer."""
    with running_tree(settings={"api.rate_limit": 1e6, "api.rate_burst": 1_000_000}) as tree, _cfssl() as cfssl:
        ours = Server(f"https://127.0.0.1:{tree.api_port}", tree.tls(), {"Authorization": f"Bearer {tree.token}"})
        for clients in _CLIENTS:
            issued = uvloop.run(_measure(ours, _issue, clients, seconds))
            sys.stdout.write(_row("issue", clients, issued, seconds))
            sys.stdout.write(_row("roots", clients, uvloop.run(_measure(ours, _roots, clients, seconds)), seconds))
            if cfssl is not None:
                signed = uvloop.run(_measure(cfssl, _sign, clients, seconds))
                sys.stdout.write(_row("cfssl", clients, signed, seconds))
                ratio = statistics.median(issued) / statistics.median(signed)
                sys.stdout.write(f"issue takes {ratio:.2f} times as long as cfssl's signing alone\n")


@contextmanager
def _cfssl() -> Iterator[Server | None]:
    """`cfssl serve` on loopback; nothing when it is not installed."""
    program, port = shutil.which("cfssl"), free_port()
    if program is None:
        sys.stdout.write("cfssl is not installed: no peer in this run\n")
        yield None
        return
    with tempfile.TemporaryDirectory() as name:
        certificate, key, config = (Path(name) / file for file in ("ca.pem", "ca.key", "config.json"))
        _write_authority(certificate, key)
        usages = ["digital signature", "server auth"]
        config.write_text(json.dumps({"signing": {"default": {"expiry": "24h", "usages": usages}}}))
        command = [program, "serve", "-address", "127.0.0.1", "-port", str(port), "-loglevel", "4"]
        command += ["-ca", str(certificate), "-ca-key", str(key), "-config", str(config)]
        process = subprocess.Popen(
            [*command, "-tls-cert", str(certificate), "-tls-key", str(key)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            tls = ssl.create_default_context(cafile=str(certificate))
            eventually("cfssl listens", lambda: ssl.get_server_certificate(("127.0.0.1", port)), within=10.0)
            yield Server(f"https://127.0.0.1:{port}", tls, {})
        finally:
            process.kill()
            process.wait()


def _write_authority(certificate: Path, key: Path) -> None:
    """An authority of one certificate, which serves HTTPS with it, too."""
    private, now = new_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peer")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signing = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(signing, critical=True)
        .add_extension(addresses, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


async def _measure(
    server: Server, kind: Callable[[aiohttp.ClientSession], Callable[[], Awaitable[None]]], clients: int, seconds: float
) -> list[float]:
    connector = aiohttp.TCPConnector(ssl=server.tls, limit=clients)
    async with aiohttp.ClientSession(server.url, connector=connector, headers=server.headers) as to:
        request = kind(to)
        for _ in range(_WARM_UP):
            await request()
        took: list[float] = []
        until = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_client(request, until, took))
        return took


async def _client(request: Callable[[], Awaitable[None]], until: float, took: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        await request()
        took.append(time.perf_counter() - began)


def _issue(to: aiohttp.ClientSession) -> Callable[[], Awaitable[None]]:
    body = {"csr": signing_request("bench.example.test", key=new_key())}

    async def request() -> None:
        async with to.post("/v1/certificates", json=body) as answer:
            assert answer.status == 201, await answer.text()
            await answer.read()

    return request


def _sign(to: aiohttp.ClientSession) -> Callable[[], Awaitable[None]]:
    body = {"certificate_request": signing_request("bench.example.test", key=new_key())}

    async def request() -> None:
        async with to.post("/api/v1/cfssl/sign", json=body) as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.json(content_type=None))["success"]

    return request


def _roots(to: aiohttp.ClientSession) -> Callable[[], Awaitable[None]]:
    async def request() -> None:
        async with to.get("/v1/ca/roots") as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    return request


def _row(kind: str, clients: int, took: list[float], seconds: float) -> str:
    cuts = statistics.quantiles(took, n=100)
    return (
        f"{kind:<8} {clients} client(s)   {len(took) / seconds:8.1f} /s   p50 {cuts[49] * 1e3:6.2f} ms   "
        f"p95 {cuts[94] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms\n"
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
