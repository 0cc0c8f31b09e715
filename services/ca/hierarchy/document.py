"""The document that says which authorities exist, which of them are active, and where their keys are. Pure.

Rules:
- It is what counts: an authority that it does not name was never used, one that it names has to be there.
- It is written whole, by rename. So a change of several authorities at once (a new root and an intermediate below it)
  happens at one moment.
- `verified` is the digest of an authority's files when keys and signatures were last checked against each other: a
  start that finds the same files everywhere need not do that again. An empty text: they were not checked.
- Whatever the bytes are, the answer is a document or a DocumentDamaged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from services.ca.hierarchy.hierarchy import Kind, State

VERSION: Final = 1
MAX_DOCUMENT_OCTETS: Final = 1_048_576

KeyPlace = Literal["file", "token", "offline"]
Role = Literal["root", "intermediate"]
AuthorityId = Annotated[str, Meta(pattern="^([0-9a-f]{2}){1,20}$")]


class DocumentDamaged(ValueError):
    """Bytes that are no such document. The text says what is wrong."""


class AuthorityEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One authority. `id` is the serial number of its certificate; `since`: when its state began, Unix seconds."""

    id: AuthorityId
    role: Role
    kind: Kind
    state: State
    since: Annotated[int, Meta(ge=0)]
    key: KeyPlace
    verified: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""

    def __post_init__(self) -> None:
        if self.role == "intermediate" and self.key == "offline":
            raise ValueError(f"the key of the intermediate {self.id} cannot be elsewhere")


class HierarchyDocument(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All authorities."""

    version: Literal[1] = VERSION
    authorities: Annotated[tuple[AuthorityEntry, ...], Meta(min_length=2, max_length=1000)]

    def __post_init__(self) -> None:
        if len({entry.id for entry in self.authorities}) != len(self.authorities):
            raise ValueError("an authority is named twice")

    def of_role(self, role: Role) -> Iterable[AuthorityEntry]:
        """The roots, or the intermediates."""
        return (entry for entry in self.authorities if entry.role == role)


def parsed(content: bytes) -> HierarchyDocument:
    """Read a document. Raises DocumentDamaged."""
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentDamaged(str(error)) from error


def written(document: HierarchyDocument) -> bytes:
    """The document as it is stored, for people to read as well."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


_decoder: Final = msgspec.json.Decoder(HierarchyDocument)
