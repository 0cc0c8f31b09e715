"""What is asked about findings, and what is answered."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from services.ca.messages import MAX_REQUESTER_CHARACTERS

MAX_FINDINGS: Final = 500
MAX_SUBJECT_CHARACTERS: Final = 200
MAX_REASON_CHARACTERS: Final = 500

# What contradicts what must hold, once it was found: see `contradictions.py`.
FindingKind = Literal[
    "unlogged",  # a certificate that should be in the log, and is not
    "entry_differs",  # the log has something else at the place that the certificate names
    "sct_invalid",  # its signed certificate timestamp is not one by the log for this certificate
    "unrecorded",  # signed by one of our issuers, and not on record
    "serial_twice",  # one serial number, two contents
    "leaf_twice",  # one place in the log, two certificates
    "row_differs",  # a certificate that is not what its row says
    "signature_invalid",  # a certificate that its issuer did not sign
    "issuer_unknown",  # a row of an issuer that is not here
    "revocation_untold",  # on record, and missing in a list that was signed later
    "revocation_unrecorded",  # in a list, and not on record
    "revocation_differs",  # another time or reason in a list than on record
    "crl_invalid",  # a list that nobody here signed, that cannot be read, or whose number went back
    "ocsp_differs",  # an answer that says something else than the record
    "log_damaged",  # a tile, root or signature that does not fit
    "log_shrank",  # a tree that is smaller than what was seen of it
    "log_forked",  # a tree that is not the continuation of what was seen of it
]


FindingState = Literal["open", "accepted"]


class ListFindings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what contradicts what must hold: what is open, or what an operator has accepted."""

    state: FindingState = "open"


class Acceptance(Struct, frozen=True):
    """That somebody knows of a finding and lives with it: when (seconds since the Unix epoch), who, and why."""

    accepted_at: int
    accepted_by: str
    reason: str


class StandingFinding(Struct, frozen=True, kw_only=True):
    """One finding that still stands. `digests` are SHA-256 of the octets that it is about, hexadecimal, by name."""

    kind: FindingKind
    subject: str
    text: str
    digests: dict[str, str]
    found_at: int
    seen_at: int
    acceptance: Acceptance | None = None


class Findings(Struct, frozen=True, kw_only=True):
    """The findings that were asked for, the latest first, at most MAX_FINDINGS.

    `count` is how many are open, and `kinds` of which kinds; `accepted` is how many stand and are accepted.
    The log was followed up to the entry `log_position` of `log_size`; the whole record was last compared at `swept_at`,
    None before the first time.
    """

    findings: list[StandingFinding]
    count: int
    kinds: dict[FindingKind, int]
    accepted: int
    log_position: int
    log_size: int
    swept_at: int | None


class AcceptFindings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accept the open findings of a kind, or the one about `subject`: they stand, and alarm nobody any more.

    `count` is how many the asker knows of: if there are others, nothing is accepted.
    """

    kind: FindingKind
    subject: Annotated[str, Meta(max_length=MAX_SUBJECT_CHARACTERS)] | None = None
    count: Annotated[int, Meta(ge=1)] = 1
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARACTERS)]
    requester: Annotated[str, Meta(max_length=MAX_REQUESTER_CHARACTERS)]


class AcceptedFindings(Struct, frozen=True, kw_only=True):
    """How many were accepted by this; 0 when all of them were before."""

    count: int


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "findings": (ListFindings, Findings),
    "accept_findings": (AcceptFindings, AcceptedFindings),
}
