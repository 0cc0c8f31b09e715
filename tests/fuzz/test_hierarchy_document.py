"""Whatever the bytes of the authority's document are, they are a document or damage, and nothing else."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from services.ca.hierarchy.document import DocumentDamaged, parsed, written
from tests.unit.ca.test_hierarchy_document import DOCUMENT

WHOLE = written(DOCUMENT)


@given(st.binary(max_size=200))
def test_bytes_are_a_document_or_damage(content: bytes) -> None:
    with suppress(DocumentDamaged):
        parsed(content)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=8))
def test_a_document_with_a_hole_is_a_document_or_damage(place: int, content: bytes) -> None:
    with suppress(DocumentDamaged):
        found = parsed(WHOLE[:place] + content + WHOLE[place + len(content) :])
        assert parsed(written(found)) == found
