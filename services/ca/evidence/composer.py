"""Composing the evidence of one certificate: asks the log and the OCSP responder, and seals what they say.

Rules:
- The tree head comes first, as a checkpoint; the proof is asked for in exactly that tree. A log that grows in between
  changes nothing: proofs in an older tree can always be had.
- What cannot be proven now (the log is down or another one, the issuer's certificate has expired) is Unavailable:
  evidence with a hole would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from services.ca.evidence import evidence
from services.ca.evidence.messages import EVIDENCE_FORMAT, Evidence, GetEvidence, LoggedEvidence
from services.ca.hierarchy.files import certificate_pem
from services.ca.issuance.transparency import Peer
from services.ca.keys.signing_keys import SigningKey
from services.ca.messages import Refusal
from services.ca.serials import parse_serial, serial_text
from services.ca.status import ocsp
from services.ca.status.messages import OcspAnswer, OcspQuery
from services.ca.storage import Issued, Storage
from services.ct.messages import Checkpoint, EntryAndProof, GetCheckpoint, GetEntryAndProof
from services.errors import Refused, RemoteError, Unavailable
from services.rfc6962 import note, structures
from services.rfc6962.note import NoteError
from services.rfc6962.structures import StructureError
from services.rpc_server import Call

LOG_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals the evidence of an issuer's certificates. `path` begins with that issuer and ends with its root."""

    private_key: SigningKey
    path: Sequence[x509.Certificate]

    @property
    def certificate(self) -> x509.Certificate:
        """The issuer's certificate."""
        return self.path[0]


class EvidenceComposer:
    """Answers `evidence`. `sealer` gives who seals for an issuer; `now` gives seconds since the Unix epoch."""

    def __init__(
        self,
        *,
        storage: Storage,
        sealer: Callable[[str], Sealer | None],
        peer: Peer,
        answer: Callable[[OcspQuery, Call], Any],
        counting_refusals: Callable[[], AbstractContextManager[None]],
        now: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._sealer = sealer
        self._peer = peer
        self._answer = answer
        self._counting_refusals = counting_refusals
        self._now = now

    async def evidence(self, request: GetEvidence, call: Call) -> Evidence:
        """All that proves one certificate. Raises Refusal: malformed, not-found; Unavailable."""
        with self._counting_refusals():
            serial = serial_text(parse_serial(request.serial))
            issued = self._storage.get(serial)
            if issued is None:
                raise Refusal("not-found", "serial", f"no certificate with the serial number {serial} was issued here")
        sealer = self._sealer(issued.issuer)
        if sealer is None:
            raise Unavailable(f"the issuer {issued.issuer} is not here: nobody can seal the evidence")
        leaf = x509.load_der_x509_certificate(issued.certificate)
        unsealed = Evidence(
            format=EVIDENCE_FORMAT,
            serial=issued.serial,
            profile=issued.profile,
            issued_at=issued.issued_at,
            composed_at=self._now(),
            chain=[certificate_pem(one).decode("ascii") for one in (leaf, *sealer.path)],
            log=await self._logged(issued, call),
            ocsp=await self._status(sealer.certificate, leaf, call),
            quorum=None,
            seal=b"",
        )
        return evidence.sealed(unsealed, sealer.private_key)

    async def _status(self, issuer: x509.Certificate, leaf: x509.Certificate, call: Call) -> bytes:
        request = ocsp.request_for(ocsp.hashes_of(issuer)[0], leaf.serial_number)
        answer: OcspAnswer = await self._answer(OcspQuery(request=request), call)
        if not answer.this_update:
            raise Unavailable("no OCSP answer can be signed now; the log of this service says why")
        return answer.der

    async def _logged(self, issued: Issued, call: Call) -> LoggedEvidence | None:
        if issued.logged is None:
            return None
        index = issued.logged.leaf_index
        try:
            return await self._proven(issued.logged.sct, index, call.trace)
        except Refused as refused:
            raise Unavailable(f"the log does not have entry {index}: {refused}; run `trustchain audit`") from refused
        except (NoteError, StructureError) as error:
            raise Unavailable(f"the log's answer proves nothing: {error}; run `trustchain audit`") from error

    async def _proven(self, sct: bytes, index: int, trace: str) -> LoggedEvidence:
        served = await self._called("checkpoint", GetCheckpoint(), Checkpoint, trace)
        read = note.parse(served.note)
        head = note.parse_checkpoint(read.text)
        log_id = structures.parse_sct(sct).log_id
        timestamp, signature = note.find_rfc6962_signature(read, head.origin, log_id)
        proven = await self._called(
            "entry_and_proof", GetEntryAndProof(leaf_index=index, tree_size=head.size), EntryAndProof, trace
        )
        return LoggedEvidence(
            log_id=log_id,
            scts=[sct],
            leaf_index=index,
            audit_path=proven.audit_path,
            tree_size=head.size,
            timestamp=timestamp,
            root_hash=head.root,
            signature=signature,
            checkpoint=served.note.decode("utf-8"),
        )

    async def _called(self, method: str, request: object, reply_type: type[Any], trace: str) -> Any:
        try:
            return await self._peer.call(method, request, reply_type, timeout=LOG_SECONDS, trace=trace, idempotent=True)
        except Refused:
            raise
        except RemoteError as error:
            raise Unavailable(f"the transparency log cannot be asked now: {error}") from error
