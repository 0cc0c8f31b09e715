"""The document that says which authorities there are."""

import msgspec
import pytest

from services.ca.hierarchy.document import AuthorityEntry, DocumentDamaged, HierarchyDocument, parsed, written

ROOT = AuthorityEntry(id="0a", role="root", kind="classical", state="active", since=1, key="offline")
ISSUER = AuthorityEntry(
    id="0b", role="intermediate", kind="classical", state="active", since=2, key="file", verified="ab" * 32
)
DOCUMENT = HierarchyDocument(authorities=(ROOT, ISSUER))


def test_what_is_written_is_read() -> None:
    assert parsed(written(DOCUMENT)) == DOCUMENT
    assert [entry.id for entry in DOCUMENT.of_role("root")] == ["0a"]


def changed(**fields: object) -> bytes:
    issuer = {**msgspec.to_builtins(ISSUER), **fields}
    return msgspec.json.encode({"version": 1, "authorities": [msgspec.to_builtins(ROOT), issuer]})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"id": "../../etc"}, "regex"),
        ({"id": "0A"}, "regex"),
        ({"id": "0a"}, "named twice"),
        ({"role": "leaf"}, "leaf"),
        ({"kind": "quantum"}, "quantum"),
        ({"state": "asleep"}, "asleep"),
        ({"since": -1}, ">= 0"),
        ({"key": "offline"}, "cannot be elsewhere"),
        ({"verified": "short"}, "regex"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_makes_no_sense_is_told(fields: dict[str, object], text: str) -> None:
    with pytest.raises(DocumentDamaged, match=text):
        parsed(changed(**fields))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'{"version":2,"authorities":[]}', b"\xff\xfe", b"[" * 5000])
def test_what_is_no_document_is_told(content: bytes) -> None:
    with pytest.raises(DocumentDamaged):
        parsed(content)
