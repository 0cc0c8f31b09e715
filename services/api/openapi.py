"""The OpenAPI 3.1 document, generated from the route table and the message types.

Rules: nothing about a route is written here; what is not in the table or in a type is not in the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.api.parsing import JSON
from services.api.problems import KINDS, MEDIA_TYPE, ProblemDocument
from services.api.routing import Route

Schema = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{name}"
# What any route can answer, whatever it does.
_EVERYWHERE: Final = (
    "bad-request",
    "not-acceptable",
    "rate-limited",
    "internal",
    "unavailable",
    "deadline",
)


def document(routes: Sequence[Route], version: str) -> Schema:
    """Describe `routes` (OpenAPI Specification 3.1.1). `version` is the version of the software."""
    used = {kind for route in routes for kind in (route.reply, route.body) if kind}
    types = sorted(used, key=lambda kind: kind.__name__)
    references, schemas = msgspec.json.schema_components([*types, ProblemDocument], ref_template=_REFERENCE)
    by_type = dict(zip([*types, ProblemDocument], references, strict=True))
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "TrustChain", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, by_type: dict[type, Schema]) -> Schema:
    operation: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "security": [{"token": []}] if route.token else [{"token": []}, {}] if route.proof else [],
        "parameters": _parameters(route.path_parameters, "path") + _parameters(route.query_parameters, "query"),
        "responses": {str(route.status): _success(route, by_type)} | _refusals(route, by_type[ProblemDocument]),
    }
    if route.body is not None:
        content = {route.body_media_type: {"schema": by_type[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(kind: type[msgspec.Struct], place: str) -> list[Schema]:
    (reference,), components = msgspec.json.schema_components([kind])
    schema = components[kind.__name__] if "$ref" in reference else reference
    return [
        {"name": name, "in": place, "required": name in schema["required"], "schema": shape}
        for name, shape in schema["properties"].items()
    ]


def _success(route: Route, by_type: dict[type, Schema]) -> Schema:
    schema = by_type[route.reply] if route.reply else {"type": "object"}
    content = {name: {"schema": schema if name == JSON else {"type": "string"}} for name in route.media_types}
    response: Schema = {"description": route.summary, "content": content}
    if route.status == 201:
        response["headers"] = {"Location": {"schema": {"type": "string"}, "description": "Path of what was created"}}
    return response


def _refusals(route: Route, problem: Schema) -> Schema:
    """One response for each status; its description lists the kinds of problems that have it."""
    kinds = {*_EVERYWHERE, route.peer.failure, *route.refusals} | ({"unauthorized"} if route.token else set())
    statuses: dict[int, list[str]] = {}
    for kind in sorted(kinds):
        statuses.setdefault(KINDS[kind].status, []).append(kind)
    return {
        str(status): {"description": ", ".join(names), "content": {MEDIA_TYPE: {"schema": problem}}}
        for status, names in sorted(statuses.items())
    }
