"""What clients send becomes a typed value or a problem that names what is wrong."""

import pytest

from services.api.parsing import (
    JSON,
    accepts_gzip,
    bearer_token,
    media_type,
    parse_body,
    parse_parameters,
    preferred_type,
    printable,
)
from services.api.problems import Problem
from services.api.routes import PEM_CHAIN, CertificateQuery, CertificateRequest, SerialPath


def problem_of_body(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_body(body, CertificateRequest)
    return caught.value


def test_a_good_body_is_read_with_its_defaults() -> None:
    assert parse_body(b'{"csr": "PEM"}', CertificateRequest) == CertificateRequest(csr="PEM")


@pytest.mark.parametrize(
    ("body", "position"),
    [
        (b"", 0),
        (b"{", 1),
        (b'{"csr": "a"', 11),
        (b'{"csr": "a"} x', 13),
        (b'{"csr": nope}', 8),
        (b'{"csr": "\xff"}', 9),
        (b"\xef\xbb\xbf{}", 0),
        (b"-----BEGIN CERTIFICATE REQUEST-----", 0),
        ('{"csr": "\u00e9" x}'.encode(), 13),
    ],
)
def test_what_is_not_json_names_the_position(body: bytes, position: int) -> None:
    problem = problem_of_body(body)
    assert (problem.kind, problem.status, problem.position) == ("bad-json", 400, position)
    assert str(position) in problem.detail or not body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "csr"),
        (b'{"csr": 1}', "csr"),
        (b'{"csr": null}', "csr"),
        (b'{"csr": "a", "colour": 1}', "colour"),
        (b'{"csr": "a", "profile": 7}', "profile"),
        (b'{"csr": "a", "profile": ""}', "profile"),
        (b'{"csr": "a", "validity_seconds": "60"}', "validity_seconds"),
        (b'{"csr": "a", "validity_seconds": 0}', "validity_seconds"),
        (b'{"csr": "a", "validity_seconds": -5}', "validity_seconds"),
        (b'{"csr": "a", "validity_seconds": 1e400}', "validity_seconds"),
        (b'{"csr": "a", "validity_seconds": 99999999999999999999}', "validity_seconds"),
        (b"[]", None),
        (b'"text"', None),
    ],
)
def test_a_wrong_type_or_value_names_the_field(body: bytes, field: str | None) -> None:
    problem = problem_of_body(body)
    assert (problem.kind, problem.status, problem.field) == ("bad-field", 422, field)


def test_deep_nesting_is_refused_and_nothing_else() -> None:
    assert problem_of_body(b'{"csr": ' + b"[" * 50_000).kind in ("bad-json", "bad-field")


def test_query_parameters_are_converted_to_their_types() -> None:
    query = parse_parameters([("limit", "5"), ("name", "null"), ("expires_before", "1700000000")], CertificateQuery)
    assert (query.limit, query.name, query.expires_before) == (5, "null", 1_700_000_000)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ([("limit", "many")], "limit"),
        ([("limit", "0")], "limit"),
        ([("limit", "1001")], "limit"),
        ([("limit", "")], "limit"),
        ([("status", "revolting")], "status"),
        ([("expires_before", "-1")], "expires_before"),
        ([("color", "blue")], "color"),
        ([("limit", "5"), ("limit", "6")], "limit"),
    ],
)
def test_a_bad_query_parameter_is_named(parameters: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_parameters(parameters, CertificateQuery)
    assert (caught.value.kind, caught.value.field) == ("bad-field", field)


@pytest.mark.parametrize("serial", ["", "AB", "xyz", "0" * 41, "1 ", "../etc"])
def test_a_serial_number_is_lower_case_hexadecimal(serial: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_parameters([("serial", serial)], SerialPath)
    assert caught.value.field == "serial"


@pytest.mark.parametrize(
    ("header", "name"),
    [("application/json", JSON), ("Application/JSON; charset=utf-8", JSON), ("", ""), ("text/plain", "text/plain")],
)
def test_media_types_are_compared_without_case_and_parameters(header: str, name: str) -> None:
    assert media_type(header) == name


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (PEM_CHAIN, PEM_CHAIN),
        (f"{PEM_CHAIN}, */*;q=0.1", PEM_CHAIN),
        (f"{JSON};q=0.5, {PEM_CHAIN};q=0.9", PEM_CHAIN),
        (f"{JSON};q=0, */*", PEM_CHAIN),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        (f"{PEM_CHAIN};q=nonsense", PEM_CHAIN),
    ],
)
def test_the_preferred_type_is_chosen_by_quality_and_specificity(accept: str, chosen: str) -> None:
    assert preferred_type(accept, (JSON, PEM_CHAIN)) == chosen


@pytest.mark.parametrize("accept", ["text/html", f"{JSON};q=0, {PEM_CHAIN};q=0.0", "image/*", ","])
def test_what_cannot_be_given_is_not_acceptable(accept: str) -> None:
    with pytest.raises(Problem) as caught:
        preferred_type(accept, (JSON, PEM_CHAIN))
    assert caught.value.status == 406


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("", None),
        ("abc", None),
    ],
)
def test_a_bearer_token_is_found_whatever_the_case_of_its_scheme(header: str, token: str | None) -> None:
    assert bearer_token(header) == token


def test_quoted_input_is_short_and_has_no_control_characters() -> None:
    assert printable("a\r\nb\x1b[31m") == "a��b�[31m"
    assert len(printable("x" * 1000)) == 65


@pytest.mark.parametrize("number", ["1e1", "1.0", "10.00", "-0", "+1", "01", " 1", "1_0", "٣", "0x1", "1 "])
def test_a_number_has_one_spelling(number: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_parameters([("limit", number)], CertificateQuery)
    assert caught.value.field == "limit"


def test_a_route_may_have_another_kind_of_refusal_for_what_does_not_fit() -> None:
    """RFC 6962 knows 400 for what is 422 elsewhere here."""
    for parameters in ([("limit", "x")], [("limit", "1e1")], [("color", "1")], [("limit", "1"), ("limit", "1")]):
        with pytest.raises(Problem) as caught:
            parse_parameters(parameters, CertificateQuery, "malformed")
        assert caught.value.kind == "malformed"
    with pytest.raises(Problem) as caught:
        parse_body(b"{}", CertificateRequest, "malformed")
    assert (caught.value.kind, caught.value.field) == ("malformed", "csr")


def test_parameters_of_an_offered_type_do_not_matter_to_who_accepts_it() -> None:
    assert preferred_type("text/plain", ("text/plain; charset=utf-8",)) == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", True),
        ("", False),
        ("identity", False),
        ("*", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzipped", False),
        (",;,", False),
    ],
)
def test_gzip_is_for_who_names_it(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
