"""What contradicts what must hold between record, log, revocation lists and OCSP answers. Pure.

Rules:
- A finding names its subject so that the same contradiction, found again, is the same finding: kind and subject are its
  identity, the text and the digests are its evidence.
- The octets themselves stay where they are; their digests say which were looked at, whatever happens to them later.
- What an honest crash leaves is a note and no finding: a serial number that was reserved and signed with, a
  precertificate in the log whose certificate was never stored, a revocation that the next list will tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Final, Literal, get_args

from services.ca.reconciliation.messages import FindingKind

Severity = Literal["critical", "serious"]
NoteKind = Literal[
    "unfinished",  # a reserved serial number without anything in the log
    "unfinished_logged",  # a reserved serial number whose precertificate is in the log
    "before_log",  # issued before there was a log
    "logged_again",  # the same contents at two places of the log
    "revocation_pending",  # newer than the newest list of its partition
    "crl_overdue",  # a list that says there should be a newer one
]

FINDING_KINDS: Final[tuple[FindingKind, ...]] = get_args(FindingKind)
NOTE_KINDS: Final[tuple[NoteKind, ...]] = get_args(NoteKind)
MAX_TEXT: Final = 1000

# What can be an honest mishap of one file is serious; all else means that a key, the record or the log is not what
# its readers take it for.
_SERIOUS: Final[frozenset[FindingKind]] = frozenset(
    {"revocation_untold", "revocation_differs", "crl_invalid", "issuer_unknown", "ocsp_differs"}
)


ABOUT_THE_LOG: Final[frozenset[FindingKind]] = frozenset({"log_damaged", "log_shrank", "log_forked"})
"""What nobody can accept: nothing that follows could be compared."""

# The same octets contradict in more than one way.
_TOLD_BY_TEXT: Final[frozenset[FindingKind]] = frozenset({"row_differs", "leaf_twice", "sct_invalid", "unlogged"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction. `subject` is such as `serial 0a1b` or `leaf 12`.

    `given_up`: it follows from what an operator gave up, a log or a record, and needs no alarm in a running authority.
    """

    kind: FindingKind
    subject: str
    text: str
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    given_up: bool = False

    def __post_init__(self) -> None:
        if self.kind not in FINDING_KINDS or not self.subject or not 0 < len(self.text) <= MAX_TEXT:
            raise ValueError("a finding has a known kind, a subject, and a text that is not too long")

    @property
    def severity(self) -> Severity:
        """How bad it is, if nobody knows better."""
        return "serious" if self.kind in _SERIOUS else "critical"

    @property
    def evidence(self) -> str:
        """What contradicts: the octets, by their digests, and the text where it says what about them does."""
        said = "" if self.digests and self.kind not in _TOLD_BY_TEXT else self.text
        return f"{' '.join(f'{name}={digest}' for name, digest in sorted(self.digests.items()))} {said}".strip()

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for the same contradiction found twice."""
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not as usual, and contradicts nothing."""

    kind: NoteKind
    subject: str
    text: str


Observation = Finding | Note


def digests(**octets: bytes | None) -> Mapping[str, str]:
    """SHA-256 of each, hexadecimal, by name; what is not there is left out."""
    return MappingProxyType({name: sha256(data).hexdigest() for name, data in octets.items() if data is not None})


def of_serial(serial: str) -> str:
    """The subject of what is found about a certificate."""
    return f"serial {serial}"


def of_leaf(index: int) -> str:
    """The subject of what is found about an entry of the log."""
    return f"leaf {index}"
