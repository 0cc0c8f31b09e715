"""The API's own TLS certificate: kept on disk, presented, and renewed while serving.

Rules:
- Key and certificates are one file, `tls.pem` (0600), replaced as a whole: after any crash the two fit.
- What is stored is presented at once if it may be. Only a first start, or one with an expired certificate, waits for
  the certificate authority.
- A new certificate is on disk before it is presented. New connections see it, open ones go on under the old one.
- A renewal that fails is tried again until it succeeds; it is logged, counted, and once half of the spare time is gone
  the probe fails for that cause, so that it is told before any client notices.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NoReturn

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.paths import Paths
from services.api.durable import File, raise_if_no_room, write_files
from services.api.identity import Identity, IdentityError, Names, certificate_request
from services.api.metrics import ApiMetrics
from services.ca.messages import Certificate
from services.errors import ConfigurationError, ProbeFailed, Refused, RemoteError

Ask = Callable[[bytes], Awaitable[Certificate]]
"""Asks for a certificate for a PKCS #10 request (PEM). Raises RemoteError."""

FILE_NAME: Final = "tls.pem"
_FIRST_RETRY_SECONDS: Final = 0.5
# The wall clock may be set and the host may sleep, neither of which a timer notices: look at the clock this often.
_LONGEST_SLEEP_SECONDS: Final = 60.0

_log = structlog.stdlib.get_logger()


def tls_context() -> ssl.SSLContext:
    """A server's context, TLS 1.2 and newer, without a certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; those of TLS 1.3 are all sound
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class OwnCertificate:
    """Keeps a valid certificate in `context`."""

    def __init__(self, paths: Paths, names: Names, ask: Ask, metrics: ApiMetrics) -> None:
        self.context = tls_context()
        self._file = paths.api_dir / FILE_NAME
        self._root = paths.root_certificate
        self._names = names
        self._ask = ask
        self._metrics = metrics
        self._failures = 0
        self._failure: Exception | None = None
        self._identity: Identity | None = None

    async def start(self) -> None:
        """Present a certificate: the stored one, or else a new one as soon as there is one.

        Raises StorageUnavailable while it cannot be stored, ConfigurationError when settings ask for an impossible one.
        """
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stored = self._stored()
            if stored is None:
                await self._obtain_first()
            else:
                self._present(stored)
        except OSError as error:
            raise_if_no_room(error, "the API's certificate cannot be stored")
            raise

    async def keep_valid(self) -> NoReturn:
        """Renew for ever, beginning when it is due."""
        while True:
            now = time.time()
            wait = self._presented().seconds_until_renewal(self._names, self._failures, now)
            await asyncio.sleep(min(wait, _LONGEST_SLEEP_SECONDS))
            if wait > _LONGEST_SLEEP_SECONDS:
                continue
            try:
                await self._renew()
            except Exception as error:  # noqa: BLE001 - logged, counted, told by the probe, and tried again
                self._failed(error)

    def check(self) -> None:
        """Raises ProbeFailed when renewal fails and little time is left."""
        if self._failure is None or not self._presented().is_running_out(time.time()):
            return
        minutes = max(0, round((self._presented().not_after - time.time()) / 60))
        text = f"the API's own certificate expires in {minutes} minutes and its renewal fails: {self._failure}"
        raise ProbeFailed("environment" if isinstance(self._failure, OSError) else "dependency", text)

    @property
    def not_after(self) -> int:
        """Expiry of what is presented, seconds since the Unix epoch."""
        return self._presented().not_after

    def issuer(self) -> tuple[str, bytes]:
        """Who issued what is presented: serial number as the authority writes it, and certificate (DER)."""
        return self._presented().issuer()

    def _presented(self) -> Identity:
        if self._identity is None:
            raise RuntimeError("no certificate is presented before start() has returned")
        return self._identity

    def _stored(self) -> Identity | None:
        try:
            identity = Identity.from_pem(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except IdentityError as error:
            # Nothing is lost with it: unlike the authority's keys, this one is made anew.
            _log.warning("the stored TLS certificate is replaced", path=str(self._file), reason=str(error))
            return None
        reason = identity.unusable_because(_content(self._root), time.time())
        if reason is not None:
            _log.info("the stored TLS certificate is replaced", path=str(self._file), reason=reason)
            return None
        return identity

    async def _obtain_first(self) -> None:
        while True:
            try:
                return await self._renew()
            except Refused as error:
                raise ConfigurationError(
                    f"the certificate authority refuses the API's own certificate: {error.detail}; "
                    "see api.names, api.certificate_validity and server.domain"
                ) from error
            except (RemoteError, IdentityError) as error:
                self._failed(error)
                await asyncio.sleep(_FIRST_RETRY_SECONDS)

    async def _renew(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = await self._ask(certificate_request(key, self._names))
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        identity = Identity.from_pem(key_pem + "".join((issued.certificate, *issued.chain)).encode("ascii"))
        if reason := identity.unusable_because(_content(self._root), time.time()):
            raise IdentityError(f"the certificate that was issued cannot be used: {reason}")
        await asyncio.to_thread(write_files, [File(self._file, identity.pem)])
        self._present(identity)
        self._failures, self._failure = 0, None
        self._metrics.renewals["ok"].inc()
        _log.info("a new TLS certificate is presented", serial=issued.serial, not_after=identity.not_after)

    def _present(self, identity: Identity) -> None:
        self.context.load_cert_chain(self._file)
        self._identity = identity
        self._metrics.certificate_not_after.set(identity.not_after)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._failure = error
        self._metrics.renewals["error"].inc()
        _log.warning("the API's own certificate was not renewed", error=str(error), failures=self._failures)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
