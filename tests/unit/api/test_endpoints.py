"""What each route asks the certificate authority, and what it makes of the reply."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import UNSET, Struct

from services.api.endpoints import Call, Endpoints, Reply, pem_text
from services.api.endpoints_ct import CtEndpoints
from services.api.parsing import JSON
from services.api.problems import Problem
from services.api.routes import (
    PEM_CHAIN,
    ROUTES,
    CertificateQuery,
    CertificateRequest,
    ExpiryQuery,
    InventoryQuery,
    OwnersProof,
    RevocationRequest,
    SerialPath,
)
from services.api.routing import NoParameters
from services.ca.inventory.messages import ExpiryReport, GetExpiry, GetInventory, InventorySummary
from services.ca.messages import (
    OWN_API,
    Certificate,
    CertificatePage,
    GetCertificate,
    GetRoots,
    IssueRequest,
    ListCertificates,
    Roots,
)
from services.ca.status.messages import RevocationProof, Revoke, Revoked

CERTIFICATE = Certificate(
    serial="0a1b",
    certificate="LEAF\n",
    chain=["ISSUER"],
    not_before=1,
    not_after=2,
    profile="tls-server",
    subject="CN=a.test",
    names=["a.test"],
    issued_at=1,
    status="valid",
)


class Authority:
    """Answers everything with `reply` and remembers what it was asked."""

    def __init__(self, reply: Struct) -> None:
        self.reply = reply
        self.asked: tuple[Any, ...] = ()

    async def ask(self, *question: Any) -> Any:
        self.asked = question
        return self.reply


def answer(route: str, reply: Struct, **call: Any) -> tuple[Reply, tuple[Any, ...]]:
    authority = Authority(reply)
    endpoints = Endpoints(authority, lambda: b"{}")  # type: ignore[arg-type]  # the two methods of it that endpoints use
    defaults: dict[str, Any] = {
        "path": NoParameters(),
        "query": NoParameters(),
        "body": None,
        "media_type": JSON,
        "requester": "administrator at 192.0.2.1",
        "seconds": 7.5,
        "trace": "00-trace",
        "hold": lambda _: None,
    }

    async def answered() -> Reply:
        return await endpoints.by_route[route](Call(**(defaults | call)))

    return asyncio.run(answered()), authority.asked


def test_every_route_has_an_endpoint_and_every_endpoint_a_route() -> None:
    endpoints = Endpoints(Authority(CERTIFICATE), lambda: b"{}")  # type: ignore[arg-type]  # as above
    log = CtEndpoints(Authority(CERTIFICATE))  # type: ignore[arg-type]  # as above
    assert {*endpoints.by_route, *log.by_route} == {route.name for route in ROUTES}
    assert not set(endpoints.by_route) & set(log.by_route)


def test_issuance_passes_the_request_on_and_tells_where_the_certificate_is() -> None:
    body = CertificateRequest(csr="PEM ü", profile="tls-client", validity_seconds=60)
    reply, asked = answer("issue_certificate", CERTIFICATE, body=body)
    request = IssueRequest(
        csr="PEM ü".encode(), profile="tls-client", validity_seconds=60, requester="administrator at 192.0.2.1"
    )
    assert asked == ("issue", request, Certificate, 7.5, "00-trace")
    assert json.loads(reply.content)["serial"] == "0a1b"
    assert reply.headers == {"Location": "/v1/certificates/0a1b"}


def test_no_client_is_taken_for_the_api_itself() -> None:
    _, asked = answer("issue_certificate", CERTIFICATE, body=CertificateRequest(csr="PEM"))
    assert asked[1].requester != OWN_API


def test_a_list_passes_on_what_was_given_and_only_that() -> None:
    page = CertificatePage(certificates=[CERTIFICATE], next_cursor="c2")
    reply, asked = answer("list_certificates", page, query=CertificateQuery(limit=5, name="a.test", status="valid"))
    assert asked[1] == ListCertificates(limit=5, name="a.test", status="valid")
    assert json.loads(reply.content)["next_cursor"] == "c2"
    _, asked = answer("list_certificates", page, query=CertificateQuery(cursor=UNSET))
    assert asked[1] == ListCertificates()


def test_a_list_passes_on_every_filter() -> None:
    filters: dict[str, Any] = {
        "cursor": "c1",
        "limit": 5,
        "name": "a.test",
        "search": "test",
        "requester": "bob",
        "issuer": "0a",
        "profile": "tls-client",
        "status": "revoked",
        "expires_after": 1,
        "expires_before": 2,
        "issued_after": 3,
        "issued_before": 4,
    }
    page = CertificatePage(certificates=[], next_cursor=None)
    _, asked = answer("list_certificates", page, query=CertificateQuery(**filters))
    assert asked[1] == ListCertificates(**filters)
    assert set(filters) == set(CertificateQuery.__struct_fields__) == set(ListCertificates.__struct_fields__)


def test_the_inventory_and_what_ends_are_asked_for_as_the_client_wants_them() -> None:
    report = ExpiryReport(items=[], leaves=[], more=True)
    reply, asked = answer("get_expiry", report, query=ExpiryQuery(within=60, limit=7))
    assert asked == ("expiry", GetExpiry(within=60, limit=7), ExpiryReport, 7.5, "00-trace")
    assert json.loads(reply.content) == {"items": [], "leaves": [], "more": True}
    _, asked = answer("get_inventory", report, query=InventoryQuery(top=3))
    assert asked == ("inventory", GetInventory(top=3), InventorySummary, 7.5, "00-trace")


def test_a_certificate_is_given_as_json_or_as_its_chain() -> None:
    path = SerialPath(serial="0a1b")
    reply, asked = answer("get_certificate", CERTIFICATE, path=path)
    assert asked[1] == GetCertificate(serial="0a1b")
    assert json.loads(reply.content)["chain"] == ["ISSUER"]
    reply, _ = answer("get_certificate", CERTIFICATE, path=path, media_type=PEM_CHAIN)
    assert reply.content == b"LEAF\nISSUER\n"


def test_roots_are_given_as_json_or_pem() -> None:
    roots = Roots(certificates=["ROOT"])
    reply, asked = answer("get_roots", roots)
    assert (asked[0], asked[1]) == ("roots", GetRoots())
    assert json.loads(reply.content) == {"certificates": ["ROOT"]}
    reply, _ = answer("get_roots", roots, media_type=PEM_CHAIN)
    assert reply.content == b"ROOT\n"


def test_every_certificate_in_a_pem_text_ends_its_line() -> None:
    assert pem_text("A", "B\n", "C") == b"A\nB\nC\n"


REVOKED = Revoked(serial="0a1b", revoked_at=5, reason="keyCompromise", crl_number=6)


def test_an_administrator_revokes_with_a_reason() -> None:
    reply, asked = answer(
        "revoke_certificate",
        REVOKED,
        path=SerialPath(serial="0a1b"),
        body=RevocationRequest(reason="keyCompromise"),
        administrator=True,
    )
    wanted = Revoke(serial="0a1b", reason="keyCompromise", requester="administrator at 192.0.2.1")
    assert asked == ("revoke", wanted, Revoked, 7.5, "00-trace")
    assert json.loads(reply.content) == {
        "serial": "0a1b",
        "revoked_at": 5,
        "reason": "keyCompromise",
        "crl_number": 6,
    }


def test_a_proof_goes_to_the_authority_whoever_sends_it() -> None:
    body = RevocationRequest(proof=OwnersProof(signed_at=7, signature=b"signed"))
    for administrator in (False, True):
        _, asked = answer(
            "revoke_certificate",
            REVOKED,
            path=SerialPath(serial="0a1b"),
            body=body,
            administrator=administrator,
        )
        assert asked[1].proof == RevocationProof(signed_at=7, signature=b"signed")


def test_without_token_and_proof_nobody_is_asked() -> None:
    with pytest.raises(Problem) as caught:
        answer("revoke_certificate", REVOKED, path=SerialPath(serial="0a1b"), body=RevocationRequest())
    assert (caught.value.kind, caught.value.status) == ("unauthorized", 401)
