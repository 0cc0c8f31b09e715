"""How a request finds its route: what a route says, and the table that matches method and path.

Rules:
- Types say everything about a request: parameters and bodies are frozen structs that forbid unknown fields.
- HEAD is answered wherever GET is (RFC 9110, section 9.3.2) and is not listed.
- A path is compared as it came, octet by octet: nothing is decoded, and `.`, `..` and empty segments mean nothing.
- In a path, `{name}` is one segment or the middle of one, `{name...}` is all that is left, slashes included.
- Of two paths that fit, the one that says more wins: exact text before a parameter, a parameter before a rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from msgspec import Struct

from services.api.parsing import JSON
from services.api.problems import AUTHORITY, PeerName, Problem

_PARAMETER: Final = re.compile(r"\{(\w+)(\.\.\.)?\}")


class NoParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """A route without parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. `name` is also the label value of the request metrics and the OpenAPI operation id.

    `media_types` is what the reply can be given as, the default first. `refusals` are kinds of problems.KINDS that this
    route gives beside those that any route can. A route with `token` answers only to the bearer of a valid token; one
    with `proof` instead also to others, if the body proves their right: its endpoint looks at that.
    `body` is a struct for JSON, or bytes of the type `body_media_type`; it has at most `most_octets`, or what settings
    say if that is None. `misfit` is the kind of the refusal of a field or parameter with a wrong type or value. `peer`
    is the service that is asked.
    """

    name: str
    method: str
    path: str
    summary: str
    token: bool
    status: int
    reply: type | None
    body: type | None = None
    body_media_type: str = JSON
    most_octets: int | None = None
    path_parameters: type[Struct] = NoParameters
    query_parameters: type[Struct] = NoParameters
    media_types: tuple[str, ...] = (JSON,)
    misfit: str = "bad-field"
    refusals: tuple[str, ...] = ()
    proof: bool = False
    peer: PeerName = AUTHORITY

    @property
    def is_public(self) -> bool:
        """Whether everybody may ask, without proof of anything."""
        return not (self.token or self.proof)

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it, which has no word for a rest with slashes in it."""
        return self.path.replace("...}", "}")


class Match(NamedTuple):
    """The route of a request, and the values of its path parameters."""

    route: Route
    path_values: Mapping[str, str]


class RouteTable:
    """Finds the route of a request.

    Raises ValueError if two routes answer the same method of the same path, or two paths differ only in the names of
    their parameters.
    """

    def __init__(self, routes: Sequence[Route], hint: str = "") -> None:
        """`hint` is told to who asks for a path that is not there."""
        self._not_found = f"no such path; {hint}" if hint else "no such path"
        self._exact: dict[str, dict[str, Route]] = {}
        by_pattern: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = (by_pattern if "{" in route.path else self._exact).setdefault(route.path, {})
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                if method in methods:
                    raise ValueError(f"two routes answer {method} {route.path}")
                methods[method] = route
        if len({_PARAMETER.sub(r"{\2}", path) for path in by_pattern}) < len(by_pattern):
            raise ValueError(f"two paths differ only in the names of their parameters: {', '.join(by_pattern)}")
        self._patterns = [(_pattern(path), by_pattern[path]) for path in sorted(by_pattern, key=_vagueness)]

    def match(self, method: str, path: str) -> Match:
        """Find the route. Raises Problem `not-found` or `method-not-allowed` (with the methods that are)."""
        methods, values = self._find(path)
        route = methods.get(method)
        if route is None:
            allowed = tuple(sorted(methods))
            raise Problem("method-not-allowed", f"this path takes {', '.join(allowed)}", allow=allowed)
        return Match(route, values)

    def _find(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        if (methods := self._exact.get(path)) is not None:
            return methods, {}
        for pattern, methods in self._patterns:
            if (found := pattern.fullmatch(path)) is not None:
                return methods, found.groupdict()
        raise Problem("not-found", self._not_found)


def _pattern(path: str) -> re.Pattern[str]:
    expression, end = "", 0
    for parameter in _PARAMETER.finditer(path):
        expression += re.escape(path[end : parameter.start()])
        expression += f"(?P<{parameter[1]}>{'.+' if parameter[2] else '[^/]+'})"
        end = parameter.end()
    return re.compile(expression + re.escape(path[end:]), re.DOTALL)


def _vagueness(path: str) -> list[int]:
    """For each segment how much it leaves open, so that the paths that say more come first."""
    return [_openness(segment) for segment in path.split("/")]


def _openness(segment: str) -> int:
    if "{" not in segment:
        return 0
    if "...}" in segment:
        return 3
    return 2 if _PARAMETER.fullmatch(segment) else 1
