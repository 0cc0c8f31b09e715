"""The OpenAPI document says what the routes and types say."""

import json
from typing import Any

import msgspec
import pytest

from services.api.openapi import document
from services.api.routes import ROUTES
from services.api.routing import Route

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(document(ROUTES, "1.2.3")))


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_route_is_there_once_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(route.method, route.template) for route in ROUTES}


def test_every_reference_resolves() -> None:
    for reference in references(DOCUMENT):
        value: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            value = value[step]
        assert value["type"] == "object"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_operation_tells_its_token_its_parameters_and_its_answers(route: Route) -> None:
    operation = DOCUMENT["paths"][route.template][route.method.lower()]
    needs: list[dict[str, list[str]]] = [{"token": []}] if route.token or route.proof else []
    assert operation["security"] == ([*needs, {}] if route.proof else needs)
    assert ("401" in operation["responses"]) == (route.token or route.proof)
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == [*route.path_parameters.__struct_fields__, *route.query_parameters.__struct_fields__]
    assert set(operation["responses"][str(route.status)]["content"]) == set(route.media_types)
    assert ("requestBody" in operation) == (route.body is not None)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_path_parameters_are_required_and_query_parameters_if_they_have_no_default(route: Route) -> None:
    operation = DOCUMENT["paths"][route.template][route.method.lower()]
    required = {parameter["name"] for parameter in operation["parameters"] if parameter["required"]}
    by_type = {info.name for info in msgspec.structs.fields(route.query_parameters) if info.required}
    assert required == by_type | set(route.path_parameters.__struct_fields__)


def test_a_route_names_the_failure_of_the_service_that_it_asks_and_of_no_other() -> None:
    assert DOCUMENT["paths"]["/ct/v1/get-sth"]["get"]["responses"]["502"]["description"] == "log-failed"
    assert DOCUMENT["paths"]["/v1/ca/roots"]["get"]["responses"]["502"]["description"] == "authority-failed"


def test_the_version_is_that_of_the_software() -> None:
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", "1.2.3")
