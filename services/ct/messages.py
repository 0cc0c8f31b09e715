"""What the Certificate Transparency log is asked, what it answers, and how it refuses.

The only file of this service that another service may import. Rules:
- Terms are those of RFC 6962. Timestamps are milliseconds since the Unix epoch (section 3.2), hashes are 32 octets, all
  certificates are DER, signatures are DigitallySigned structures (RFC 5246, section 4.7) as they go on the wire.
- The remote methods are in METHODS. Whoever speaks HTTP turns these types into the JSON of section 4, and nothing else.
- A refusal means that the same request will be refused again. What the log cannot do now (a full disk) is
  `services.errors.Unavailable`: nothing was promised.
- No reply is larger than one message between workers: entries are cut off after MAX_ENTRIES or MAX_REPLY_OCTETS, and
  the content of a tile comes in parts.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MAX_CERTIFICATE_OCTETS: Final = 65_536
MAX_CHAIN: Final = 10
MAX_ENTRIES: Final = 1_000
MAX_REPLY_OCTETS: Final = 786_432
MAX_TREE_SIZE: Final = 2**40 - 1  # what the 40-bit leaf index of an SCT extension can tell (C2SP static-ct-api)
DATA_LEVEL: Final = -1

RefusalKind = Literal[
    "malformed",  # not a certificate, not a chain, a truncated or over-long structure
    "unknown-root",  # the chain does not end at a root that this log accepts
    "bad-chain",  # a certificate of the chain is not signed by the next one, or may not sign certificates
    "wrong-entry-type",  # a precertificate in add-chain, or a certificate in add-pre-chain
    "out-of-range",  # a size, index or range that this tree does not have
    "not-found",  # no such leaf, tile or issuer
]

EntryType = Literal["x509", "precert"]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
CertificateBytes = Annotated[bytes, Meta(min_length=1, max_length=MAX_CERTIFICATE_OCTETS)]
TreeSize = Annotated[int, Meta(ge=0, le=MAX_TREE_SIZE)]


class AddChain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate (add-chain) or a precertificate (add-pre-chain) to be logged.

    The (pre)certificate comes first, each next certificate signed the one before it; the root may be left out
    (RFC 6962, section 3.1).
    """

    chain: Annotated[list[CertificateBytes], Meta(min_length=1, max_length=MAX_CHAIN)]
    entry_type: EntryType


class SignedCertificateTimestamp(Struct, frozen=True, kw_only=True):
    """An SCT, version 1 (RFC 6962, section 3.2). Its entry is sequenced, durable and part of a signed tree.

    `serialized` is the SignedCertificateTimestamp structure, as SCT lists hold it.
    """

    log_id: Digest
    timestamp: int
    extensions: bytes
    signature: bytes
    leaf_index: int
    serialized: bytes


class GetTreeHead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the newest signed tree head."""


class SignedTreeHead(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 3.5: `signature` is over version, signature type, timestamp, tree size and root hash."""

    tree_size: int
    timestamp: int
    root_hash: Digest
    signature: bytes


class GetConsistency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a proof that the tree of size `first` is a beginning of the tree of size `second`."""

    first: TreeSize
    second: TreeSize


class Consistency(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 2.1.2; empty when `first` is 0 or equals `second`."""

    path: list[Digest]


class GetProofByHash(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a proof that the leaf with this Merkle leaf hash is in the tree of size `tree_size`."""

    leaf_hash: Digest
    tree_size: TreeSize


class InclusionProof(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 2.1.1."""

    leaf_index: int
    audit_path: list[Digest]


class GetEntries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the entries `start` to `end`, both included. Fewer may come; never none."""

    start: TreeSize
    end: TreeSize


class Entry(Struct, frozen=True, kw_only=True):
    """`leaf_input` is a MerkleTreeLeaf, `extra_data` the rest of the chain (RFC 6962, section 4.6)."""

    leaf_input: bytes
    extra_data: bytes


class Entries(Struct, frozen=True, kw_only=True):
    """Consecutive entries from `start` on."""

    start: int
    entries: list[Entry]


class GetEntryAndProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for one entry by its index, with its inclusion proof in the tree of size `tree_size`."""

    leaf_index: TreeSize
    tree_size: TreeSize


class EntryAndProof(Struct, frozen=True, kw_only=True):
    """RFC 6962, section 4.8."""

    entry: Entry
    audit_path: list[Digest]


class GetRoots(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the roots at which chains may end."""


class AcceptRoots(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell the log to accept chains that end at these roots, from now on and for ever. Known ones change nothing."""

    certificates: Annotated[list[CertificateBytes], Meta(max_length=64)]


class Roots(Struct, frozen=True, kw_only=True):
    """The accepted roots."""

    certificates: list[bytes]


class GetCheckpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the newest tree head as a checkpoint (C2SP tlog-checkpoint, signed note with an RFC 6962 signature)."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The signed note, as it is served under /ct/checkpoint."""

    note: bytes


class GetTile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for octets of one tile (C2SP tlog-tiles), from `offset` on; `level` is DATA_LEVEL for a data tile.

    `width` is 256 for a full tile, less for a partial one.
    """

    level: Annotated[int, Meta(ge=DATA_LEVEL, le=5)]
    index: TreeSize
    width: Annotated[int, Meta(ge=1, le=256)]
    offset: Annotated[int, Meta(ge=0)] = 0


class GetIssuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a certificate of a logged chain by its SHA-256 fingerprint (C2SP static-ct-api)."""

    fingerprint: Digest
    offset: Annotated[int, Meta(ge=0)] = 0


class Part(Struct, frozen=True, kw_only=True):
    """Octets of something from the offset asked for on; `size` is the size of the whole."""

    content: bytes
    size: int


class GetLog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask who this log is."""


class LogDescription(Struct, frozen=True, kw_only=True):
    """`public_key` is a SubjectPublicKeyInfo, `log_id` its SHA-256, `origin` the name in checkpoints.

    `verifier_key` is the key as verifiers of signed notes take it (C2SP signed-note).
    """

    origin: str
    public_key: bytes
    log_id: Digest
    verifier_key: str
    maximum_merge_delay: int


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "add": (AddChain, SignedCertificateTimestamp),
    "tree_head": (GetTreeHead, SignedTreeHead),
    "consistency": (GetConsistency, Consistency),
    "proof_by_hash": (GetProofByHash, InclusionProof),
    "entries": (GetEntries, Entries),
    "entry_and_proof": (GetEntryAndProof, EntryAndProof),
    "roots": (GetRoots, Roots),
    "accept_roots": (AcceptRoots, Roots),
    "checkpoint": (GetCheckpoint, Checkpoint),
    "tile": (GetTile, Part),
    "issuer": (GetIssuer, Part),
    "log": (GetLog, LogDescription),
}


class Refusal(Exception):
    """The request is at fault. `field` names the part of the request, `detail` tells its author what to change."""

    counts_as: Final = "rejected"

    def __init__(self, kind: RefusalKind, field: str | None, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if field is None else f"{kind}: {field}: {detail}")
        self.kind: RefusalKind = kind
        self.field = field
        self.detail = detail
