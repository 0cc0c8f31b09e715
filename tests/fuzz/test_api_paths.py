"""Whatever a client writes into paths, parameters and headers of the log and of plain HTTP: a value or a Problem."""

import base64
import json
from typing import Any
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from services.api.endpoints_status import request_of_path
from services.api.freshness import caching_headers, is_known
from services.api.parsing import accepts_gzip, convert_parameters, parse_body, parse_parameters
from services.api.problems import Problem
from services.api.routes import ROUTES
from services.api.routes_ct import ChainBody, ConsistencyQuery, EntriesQuery, EntryQuery, ProofQuery
from services.api.routes_status import HTTP_ROUTES, MAX_OCSP_BODY, CrlPath
from services.api.routing import RouteTable
from services.api.tile_paths import Tile, format_tile, parse_fingerprint, parse_level, parse_tile
from services.ct.messages import MAX_CERTIFICATE_OCTETS, MAX_CHAIN, MAX_TREE_SIZE
from tests.fuzz.outcomes import outcome, well_formed

HTTPS, HTTP = RouteTable(ROUTES), RouteTable(HTTP_ROUTES)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
DIGITS = st.text("0123456789x./pP+-e_ ", max_size=40)
QUERIES = (ConsistencyQuery, ProofQuery, EntriesQuery, EntryQuery)
NAMES = ("first", "second", "hash", "tree_size", "start", "end", "leaf_index")
VALUES = ANY_TEXT | DIGITS | st.integers().map(str) | st.binary(max_size=40).map(lambda b: base64.b64encode(b).decode())


@given(ANY_TEXT | DIGITS)
@example("000.p/١")
@example("x00²/000")
def test_any_tile_path(text: str) -> None:
    tile = parse_tile(text)
    if tile is not None:
        assert format_tile(tile) == text
        assert 0 <= tile.index <= MAX_TREE_SIZE
        assert 1 <= tile.width <= 256


@given(st.integers(0, MAX_TREE_SIZE), st.integers(1, 256))
def test_every_tile_has_a_path_that_is_read_as_that_tile(index: int, width: int) -> None:
    assert parse_tile(format_tile(Tile(index, width))) == Tile(index, width)


@given(ANY_TEXT | DIGITS)
def test_any_level_and_fingerprint(text: str) -> None:
    level, fingerprint = parse_level(text), parse_fingerprint(text)
    assert level is None or str(level) == text
    assert fingerprint is None or fingerprint.hex() == text


@given(st.sampled_from(QUERIES), st.lists(st.tuples(st.sampled_from(NAMES) | ANY_TEXT, VALUES), max_size=4))
def test_any_query_of_the_log(wanted: Any, parameters: list[tuple[str, str]]) -> None:
    got = outcome(lambda: parse_parameters(parameters, wanted, "malformed"))
    if isinstance(got, Problem):
        assert got.status == 400
        well_formed(got, b"")
        return
    for name, text in parameters:
        value = getattr(got, name)
        if isinstance(value, int):
            assert text == str(value)
            assert 0 <= value <= MAX_TREE_SIZE
        else:
            assert value == base64.b64decode(text, validate=True)


JSON_CHAINS = st.fixed_dictionaries(
    {"chain": st.lists(st.text() | st.binary(max_size=50).map(lambda b: base64.b64encode(b).decode()) | st.integers())},
    optional={"other": st.none()},
)


@given(st.binary(max_size=200) | JSON_CHAINS.map(lambda value: json.dumps(value).encode()))
@example(b'{"chain":["\\ud800"]}')
@example(b'{"chain":["' + b"A" * 65537 * 4 + b'"]}')
@example(b'{"chain":' + b"[" * 5000)
def test_any_body_of_a_submission(body: bytes) -> None:
    got = outcome(lambda: parse_body(body, ChainBody, "malformed"))
    if isinstance(got, Problem):
        assert got.status == 400
        well_formed(got, body)
    else:
        assert 1 <= len(got.chain) <= MAX_CHAIN
        assert all(1 <= len(certificate) <= MAX_CERTIFICATE_OCTETS for certificate in got.chain)


@given(ANY_TEXT | st.text("AB+/=%2Ff0", max_size=60))
def test_any_ocsp_request_in_a_path(text: str) -> None:
    got = outcome(lambda: request_of_path(text))
    if isinstance(got, Problem):
        assert got.status == 400
        well_formed(got, b"")
    else:
        assert 0 < len(got) <= MAX_OCSP_BODY


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["", "/", "/+=", "+="]))
def test_every_ocsp_request_can_be_written_into_a_path_that_finds_its_route(request: bytes, unquoted: str) -> None:
    path = "/ocsp/" + quote(base64.b64encode(request), safe=unquoted)
    match = HTTP.match("GET", path)
    assert match.route.name == "get_ocsp"
    assert request_of_path(match.path_values["request"]) == request


@given(ANY_TEXT | st.text("0123456789abcdef", max_size=50), ANY_TEXT | DIGITS)
def test_any_name_of_a_revocation_list(issuer: str, partition: str) -> None:
    got = outcome(lambda: convert_parameters({"issuer": issuer, "partition": partition}, CrlPath, "not-found"))
    if isinstance(got, Problem):
        assert got.status == 404
        well_formed(got, b"")
    else:
        assert str(got.partition) == partition
        assert 0 <= got.partition < 256


PLACES = ("/ct/tile/", "/ct/tile/data/", "/ct/issuer/", "/ct/v1/get-sth", "/crl/", "/issuer/", "/ocsp/", "/")


@given(st.sampled_from(["GET", "HEAD", "POST"]) | ANY_TEXT, st.sampled_from(PLACES), ANY_TEXT | DIGITS)
def test_any_method_and_path(method: str, place: str, rest: str) -> None:
    for table in (HTTPS, HTTP):
        got = outcome(lambda table=table: table.match(method, place + rest))  # type: ignore[misc]  # of this turn
        if isinstance(got, Problem):
            assert got.kind in ("not-found", "method-not-allowed")
            well_formed(got, b"")
        else:
            values = got.path_values
            path = got.route.path
            for name, value in values.items():
                path = path.replace(f"{{{name}...}}", value).replace(f"{{{name}}}", value)
            assert path == place + rest, "what was taken out of the path is all that the route leaves open"


@given(ANY_TEXT | st.lists(st.sampled_from(['"a"', 'W/"a"', "*", ",", " ", '"', "a"]), max_size=20).map("".join))
def test_any_if_none_match(text: str) -> None:
    if is_known(text, "a"):
        assert '"a"' in text or text.strip() == "*"


@given(ANY_TEXT | st.lists(st.sampled_from(["gzip", ";", "q=", "0", "1", ",", "*"]), max_size=12).map("".join))
def test_any_accept_encoding(text: str) -> None:
    if accepts_gzip(text):
        assert "gzip" in text.lower()


@given(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63), st.floats(0, 1e12))
def test_any_times_that_an_authority_could_give(this_update: int, next_update: int, now: float) -> None:
    headers = caching_headers("n", this_update, next_update, now)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    if next_update <= now:
        assert set(headers) == {"ETag"}
