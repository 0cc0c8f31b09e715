"""Whatever a client sends, parsing returns a value or raises a Problem, and nothing else."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.api.parsing import (
    bearer_token,
    media_type,
    parse_body,
    parse_parameters,
    preferred_type,
    printable,
)
from services.api.problems import Problem
from services.api.routes import (
    PEM_CHAIN,
    ROUTES,
    CertificateQuery,
    CertificateRequest,
    SerialPath,
)
from services.api.routing import RouteTable
from tests.fuzz.outcomes import outcome, well_formed

TABLE = RouteTable(ROUTES)
OFFERED = ("application/json", PEM_CHAIN)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
REQUESTS = st.fixed_dictionaries(
    {"csr": JSON_VALUES}, optional={"profile": JSON_VALUES, "validity_seconds": JSON_VALUES, "other": JSON_VALUES}
)


def check_body(body: bytes) -> None:
    got = outcome(lambda: parse_body(body, CertificateRequest))
    if isinstance(got, Problem):
        assert got.kind in ("bad-json", "bad-field")
        well_formed(got, body)
    else:
        got.csr.encode("utf-8")
        assert got.validity_seconds is None or got.validity_seconds > 0


@given(st.binary(max_size=200))
@example(b'{"csr":"\\ud800"}')
@example(b'{"csr":' + b"[" * 3000)
@example(b'{"a\xff":1}')
@example(b"\xff" * 10)
def test_any_bytes_as_a_body(body: bytes) -> None:
    check_body(body)


@given(REQUESTS | JSON_VALUES)
def test_any_json_as_a_body(value: Any) -> None:
    check_body(json.dumps(value).encode("utf-8", "surrogatepass"))


@given(REQUESTS, st.data())
@settings(max_examples=200)
def test_a_damaged_request_as_a_body(value: Any, data: st.DataObject) -> None:
    """Valid JSON with octets cut out, put in or changed: what a fuzzer on the wire would send."""
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check_body(bytes(body))


@given(st.lists(st.tuples(st.sampled_from(CertificateQuery.__struct_fields__) | ANY_TEXT, ANY_TEXT), max_size=6))
@example([("\ud800", "")])
def test_any_query_parameters(parameters: list[tuple[str, str]]) -> None:
    got = outcome(lambda: parse_parameters(parameters, CertificateQuery))
    if isinstance(got, Problem):
        assert got.kind == "bad-field"
        well_formed(got, b"")
    else:
        assert 1 <= got.limit <= 1000


@given(ANY_TEXT)
def test_any_serial_number(text: str) -> None:
    got = outcome(lambda: parse_parameters([("serial", text)], SerialPath))
    if isinstance(got, Problem):
        assert got.field == "serial"
        well_formed(got, b"")
    else:
        assert set(got.serial.strip()) <= set("0123456789abcdef")


@given(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT).map(lambda parts: "/v1/certificates/" + "/".join(parts)))
def test_any_method_and_path(method: str, path: str) -> None:
    got = outcome(lambda: TABLE.match(method, path))
    if isinstance(got, Problem):
        assert got.kind in ("not-found", "method-not-allowed")
        well_formed(got, b"")


@given(
    ANY_TEXT
    | st.lists(st.sampled_from([*OFFERED, "*/*", ";", ",", "q=", "0.5", "application/*", " "]), max_size=12).map(
        "".join
    )
)
def test_any_accept_header(accept: str) -> None:
    got = outcome(lambda: preferred_type(accept, OFFERED))
    assert got in OFFERED or (isinstance(got, Problem) and got.kind == "not-acceptable")


@given(ANY_TEXT)
def test_any_other_header(text: str) -> None:
    assert isinstance(media_type(text), str)
    assert bearer_token(text) != ""
    assert printable(text).isprintable()
