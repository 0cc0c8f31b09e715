"""The route table: what it finds, what it refuses, and that nothing in it contradicts itself."""

import re

import pytest

from services.api.problems import KINDS, Problem
from services.api.routes import ROUTES
from services.api.routes_status import HTTP_ROUTES
from services.api.routing import NoParameters, Route, RouteTable

TABLE = RouteTable(ROUTES)
HTTP_TABLE = RouteTable(HTTP_ROUTES)


@pytest.mark.parametrize(
    ("method", "path", "name", "values"),
    [
        ("POST", "/v1/certificates", "issue_certificate", {}),
        ("GET", "/v1/certificates", "list_certificates", {}),
        ("HEAD", "/v1/certificates", "list_certificates", {}),
        ("GET", "/v1/certificates/0a1b", "get_certificate", {"serial": "0a1b"}),
        ("GET", "/v1/ca/roots", "get_roots", {}),
        ("HEAD", "/v1/openapi.json", "get_openapi", {}),
        ("POST", "/ct/v1/add-chain", "ct_add_chain", {}),
        ("GET", "/ct/v1/get-sth", "ct_get_sth", {}),
        ("GET", "/ct/checkpoint", "ct_checkpoint", {}),
        ("GET", "/ct/tile/0/000", "ct_tile", {"level": "0", "tile": "000"}),
        ("GET", "/ct/tile/0/x001/x234/067.p/8", "ct_tile", {"level": "0", "tile": "x001/x234/067.p/8"}),
        ("GET", "/ct/tile/data/x001/067", "ct_data_tile", {"tile": "x001/067"}),
        ("GET", "/ct/tile/0//", "ct_tile", {"level": "0", "tile": "/"}),
        ("GET", "/ct/issuer/0a", "ct_issuer", {"fingerprint": "0a"}),
    ],
)
def test_a_request_finds_its_route(method: str, path: str, name: str, values: dict[str, str]) -> None:
    match = TABLE.match(method, path)
    assert (match.route.name, dict(match.path_values)) == (name, values)


@pytest.mark.parametrize(
    ("method", "path", "name", "values"),
    [
        ("GET", "/crl/0a/17.crl", "get_crl", {"issuer": "0a", "partition": "17"}),
        ("HEAD", "/issuer/0a.cer", "get_issuer", {"issuer": "0a"}),
        ("POST", "/ocsp", "post_ocsp", {}),
        ("GET", "/ocsp/MEow+a/b//c%3D", "get_ocsp", {"request": "MEow+a/b//c%3D"}),
    ],
)
def test_a_request_over_plain_http_finds_its_route(method: str, path: str, name: str, values: dict[str, str]) -> None:
    match = HTTP_TABLE.match(method, path)
    assert (match.route.name, dict(match.path_values)) == (name, values)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/ca/roots",
        "/ct/v1/get-sth",
        "/crl/0a",
        "/crl/0a/0",
        "/crl/0a/.crl",
        "/crl/0a/b/0.crl",
        "/crl/0a/0.crl/",
        "/crl/0a/0.crl\n",
        "//crl/0a/0.crl",
        "/issuer/.cer",
        "/issuer/0a.cert",
        "/issuer/0axcer",
        "/ocsp/",
        "/OCSP",
    ],
)
def test_nothing_else_is_answered_over_plain_http(path: str) -> None:
    with pytest.raises(Problem) as caught:
        HTTP_TABLE.match("GET", path)
    assert caught.value.kind == "not-found"


def route(path: str, name: str = "a") -> Route:
    return Route(name=name, method="GET", path=path, summary="", token=False, status=200, reply=None)


@pytest.mark.parametrize("order", [1, -1])
def test_the_path_that_says_more_wins_whatever_the_order_of_the_table(order: int) -> None:
    table = RouteTable([route(path, path) for path in ("/a/{x...}", "/a/{x}", "/a/{x}.b", "/a/b", "/{y}/c")][::order])
    found = {path: table.match("GET", path).route.name for path in ("/a/b", "/a/d", "/a/d.b", "/a/d/e", "/b/c")}
    assert found == {
        "/a/b": "/a/b",
        "/a/d": "/a/{x}",
        "/a/d.b": "/a/{x}.b",
        "/a/d/e": "/a/{x...}",
        "/b/c": "/{y}/c",
    }


def test_two_names_for_the_same_place_in_a_path_are_refused() -> None:
    with pytest.raises(ValueError, match="differ only in the names"):
        RouteTable([route("/a/{x}"), route("/a/{y}")])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/V1/certificates",
        "/v1/certificates/a/b",
        "/v1/ca",
        "//v1/certificates",
        "/v1/ca/roots/",
    ],
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    with pytest.raises(Problem) as caught:
        TABLE.match("GET", path)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/certificates", "GET, HEAD, POST"),
        ("POST", "/v1/ca/roots", "GET, HEAD"),
        ("get", "/v1/ca/roots", "GET, HEAD"),
        ("PUT", "/v1/certificates/1", "GET, HEAD"),
    ],
)
def test_a_wrong_method_names_those_that_are_right(method: str, path: str, allow: str) -> None:
    with pytest.raises(Problem) as caught:
        TABLE.match(method, path)
    assert caught.value.status == 405
    assert caught.value.headers()["Allow"] == allow


def test_two_routes_cannot_answer_the_same_request() -> None:
    with pytest.raises(ValueError, match="two routes answer GET /v1/ca/roots"):
        RouteTable([*ROUTES, next(route for route in ROUTES if route.name == "get_roots")])


def test_names_are_unique_because_metrics_and_operations_go_by_them() -> None:
    assert len({route.name for route in (*ROUTES, *HTTP_ROUTES)}) == len(ROUTES) + len(HTTP_ROUTES)


@pytest.mark.parametrize("route", [*ROUTES, *HTTP_ROUTES], ids=lambda route: route.name)
def test_a_route_declares_exactly_the_parameters_of_its_path_and_only_known_refusals(route: Route) -> None:
    assert re.findall(r"\{(\w+)\}", route.template) == list(route.path_parameters.__struct_fields__)
    assert set(route.refusals) <= set(KINDS)
    assert route.misfit in KINDS
    assert route.path_parameters is NoParameters or "{" in route.path


def test_everything_that_tells_of_certificates_needs_a_token_but_the_log_which_is_public() -> None:
    open_to_all = {route.name for route in ROUTES if route.is_public and not route.path.startswith("/ct/")}
    assert open_to_all == {"get_roots", "get_openapi"}
    assert {route.name for route in ROUTES if route.proof} == {"revoke_certificate"}
    assert all(route.is_public for route in ROUTES if route.path.startswith("/ct/"))


def test_no_route_of_plain_http_takes_a_token_or_a_proof() -> None:
    assert all(route.is_public for route in HTTP_ROUTES)
