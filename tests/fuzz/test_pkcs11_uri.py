"""Whatever a text is, it is the URI of a key or a BadKeyUri, and nothing else."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from services.ca.keys.pkcs11_uri import BadKeyUri, KeyUri, parsed

PIECES = st.sampled_from(
    ["pkcs11:", "token=", "id=", "object=", "type=", ";", "%", "%ff", "%41", "?", "private", "a", "é"]
)


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=16).map("".join)))
def test_a_text_is_a_uri_or_a_refusal(text: str) -> None:
    with suppress(BadKeyUri):
        found = parsed(text)
        assert parsed(str(found)) == found


@given(st.text(min_size=1, max_size=30), st.binary(min_size=1, max_size=64), st.text(max_size=30))
def test_every_key_has_a_uri(token: str, key_id: bytes, label: str) -> None:
    uri = KeyUri(token, key_id, label)
    with suppress(BadKeyUri):  # longer than a URI may be, escaped
        assert parsed(str(uri)) == uri
