"""The authority's side of the Certificate Transparency log: who the log is, and its promise for each precertificate.

Rules:
- The roots of this authority are registered with the log, and the log's key is asked for, once at the start and before
  anything is logged; in the background, so that the authority answers other calls while the log is down.
- Nothing a log says is used before its signature was verified (`sct`). A log that comes back with another key (its data
  was lost) is asked who it is once more; that is logged as a warning.
- To log the same precertificate twice gives the same timestamp: the call is repeated when the log dies over it.
- What the log cannot do now is Unavailable, and so is an answer that did not come: the authority has signed a
  precertificate then that nobody may ever see, under a serial number that stays on record. After that the log has to
  show that it answers before anything else is reserved and signed, so that an outage does not fill the record.
- What the log refuses, or promises wrongly, is `LogFault`: trying again would not help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from services.ca.issuance import sct
from services.ca.issuance.hold import HELD, IssuanceHold
from services.ca.issuance.sct import SctError, SctFromTheFuture
from services.ct.messages import AcceptRoots, AddChain, GetLog, LogDescription, Roots, SignedCertificateTimestamp
from services.errors import ProbeFailed, Refused, RemoteError, Unavailable
from services.rfc6962.verifier import LogVerifier

ADD_SECONDS: Final = 5.0
INTRODUCTION_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 0.5

_T = TypeVar("_T")


class LogFault(Exception):
    """The log refuses a precertificate, or its promise is none. The text says what is wrong."""


class Peer(Protocol):
    """The connection to the log: `rpc_client.Client`."""

    async def call(
        self,
        method: str,
        request: object,
        reply_type: type[_T],
        *,
        timeout: float,  # noqa: ASYNC109 - as the client has it
        trace: str = "",
        idempotent: bool = False,
    ) -> _T:
        """Call a method of the log."""
        ...


class TransparencyLog:
    """Asks the log. `now` is in milliseconds since the Unix epoch; a probe takes `probe_seconds` at most.

    `hold` says whether the log may be added to; None when nobody compares it.
    """

    def __init__(
        self,
        peer: Peer,
        log: Any,
        now: Callable[[], int],
        probe_seconds: float,
        hold: IssuanceHold | None = None,
    ) -> None:
        self._peer = peer
        self._roots = AcceptRoots(certificates=[])
        self._log = log
        self._now = now
        self._probe_seconds = probe_seconds
        self._hold = hold
        self._identity: LogVerifier | None = None
        self._doubtful = False
        self._introducing: asyncio.Task[None] | None = None

    def trust(self, roots: Sequence[bytes]) -> None:
        """Chains end at these roots (DER) from now on: the log is told before anything else is logged."""
        self._roots = AcceptRoots(certificates=list(roots))
        self._doubtful = True

    def start(self) -> None:
        """Begin to introduce this authority to the log, until that has succeeded."""
        self._introducing = asyncio.get_running_loop().create_task(self._keep_introducing())

    async def close(self) -> None:
        """Give up what `start` began."""
        if self._introducing is not None:
            self._introducing.cancel()
            await asyncio.wait((self._introducing,))

    async def ready(self) -> None:
        """Returns at once while the log answers, and continues what was seen of it. Raises Unavailable and LogFault."""
        if self._hold is not None:
            await self._hold.passed()
        if self._identity is None or self._doubtful:
            await self._introduced()

    async def add(
        self, chain: Sequence[bytes], issuer_key_hash: bytes, logged: bytes, trace: str = ""
    ) -> SignedCertificateTimestamp:
        """The log's verified promise for a precertificate.

        `chain` begins with it (DER); `logged` is its TBSCertificate without the poison, `issuer_key_hash` the SHA-256
        of its issuer's SubjectPublicKeyInfo (RFC 6962, section 3.2). Raises Unavailable and LogFault.
        """
        identity = self._identity if self._identity is not None and not self._doubtful else await self._introduced()
        reply = await self._asked_to_add(AddChain(chain=list(chain), entry_type="precert"), trace)
        if reply.log_id != identity.log_id:
            self._log.warning("the log has another key than before", before=identity.log_id.hex())
            identity = await self._introduced()
        try:
            sct.verify(reply, identity, issuer_key_hash, logged)
            sct.check_clock(reply.timestamp, self._now())
        except SctError as error:
            raise LogFault(str(error)) from error
        except SctFromTheFuture as error:
            raise Unavailable(f"{error}: set the clock of this host") from error
        if self._hold is not None:
            self._hold.promise(reply.leaf_index)
        return reply

    async def probe(self) -> None:
        """Whether the log answers in time, and may be added to. Raises RemoteError and ProbeFailed."""
        await self._peer.call("log", GetLog(), LogDescription, timeout=self._probe_seconds, idempotent=True)
        if self._hold is not None and self._hold.reason is not None:
            raise ProbeFailed("dependency", HELD)

    async def _asked_to_add(self, request: AddChain, trace: str) -> SignedCertificateTimestamp:
        try:
            return await self._called("add", request, SignedCertificateTimestamp, ADD_SECONDS, trace)
        except Refused as refused:
            if refused.kind != "unknown-root":
                raise LogFault(f"the log refuses the precertificate: {refused}") from refused
        await self._introduced()  # a log that lost its list of roots
        try:
            return await self._called("add", request, SignedCertificateTimestamp, ADD_SECONDS, trace)
        except Refused as refused:
            raise LogFault(f"the log refuses the precertificate: {refused}") from refused

    async def _introduced(self) -> LogVerifier:
        """Register the roots, learn who the log is. Raises Unavailable and LogFault."""
        roots = self._roots
        try:
            _, described = await asyncio.gather(
                self._called("accept_roots", roots, Roots, INTRODUCTION_SECONDS),
                self._called("log", GetLog(), LogDescription, INTRODUCTION_SECONDS),
            )
            identity = LogVerifier.of(described.public_key)
        except Refused as refused:
            raise LogFault(f"the log does not accept this authority's roots: {refused}") from refused
        except ValueError as error:
            raise LogFault(f"the log tells a key that no log has: {error}") from error
        if self._identity is None or self._identity.log_id != identity.log_id:
            self._log.info("introduced to the log", origin=described.origin, log_id=identity.log_id.hex())
        self._identity = identity
        self._doubtful = roots is not self._roots
        return identity

    async def _keep_introducing(self) -> None:
        told = False
        while self._identity is None or self._doubtful:
            try:
                await self._introduced()
            except (Unavailable, LogFault) as error:
                if not told:
                    self._log.warning("nothing can be issued yet: the log does not answer", error=str(error))
                told = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _called(self, method: str, request: object, reply_type: type[_T], seconds: float, trace: str = "") -> _T:
        """Raises Refused and Unavailable."""
        try:
            return await self._peer.call(method, request, reply_type, timeout=seconds, trace=trace, idempotent=True)
        except Refused:
            raise
        except RemoteError as error:
            self._doubtful = True
            raise Unavailable(f"the transparency log cannot be asked now: {error}") from error
