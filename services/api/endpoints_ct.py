"""What each route below /ct/ does: asks the log, and puts its reply into the shapes of RFC 6962 and C2SP.

Rules:
- What can never change may be kept by everybody for ever: full and partial tiles, issuers. What can only be asked for
  otherwise (a proof between two sizes, a whole range of entries) for a day. Fewer entries than were asked for may be
  more in a minute. All else is not kept.
- A data tile is compressed only for who asks for it, and away from the loop that answers.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Final

import msgspec

from services.api.endpoints import Call, Endpoint, Reply
from services.api.peers import Peer
from services.api.problems import Problem
from services.api.routes_ct import (
    AcceptedRoots,
    AddedChain,
    ChainBody,
    ConsistencyProof,
    ConsistencyQuery,
    DataTilePath,
    EntriesQuery,
    EntryQuery,
    EntryWithProof,
    IssuerPath,
    LeafProof,
    LogEntries,
    ProofQuery,
    TilePath,
    TreeHead,
)
from services.api.routing import NoParameters
from services.api.tile_paths import Tile, parse_fingerprint, parse_level, parse_tile
from services.ct.messages import (
    DATA_LEVEL,
    AddChain,
    Checkpoint,
    Consistency,
    Entries,
    EntryAndProof,
    EntryType,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetIssuer,
    GetProofByHash,
    GetRoots,
    GetTile,
    GetTreeHead,
    InclusionProof,
    Part,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)

FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
FOR_A_DAY: Final = {"Cache-Control": "public, max-age=86400, immutable"}
FOR_A_MINUTE: Final = {"Cache-Control": "public, max-age=60"}
_SCT_V1: Final = 0  # RFC 6962, section 3.2
# Certificates hold keys and signatures, which no level compresses; what repeats is found by the fastest one.
_GZIP_LEVEL: Final = 1

_encode: Final = msgspec.json.Encoder().encode

Nothing = Call[NoParameters, NoParameters, None]


class CtEndpoints:
    """One method for each route of CT_ROUTES, by the route's name."""

    def __init__(self, log: Peer) -> None:
        self._log = log
        self.by_route: Mapping[str, Endpoint] = {
            "ct_add_chain": self.add_chain,
            "ct_add_pre_chain": self.add_pre_chain,
            "ct_get_sth": self.get_sth,
            "ct_get_sth_consistency": self.get_sth_consistency,
            "ct_get_proof_by_hash": self.get_proof_by_hash,
            "ct_get_entries": self.get_entries,
            "ct_get_roots": self.get_roots,
            "ct_get_entry_and_proof": self.get_entry_and_proof,
            "ct_checkpoint": self.get_checkpoint,
            "ct_data_tile": self.get_data_tile,
            "ct_tile": self.get_tile,
            "ct_issuer": self.get_issuer,
        }

    async def add_chain(self, call: Call[NoParameters, NoParameters, ChainBody]) -> Reply:
        return await self._add(call, "x509")

    async def add_pre_chain(self, call: Call[NoParameters, NoParameters, ChainBody]) -> Reply:
        return await self._add(call, "precert")

    async def _add(self, call: Call[NoParameters, NoParameters, ChainBody], entry_type: EntryType) -> Reply:
        request = AddChain(chain=call.body.chain, entry_type=entry_type)
        sct = await self._log.ask("add", request, SignedCertificateTimestamp, call.seconds, call.trace)
        return Reply(
            _encode(
                AddedChain(
                    sct_version=_SCT_V1,
                    id=sct.log_id,
                    timestamp=sct.timestamp,
                    extensions=sct.extensions,
                    signature=sct.signature,
                )
            )
        )

    async def get_sth(self, call: Nothing) -> Reply:
        head = await self._log.ask("tree_head", GetTreeHead(), SignedTreeHead, call.seconds, call.trace)
        return Reply(
            _encode(
                TreeHead(
                    tree_size=head.tree_size,
                    timestamp=head.timestamp,
                    sha256_root_hash=head.root_hash,
                    tree_head_signature=head.signature,
                )
            )
        )

    async def get_sth_consistency(self, call: Call[NoParameters, ConsistencyQuery, None]) -> Reply:
        request = GetConsistency(first=call.query.first, second=call.query.second)
        found = await self._log.ask("consistency", request, Consistency, call.seconds, call.trace)
        return Reply(_encode(ConsistencyProof(consistency=found.path)), FOR_A_DAY)

    async def get_proof_by_hash(self, call: Call[NoParameters, ProofQuery, None]) -> Reply:
        request = GetProofByHash(leaf_hash=call.query.hash, tree_size=call.query.tree_size)
        found = await self._log.ask("proof_by_hash", request, InclusionProof, call.seconds, call.trace)
        return Reply(_encode(LeafProof(leaf_index=found.leaf_index, audit_path=found.audit_path)), FOR_A_DAY)

    async def get_entries(self, call: Call[NoParameters, EntriesQuery, None]) -> Reply:
        start, end = call.query.start, call.query.end
        found = await self._log.ask("entries", GetEntries(start=start, end=end), Entries, call.seconds, call.trace)
        kept = FOR_A_DAY if len(found.entries) == end - start + 1 else FOR_A_MINUTE
        return Reply(_encode(LogEntries(entries=found.entries)), kept)

    async def get_roots(self, call: Nothing) -> Reply:
        roots = await self._log.ask("roots", GetRoots(), Roots, call.seconds, call.trace)
        return Reply(_encode(AcceptedRoots(certificates=roots.certificates)))

    async def get_entry_and_proof(self, call: Call[NoParameters, EntryQuery, None]) -> Reply:
        request = GetEntryAndProof(leaf_index=call.query.leaf_index, tree_size=call.query.tree_size)
        found = await self._log.ask("entry_and_proof", request, EntryAndProof, call.seconds, call.trace)
        entry = EntryWithProof(
            leaf_input=found.entry.leaf_input, extra_data=found.entry.extra_data, audit_path=found.audit_path
        )
        return Reply(_encode(entry), FOR_A_DAY)

    async def get_checkpoint(self, call: Nothing) -> Reply:
        found = await self._log.ask("checkpoint", GetCheckpoint(), Checkpoint, call.seconds, call.trace)
        return Reply(found.note)

    async def get_tile(self, call: Call[TilePath, NoParameters, None]) -> Reply:
        level, tile = parse_level(call.path.level), parse_tile(call.path.tile)
        if level is None or tile is None:
            raise _no_tile()
        return Reply(await self._tile(call, level, tile), FOR_EVER)

    async def get_data_tile(self, call: Call[DataTilePath, NoParameters, None]) -> Reply:
        tile = parse_tile(call.path.tile)
        if tile is None:
            raise _no_tile()
        content = await self._tile(call, DATA_LEVEL, tile)
        headers = {**FOR_EVER, "Vary": "Accept-Encoding"}
        if not call.accepts_gzip:
            return Reply(content, headers)
        compressed = await asyncio.to_thread(gzip.compress, content, _GZIP_LEVEL, mtime=0)
        return Reply(compressed, {**headers, "Content-Encoding": "gzip"})

    async def _tile(
        self,
        call: Call[TilePath, NoParameters, None] | Call[DataTilePath, NoParameters, None],
        level: int,
        tile: Tile,
    ) -> bytes:
        def request_at(offset: int) -> GetTile:
            return GetTile(level=level, index=tile.index, width=tile.width, offset=offset)

        return (await self._log.ask_whole("tile", request_at, Part, call.seconds, call.trace, call.hold))[1]

    async def get_issuer(self, call: Call[IssuerPath, NoParameters, None]) -> Reply:
        fingerprint = parse_fingerprint(call.path.fingerprint)
        if fingerprint is None:
            raise Problem("not-found", "an issuer is named by 64 lower-case hexadecimal digits", field="fingerprint")

        def request_at(offset: int) -> GetIssuer:
            return GetIssuer(fingerprint=fingerprint, offset=offset)

        return Reply(
            (await self._log.ask_whole("issuer", request_at, Part, call.seconds, call.trace, call.hold))[1], FOR_EVER
        )


def _no_tile() -> Problem:
    return Problem("not-found", "a tile is named like 0/x001/234 or 0/x001/234.p/56 (C2SP tlog-tiles)", field="tile")
