"""What each route of plain HTTP asks the authority, and what it says to caches (RFC 5019, RFC 5280, RFC 6960)."""

import asyncio
import base64
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import Struct

from services.api.endpoints import Call, Reply
from services.api.endpoints_status import StatusEndpoints, request_of_path
from services.api.parsing import convert_parameters
from services.api.problems import Problem
from services.api.routes_status import CRL, HTTP_ROUTES, MAX_OCSP_BODY, CrlPath, IssuerPath, OcspPath
from services.api.routing import NoParameters
from services.ca.status.messages import (
    CrlDocument,
    GetCrl,
    GetIssuerCertificate,
    IssuerCertificate,
    OcspAnswer,
    OcspQuery,
)

NOW = 1_000_000
LIST = CrlDocument(der=b"crl", size=3, number=17, this_update=NOW - 100, next_update=NOW + 3500)
ANSWER = OcspAnswer(der=b"ocsp", this_update=NOW - 100, next_update=NOW + 3500, produced_at=NOW)
ERROR = OcspAnswer(der=b"\x30\x03\x0a\x01\x01", this_update=0, next_update=0, produced_at=0)
REQUEST = b"\x30\x00\xff\xfe\xfb" * 20
KEPT = "public, max-age=3500, no-transform, must-revalidate"


class Authority:
    """Answers everything with `reply` and remembers what it was asked."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.asked: list[tuple[Any, ...]] = []

    async def ask(self, *question: Any) -> Any:
        self.asked.append(question)
        return self.reply

    async def ask_whole(
        self, method: str, request_at: Callable[[int], Struct], reply_type: type, *how: Any
    ) -> tuple[Any, bytes]:
        self.asked.append((method, request_at(0), reply_type, *how[:2]))
        return self.reply, self.reply.der + b", all of it"


def answer(route: str, reply: Any, **call: Any) -> tuple[Reply, list[tuple[Any, ...]]]:
    authority = Authority(reply)
    endpoints = StatusEndpoints(authority, lambda: NOW)  # type: ignore[arg-type]  # the methods that endpoints use
    defaults: dict[str, Any] = {
        "path": NoParameters(),
        "query": NoParameters(),
        "body": None,
        "media_type": CRL,
        "requester": "anyone at 192.0.2.1",
        "seconds": 7.5,
        "trace": "00-trace",
        "hold": lambda _: None,
    }

    async def answered() -> Reply:
        return await endpoints.by_route[route](Call(**(defaults | call)))

    return asyncio.run(answered()), authority.asked


def test_every_route_has_an_endpoint_and_every_endpoint_a_route() -> None:
    endpoints = StatusEndpoints(Authority(None))  # type: ignore[arg-type]  # as above
    assert set(endpoints.by_route) == {route.name for route in HTTP_ROUTES}


CRL_PATH = CrlPath(issuer="0a1b", partition=3)


def test_a_revocation_list_is_whole_named_by_its_number_and_kept_until_the_next() -> None:
    reply, asked = answer("get_crl", LIST, path=CRL_PATH)
    assert asked == [("crl", GetCrl(issuer="0a1b", partition=3), CrlDocument, 7.5, "00-trace")]
    assert (reply.content, reply.status) == (b"crl, all of it", None)
    assert reply.headers == {
        "ETag": '"0a1b-3-17"',
        "Cache-Control": KEPT,
        "Last-Modified": "Mon, 12 Jan 1970 13:45:00 GMT",
        "Expires": "Mon, 12 Jan 1970 14:45:00 GMT",
    }


def test_who_has_the_newest_list_gets_304_with_the_time_it_now_holds() -> None:
    reply, asked = answer("get_crl", LIST, path=CRL_PATH, if_none_match='W/"x", "0a1b-3-17"')
    assert (reply.status, reply.content, reply.headers["Cache-Control"]) == (304, b"", KEPT)
    assert len(asked) == 1, "the first part tells the number"


@pytest.mark.parametrize("tag", ['"0a1b-3-16"', '"0a1b-4-17"', '"0a-3-17"', "0a1b-3-17"])
def test_who_has_another_list_gets_the_new_one(tag: str) -> None:
    reply, _ = answer("get_crl", LIST, path=CRL_PATH, if_none_match=tag)
    assert (reply.status, reply.content) == (None, b"crl, all of it")


def test_a_list_that_is_past_its_time_is_given_and_not_kept() -> None:
    """The client decides what an old list is worth to it; it is the newest there is."""
    stale = CrlDocument(der=b"crl", size=3, number=17, this_update=NOW - 100, next_update=NOW)
    reply, _ = answer("get_crl", stale, path=CRL_PATH)
    assert reply.headers == {"ETag": '"0a1b-3-17"'}


@pytest.mark.parametrize(
    "values",
    [
        {"issuer": "0A", "partition": "0"},
        {"issuer": "", "partition": "0"},
        {"issuer": "0a", "partition": "256"},
        {"issuer": "0a", "partition": "-1"},
        {"issuer": "0a", "partition": "00"},
        {"issuer": "0a", "partition": "0.0"},
        {"issuer": "0a", "partition": "1e1"},
        {"issuer": "..", "partition": "0"},
        {"issuer": "0" * 41, "partition": "0"},
    ],
)
def test_a_list_that_cannot_be_is_not_found(values: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        convert_parameters(values, CrlPath, "not-found")
    assert caught.value.status == 404


def test_an_issuer_is_given_as_the_certificate_it_is() -> None:
    reply, asked = answer("get_issuer", IssuerCertificate(der=b"der"), path=IssuerPath(issuer="0a1b"))
    assert asked == [
        ("issuer_certificate", GetIssuerCertificate(issuer="0a1b"), IssuerCertificate, 7.5, "00-trace"),
    ]
    assert (reply.content, reply.headers) == (b"der", {"Cache-Control": "public, max-age=86400, immutable"})


def test_an_ocsp_request_in_a_body_goes_to_the_authority_as_it_is_and_its_answer_is_not_kept() -> None:
    reply, asked = answer("post_ocsp", ANSWER, body=REQUEST)
    assert asked == [("ocsp", OcspQuery(request=REQUEST), OcspAnswer, 7.5, "00-trace")]
    assert (reply.content, reply.headers) == (b"ocsp", {})


def test_an_ocsp_request_in_a_path_has_an_answer_that_may_be_kept() -> None:
    path = OcspPath(request=quote(base64.b64encode(REQUEST)))
    reply, asked = answer("get_ocsp", ANSWER, path=path)
    assert asked[0][1] == OcspQuery(request=REQUEST)
    tag = sha256(b"ocsp").hexdigest()
    assert (reply.headers["ETag"], reply.headers["Cache-Control"]) == (f'"{tag}"', KEPT)
    again, _ = answer("get_ocsp", ANSWER, path=path, if_none_match=f'"{tag}"')
    assert (again.status, again.content) == (304, b"")


@pytest.mark.parametrize("route", ["get_ocsp", "post_ocsp"])
def test_an_ocsp_error_is_an_answer_that_nobody_keeps(route: str) -> None:
    path = OcspPath(request=base64.b64encode(REQUEST).decode())
    reply, _ = answer(route, ERROR, path=path, body=REQUEST)
    assert (reply.content, reply.status, reply.headers) == (ERROR.der, None, {})


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text,
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="/+="),
        lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    ],
)
def test_base64_in_a_path_may_be_url_encoded_as_much_as_a_client_likes(encode: Callable[[str], str]) -> None:
    """RFC 6960, appendix A.1. The text has `/`, `//` and `+`."""
    request = base64.b64decode("MA//+/+a/w==")
    assert request_of_path(encode("MA//+/+a/w==")) == request


@pytest.mark.parametrize(
    "text",
    ["", "%", "%zz", "MA", "M", "MA=", "MA==x", "MA-_", "M A=", "MA==%0a", "MA==\n", "\ud800", "ü", "%ff", "===="],
    ids=repr,
)
def test_a_path_that_holds_no_base64_is_malformed(text: str) -> None:
    with pytest.raises(Problem) as caught:
        request_of_path(text)
    assert (caught.value.status, caught.value.field) == (400, "request")


def test_a_request_in_a_path_is_no_longer_than_one_in_a_body() -> None:
    longest = b"x" * MAX_OCSP_BODY
    assert request_of_path(base64.b64encode(longest).decode()) == longest
    with pytest.raises(Problem, match="8193 octets"):
        request_of_path(base64.b64encode(longest + b"x").decode())
