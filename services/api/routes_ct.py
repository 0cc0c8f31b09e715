"""The part of the route table below /ct/: the log as RFC 6962 and as C2SP's tiles have it.

Rules:
- Nobody needs a token: a log that only some may read or write proves nothing (RFC 6962, section 1).
- What RFC 6962 calls an error of the client is 400, also a parameter that is missing or does not fit.
- Bytes are base64 text with padding, in JSON and in parameters alike (RFC 6962, section 4). Empty lists are `[]`.
- A chain may be as long as the log takes it, whatever the limit of other bodies is.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from services.api.problems import LOG
from services.api.routing import NoParameters, Route
from services.ct.messages import (
    MAX_CERTIFICATE_OCTETS,
    MAX_CHAIN,
    CertificateBytes,
    Digest,
    Entry,
    TreeSize,
)

PLAIN_TEXT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"
CERTIFICATE: Final = "application/pkix-cert"  # RFC 2585, section 4.1

_BASE64_CERTIFICATE: Final = 4 * -(-MAX_CERTIFICATE_OCTETS // 3)
# Quotes, a comma and a line break around each certificate, and the object around them all.
MAX_CHAIN_BODY: Final = MAX_CHAIN * (_BASE64_CERTIFICATE + 16) + 1024

_Hash = Annotated[Digest, Meta(description="SHA-256 of the leaf (RFC 6962, section 2.1), base64")]


class ChainBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The (pre)certificate first, each next one signed the one before it; the root may be left out."""

    chain: Annotated[list[CertificateBytes], Meta(min_length=1, max_length=MAX_CHAIN, description="DER, base64")]


class AddedChain(Struct, frozen=True, kw_only=True):
    """A signed certificate timestamp (RFC 6962, section 4.1). `timestamp` is milliseconds since the Unix epoch."""

    sct_version: int
    id: bytes
    timestamp: int
    extensions: bytes
    signature: bytes


class TreeHead(Struct, frozen=True, kw_only=True):
    """A signed tree head (RFC 6962, section 4.3). `timestamp` is milliseconds since the Unix epoch."""

    tree_size: int
    timestamp: int
    sha256_root_hash: bytes
    tree_head_signature: bytes


class ConsistencyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two sizes of the tree."""

    first: TreeSize
    second: TreeSize


class ConsistencyProof(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.4."""

    consistency: list[bytes]


class ProofQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which leaf, and in which tree."""

    hash: _Hash
    tree_size: TreeSize


class LeafProof(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.5."""

    leaf_index: int
    audit_path: list[bytes]


class EntriesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries, both ends included."""

    start: TreeSize
    end: TreeSize


class LogEntries(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.6. There may be fewer than were asked for, from the same start."""

    entries: list[Entry]


class AcceptedRoots(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.7."""

    certificates: list[bytes]


class EntryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entry, and in which tree."""

    leaf_index: TreeSize
    tree_size: TreeSize


class EntryWithProof(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.8."""

    leaf_input: bytes
    extra_data: bytes
    audit_path: list[bytes]


class TilePath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tile of hashes."""

    level: Annotated[str, Meta(description="Decimal, 0 to 5")]
    tile: Annotated[str, Meta(description="Index in groups of three digits, as in x001/x234/067; .p/W if partial")]


class DataTilePath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tile of entries."""

    tile: Annotated[str, Meta(description="Index in groups of three digits, as in x001/x234/067; .p/W if partial")]


class IssuerPath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which certificate."""

    fingerprint: Annotated[str, Meta(description="SHA-256 of the certificate, 64 lower-case hexadecimal digits")]


def _submission(name: str, path: str, summary: str) -> Route:
    return Route(
        name=name,
        method="POST",
        path=path,
        summary=summary,
        token=False,
        status=200,
        reply=AddedChain,
        body=ChainBody,
        most_octets=MAX_CHAIN_BODY,
        misfit="malformed",
        refusals=(
            "bad-json",
            "malformed",
            "unknown-root",
            "bad-chain",
            "wrong-entry-type",
            "body-timeout",
            "body-too-large",
            "wrong-media-type",
        ),
        peer=LOG,
    )


def _reading(name: str, summary: str, reply: type, query: type[Struct], refusals: tuple[str, ...]) -> Route:
    return Route(
        name=f"ct_{name.replace('-', '_')}",
        method="GET",
        path=f"/ct/v1/{name}",
        summary=summary,
        token=False,
        status=200,
        reply=reply,
        query_parameters=query,
        misfit="malformed",
        refusals=("malformed", *refusals),
        peer=LOG,
    )


def _file(name: str, path: str, summary: str, parameters: type[Struct], media_type: str) -> Route:
    return Route(
        name=name,
        method="GET",
        path=path,
        summary=summary,
        token=False,
        status=200,
        reply=None,
        path_parameters=parameters,
        media_types=(media_type,),
        misfit="malformed",
        refusals=("malformed", "not-found", "out-of-range"),
        peer=LOG,
    )


CT_ROUTES: Final[tuple[Route, ...]] = (
    _submission("ct_add_chain", "/ct/v1/add-chain", "Log a certificate (RFC 6962, section 4.1)"),
    _submission("ct_add_pre_chain", "/ct/v1/add-pre-chain", "Log a precertificate (RFC 6962, section 4.2)"),
    _reading("get-sth", "Get the newest signed tree head (RFC 6962, section 4.3)", TreeHead, NoParameters, ()),
    _reading(
        "get-sth-consistency",
        "Get the proof that one tree is a beginning of another (RFC 6962, section 4.4)",
        ConsistencyProof,
        ConsistencyQuery,
        ("out-of-range",),
    ),
    _reading(
        "get-proof-by-hash",
        "Get the proof that a leaf is in a tree (RFC 6962, section 4.5)",
        LeafProof,
        ProofQuery,
        ("not-found", "out-of-range"),
    ),
    _reading("get-entries", "Get entries (RFC 6962, section 4.6)", LogEntries, EntriesQuery, ("out-of-range",)),
    _reading(
        "get-roots", "Get the roots at which chains may end (RFC 6962, section 4.7)", AcceptedRoots, NoParameters, ()
    ),
    _reading(
        "get-entry-and-proof",
        "Get an entry and the proof that it is in a tree (RFC 6962, section 4.8)",
        EntryWithProof,
        EntryQuery,
        ("out-of-range",),
    ),
    _file(
        "ct_checkpoint", "/ct/checkpoint", "Get the newest tree head as a signed note (C2SP)", NoParameters, PLAIN_TEXT
    ),
    _file("ct_data_tile", "/ct/tile/data/{tile...}", "Get a tile of entries (C2SP)", DataTilePath, OCTETS),
    _file("ct_tile", "/ct/tile/{level}/{tile...}", "Get a tile of hashes (C2SP)", TilePath, OCTETS),
    _file(
        "ct_issuer", "/ct/issuer/{fingerprint}", "Get a certificate of a logged chain (C2SP)", IssuerPath, CERTIFICATE
    ),
)
