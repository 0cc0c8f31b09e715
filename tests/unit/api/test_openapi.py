"""The OpenAPI document says what the routes and types say."""

import json
from typing import Any

import msgspec
import pytest

from services.api.openapi import document
from services.api.routes import ROUTES, Route

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(document(ROUTES, "1.2.3")))


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_route_is_there_once_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_every_reference_resolves() -> None:
    for reference in references(DOCUMENT):
        value: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            value = value[step]
        assert value["type"] == "object"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_operation_tells_its_token_its_parameters_and_its_answers(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    needs: list[dict[str, list[str]]] = [{"token": []}] if route.token or route.proof else []
    assert operation["security"] == ([*needs, {}] if route.proof else needs)
    assert ("401" in operation["responses"]) == (route.token or route.proof)
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == [*route.path_parameters.__struct_fields__, *route.query_parameters.__struct_fields__]
    assert set(operation["responses"][str(route.status)]["content"]) == set(route.media_types)
    assert ("requestBody" in operation) == (route.body is not None)


def test_path_parameters_are_required_and_query_parameters_are_not() -> None:
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            assert all(p["required"] == (p["in"] == "path") for p in operation["parameters"])


def test_the_version_is_that_of_the_software() -> None:
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", "1.2.3")
