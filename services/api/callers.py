"""How each interface finds out who asks.

Rules:
- Over HTTPS a bearer token tells. Over plain HTTP nothing does that is on the wire: a token there is not looked at.
- The probe of plain HTTP is known by the two ends of its connection, which nobody else can have at that time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from services.api.admission import PROBE, Caller
from services.api.parsing import bearer_token
from services.api.tokens import TokenHolders

Identify = Callable[[web.BaseRequest], Caller]
"""Finds out who asks."""

Place = tuple[str, int]
"""Address and port of one end of a connection."""


def by_token(holders: TokenHolders) -> Identify:
    """Callers are who their tokens say."""

    def identify(request: web.BaseRequest) -> Caller:
        token = bearer_token(request.headers.get("Authorization", ""))
        holder = holders.holder_of(token) if token else None
        return Caller(request.remote or "unknown", holder, token is not None)

    return identify


class ProbePlaces:
    """From where the probe of plain HTTP asks at this moment."""

    def __init__(self) -> None:
        self._places: set[Place] = set()

    @contextmanager
    def occupied(self, place: Place) -> Iterator[None]:
        """While the block runs, requests from `place` are the probe's."""
        self._places.add(place)
        try:
            yield
        finally:
            self._places.discard(place)

    def identify(self, request: web.BaseRequest) -> Caller:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        is_probe = peer is not None and tuple(peer[:2]) in self._places
        return Caller(request.remote or "unknown", PROBE if is_probe else None)
