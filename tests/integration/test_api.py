"""The API over real TLS with a fake certificate authority: what clients get, and what is left behind by a refusal."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from services.api import server
from services.api.routes import PEM_CHAIN
from services.ca.messages import IssueRequest
from services.errors import Unavailable
from tests.integration.running_api import Answer, RunningApi
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

CSR = signing_request("a.test", "127.0.0.9", key=new_key())
LIMIT = 4096
CT_PATHS = (
    "/ct/v1/add-chain",
    "/ct/v1/add-pre-chain",
    "/ct/v1/get-sth",
    "/ct/v1/get-sth-consistency",
    "/ct/v1/get-proof-by-hash",
    "/ct/v1/get-entries",
    "/ct/v1/get-roots",
    "/ct/v1/get-entry-and-proof",
    "/ct/checkpoint",
    "/ct/tile/{level}/{tile}",
    "/ct/tile/data/{tile}",
    "/ct/issuer/{fingerprint}",
)


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    """Shared by the tests of this file that leave nothing behind."""
    directory = short_directory()
    with RunningApi(
        directory, max_body_bytes=LIMIT, body_timeout=0.4, unauthorized_rate=10_000.0, unauthorized_burst=10_000
    ) as running:
        yield running
    remove_directory(directory)


def issue(api: RunningApi, **body: Any) -> Answer:
    return api.ask("POST", "/v1/certificates", {"csr": CSR, **body})


def test_a_certificate_is_issued_and_can_be_fetched_where_the_location_says(api: RunningApi) -> None:
    answer = issue(api, profile="tls-server", validity_seconds=600)
    assert answer.status == 201
    issued = answer.json()
    assert answer.headers["location"] == f"/v1/certificates/{issued['serial']}"
    leaf = x509.load_pem_x509_certificate(issued["certificate"].encode())
    assert f"{leaf.serial_number:x}" == issued["serial"]
    assert api.ask("GET", answer.headers["location"]).json() == issued


def test_the_authority_is_told_who_asked_and_in_which_trace(api: RunningApi) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    answer = api.ask("POST", "/v1/certificates", {"csr": CSR}, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    assert answer.headers["x-request-id"] == trace_id
    request = api.authority.requests[-1]
    assert isinstance(request, IssueRequest)
    assert request.requester == "administrator at 127.0.0.1"
    assert api.authority.traces[-1].split("-")[1] == trace_id


def test_a_chain_is_given_as_pem_to_who_prefers_that(api: RunningApi) -> None:
    serial = issue(api).json()["serial"]
    answer = api.ask("GET", f"/v1/certificates/{serial}", headers={"Accept": f"{PEM_CHAIN}, application/json;q=0.5"})
    assert answer.headers["content-type"] == PEM_CHAIN
    leaf, issuer = x509.load_pem_x509_certificates(answer.body)
    leaf.verify_directly_issued_by(issuer)


def test_certificates_are_listed_by_name(api: RunningApi) -> None:
    issue(api)
    found = api.ask("GET", "/v1/certificates?name=a.test&limit=2").json()
    assert {name for c in found["certificates"] for name in c["names"]} == {"a.test", "127.0.0.9"}
    assert api.ask("GET", "/v1/certificates?name=b.test").json() == {"certificates": [], "next_cursor": None}


@pytest.mark.parametrize("path", ["/v1/ca/roots", "/v1/openapi.json"])
def test_what_everybody_may_know_needs_no_token(api: RunningApi, path: str) -> None:
    assert api.ask("GET", path, token=None).status == 200


def test_the_roots_are_those_of_the_authority_in_both_forms(api: RunningApi) -> None:
    assert api.ask("GET", "/v1/ca/roots", token=None).json() == {"certificates": [api.authority.root_pem]}
    answer = api.ask("GET", "/v1/ca/roots", headers={"Accept": PEM_CHAIN}, token=None)
    assert answer.body.decode() == api.authority.root_pem


def test_the_description_names_every_path(api: RunningApi) -> None:
    assert set(api.ask("GET", "/v1/openapi.json").json()["paths"]) == {
        "/v1/certificates",
        "/v1/inventory",
        "/v1/expiry",
        "/v1/certificates/{serial}",
        "/v1/certificates/{serial}/evidence",
        "/v1/certificates/{serial}/revoke",
        "/v1/findings",
        "/v1/findings/accept",
        "/v1/ca/roots",
        "/v1/openapi.json",
        *CT_PATHS,
    }


def test_head_is_get_without_the_body(api: RunningApi) -> None:
    got, headed = api.ask("GET", "/v1/ca/roots"), api.ask("HEAD", "/v1/ca/roots")
    assert (headed.status, headed.body) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize("path", ["/v1/ca/roots", "/v1/nothing"])
def test_every_answer_has_the_headers_of_a_careful_server(api: RunningApi, path: str) -> None:
    headers = api.ask("GET", path).headers
    assert headers["server"] == "TrustChain"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert len(headers["x-request-id"]) == 32


REFUSALS: dict[str, tuple[int, str, str | None, tuple[Any, ...], dict[str, Any]]] = {
    "no token": (401, "unauthorized", "Authorization", ("POST", "/v1/certificates", {"csr": CSR}), {"token": None}),
    "a wrong token": (401, "unauthorized", "Authorization", ("GET", "/v1/certificates"), {"token": "wrong" * 9}),
    "no such path": (404, "not-found", None, ("GET", "/v1/certificates/"), {}),
    "a path that climbs": (404, "not-found", None, ("GET", "/v1/../../etc/passwd"), {}),
    "a wrong method": (405, "method-not-allowed", None, ("PATCH", "/v1/certificates"), {}),
    "no JSON": (400, "bad-json", None, ("POST", "/v1/certificates", b'{"csr": }'), {}),
    "no body": (400, "bad-json", None, ("POST", "/v1/certificates", b""), {}),
    "no CSR": (422, "bad-field", "csr", ("POST", "/v1/certificates", {}), {}),
    "a wrong type": (422, "bad-field", "csr", ("POST", "/v1/certificates", {"csr": 1}), {}),
    "another media type": (
        415,
        "wrong-media-type",
        "Content-Type",
        ("POST", "/v1/certificates", b"x", {"Content-Type": "text/plain"}),
        {},
    ),
    "a compressed body": (
        415,
        "wrong-media-type",
        "Content-Encoding",
        ("POST", "/v1/certificates", b"x", {"Content-Encoding": "gzip"}),
        {},
    ),
    "a large body": (413, "body-too-large", None, ("POST", "/v1/certificates", b" " * (LIMIT + 1)), {}),
    "an unknown parameter": (422, "bad-field", "color", ("GET", "/v1/certificates?color=1"), {}),
    "a repeated parameter": (422, "bad-field", "limit", ("GET", "/v1/certificates?limit=1&limit=2"), {}),
    "a serial that is none": (422, "bad-field", "serial", ("GET", "/v1/certificates/%2e%2e"), {}),
    "a serial never issued": (404, "not-found", "serial", ("GET", "/v1/certificates/abc"), {}),
    "a form that cannot be given": (
        406,
        "not-acceptable",
        "Accept",
        ("GET", "/v1/ca/roots", None, {"Accept": "a/b"}),
        {},
    ),
    "an expectation": (
        417,
        "expectation-failed",
        "Expect",
        ("POST", "/v1/certificates", {"csr": CSR}, {"Expect": "wonders"}),
        {},
    ),
    "a malformed CSR": (400, "malformed", "csr", ("POST", "/v1/certificates", {"csr": "x"}), {}),
    "a forbidden name": (
        403,
        "forbidden-name",
        "csr",
        ("POST", "/v1/certificates", {"csr": signing_request("forbidden.test")}),
        {},
    ),
    "an unknown profile": (
        422,
        "unknown-profile",
        "profile",
        ("POST", "/v1/certificates", {"csr": CSR, "profile": "no-such-profile"}),
        {},
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_a_problem_document_a_counter_and_nothing_stored(api: RunningApi, case: Any) -> None:
    status, kind, field, request, how = case
    stored = set(api.authority.issued)
    counted = api.count("trustchain_api_rejections_total", reason=kind)
    answer = api.ask(*request, **how)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (document["type"], document["status"]) == (f"urn:trustchain:problem:{kind}", status)
    assert document.get("field") == field
    assert document["request_id"] == answer.headers["x-request-id"]
    assert api.count("trustchain_api_rejections_total", reason=kind) == counted + 1
    assert set(api.authority.issued) == stored


def test_401_and_405_say_what_would_be_right(api: RunningApi) -> None:
    assert api.ask("GET", "/v1/certificates", token=None).headers["www-authenticate"].startswith("Bearer")
    assert api.ask("DELETE", "/v1/ca/roots").headers["allow"] == "GET, HEAD"


def test_requests_are_counted_by_route_and_result(api: RunningApi) -> None:
    def counted() -> list[int]:
        route, name = "issue_certificate", "trustchain_api_requests_total"
        return [api.count(name, route=route, result=result) for result in ("ok", "rejected", "error")]

    before = counted()
    issue(api)
    issue(api, profile="no-such-profile")
    assert [after - then for after, then in zip(counted(), before, strict=True)] == [1, 1, 0]
    assert api.metrics.gauge("trustchain_api_requests_in_flight").value == 0


def test_one_connection_carries_many_requests_also_after_refusals(api: RunningApi) -> None:
    connection = api.client()
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    statuses = []
    for body in (b"{", b'{"csr": 1}', json.dumps({"csr": CSR}).encode(), b"", json.dumps({"csr": CSR}).encode()):
        connection.request("POST", "/v1/certificates", body, headers)
        response = connection.getresponse()
        statuses.append(response.status)
        response.read()
    connection.close()
    assert statuses == [400, 422, 201, 400, 201]


def test_pipelined_requests_are_answered_in_order(api: RunningApi) -> None:
    request = b"GET /v1/%b HTTP/1.1\r\nHost: a\r\nConnection: %b\r\n\r\n"
    received = api.raw(
        request % (b"ca/roots", b"keep-alive")
        + request % (b"nothing", b"keep-alive")
        + request % (b"ca/roots", b"close")
    )
    statuses = [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert len(statuses) <= 3
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.index(b"HTTP/1.1 404") > received.index(b"HTTP/1.1 200")


HEAD = "POST /v1/certificates HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n"


def test_a_half_sent_body_gets_408_after_the_timeout_and_the_connection_closes(api: RunningApi) -> None:
    started = time.monotonic()
    received = api.raw(HEAD.format(api.token).encode() + b'Content-Length: 100\r\n\r\n{"csr": ')
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in received
    assert 0.4 <= time.monotonic() - started < 5.0


def test_a_body_that_trickles_does_not_get_more_time(api: RunningApi) -> None:
    started = time.monotonic()
    with api.connect() as connection:
        connection.sendall(HEAD.format(api.token).encode() + b"Content-Length: 4000\r\n\r\n")
        connection.settimeout(0.05)
        received = b""
        while b"\r\n\r\n" not in received and time.monotonic() - started < 5.0:
            connection.sendall(b" ")
            try:
                received += connection.recv(4096)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 2.0


def test_a_body_without_end_is_cut_at_the_limit(api: RunningApi) -> None:
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    received = api.raw(HEAD.format(api.token).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 6)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_announced_too_large_is_not_asked_for(api: RunningApi) -> None:
    """RFC 9110, section 10.1.1: no `100 Continue` for a request that is refused anyway."""
    received = api.raw(
        HEAD.format(api.token).encode() + b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n", timeout=10
    )
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(api: RunningApi) -> None:
    body = json.dumps({"csr": CSR}).encode()
    with api.connect() as connection:
        connection.sendall(
            HEAD.format(api.token).encode()
            + f"Connection: close\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /v1/ca/roots\r\n\r\n",
        b"GET /v1/ca/roots HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:30]),
)
def test_what_is_not_http_gets_400_and_the_connection_closes(api: RunningApi, sent: bytes) -> None:
    received = api.raw(sent)
    assert received[5:14] in (b"1.1 400 B", b"1.0 400 B", b"0.9 400 B"), received[:200]
    assert b"urn:trustchain:problem:bad-request" in received
    assert b"Traceback" not in received


def test_plain_http_on_the_tls_port_is_a_failed_handshake_and_nothing_more(api: RunningApi) -> None:
    failed = api.count("trustchain_api_tls_handshake_failures_total", reason="tls")
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        while plain.recv(4096):
            pass
    assert api.count("trustchain_api_tls_handshake_failures_total", reason="tls") == failed + 1
    assert api.ask("GET", "/v1/ca/roots").status == 200


def test_tls_below_1_2_is_refused(api: RunningApi) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "trust.localhost", "api.trust.localhost"])
def test_the_certificate_names_every_place_that_is_served(api: RunningApi, name: str) -> None:
    with (
        socket.create_connection(("127.0.0.1", api.port), timeout=10) as plain,
        api.tls().wrap_socket(plain, server_hostname=name) as connection,
    ):
        assert connection.version() == "TLSv1.3"


def test_an_unavailable_authority_is_503_with_a_time_to_come_back_and_the_log_says_why(
    api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []
    log = SimpleNamespace(info=lambda _, **values: logged.append(values), debug=lambda *_, **__: None)
    monkeypatch.setattr(server, "_log", log)
    api.authority.fault = Unavailable(f"{tmp_path} is full")
    try:
        answer = issue(api)
    finally:
        api.authority.fault = None
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert str(tmp_path) not in answer.body.decode()
    assert [(line["status"], line["cause"]) for line in logged] == [(503, f"unavailable: {tmp_path} is full")]


def test_an_error_that_nobody_foresaw_tells_nothing_of_the_inside(api: RunningApi, tmp_path: Path) -> None:
    api.authority.fault = ZeroDivisionError(f"in {tmp_path}")
    try:
        answer = issue(api)
    finally:
        api.authority.fault = None
    assert answer.status == 502
    assert str(tmp_path) not in answer.body.decode()
    assert b"Zero" not in answer.body
