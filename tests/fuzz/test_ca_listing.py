"""Cursors and searches come from clients: whatever they are, there is a page to look for or a refusal."""

import sqlite3
from base64 import urlsafe_b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services import database_file
from services.ca.inventory.listing import query
from services.ca.messages import ListCertificates, Refusal
from services.ca.storage import MIGRATIONS, _page

NOW = 1_800_000_000
cursors = st.one_of(
    st.text(max_size=512),
    st.binary(max_size=300).map(lambda octets: urlsafe_b64encode(octets).decode()),
    st.from_regex(r"\A(newest|expiry|issue|revocation|name):[a-z0-9.*-]{0,30}:[0-9]{1,20}\Z").map(
        lambda text: urlsafe_b64encode(text.encode()).decode()
    ),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "cursor": cursors,
        "name": st.text(max_size=30),
        "search": st.one_of(st.text(max_size=30), st.sampled_from(["example", ".a.example", "a"])),
        "requester": st.text(max_size=30),
        "issuer": st.text(max_size=10),
        "profile": st.text(max_size=10),
        "status": st.sampled_from(["valid", "expired", "revoked"]),
        "expires_after": st.integers(),
        "expires_before": st.integers(),
        "issued_after": st.integers(),
        "issued_before": st.integers(),
    },
)
connection = sqlite3.connect(":memory:", isolation_level=None)
database_file._migrate(connection, MIGRATIONS)


@given(filters)
def test_whatever_is_asked_is_a_query_of_the_record_or_refused(given_filters: dict[str, Any]) -> None:
    refused: tuple[str, str | None] | None = None
    try:
        asked = query(ListCertificates(**given_filters), NOW)
    except Refusal as refusal:
        refused = (refusal.kind, refusal.field)
    else:
        assert _page(connection, asked, 10).certificates == ()
    assert refused in {None, ("malformed", "cursor"), ("malformed", "search")}
