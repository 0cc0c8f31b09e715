"""Plain HTTP with a fake authority behind it: what certificates point to, and nothing else."""

import base64
import hashlib
import http.client
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from services.api.connections import MAX_LINE_BYTES
from services.api.routes_status import MAX_OCSP_BODY
from services.errors import DeadlineExceeded, Internal, ProbeFailed, Refused, Unavailable
from tests.integration.running_api import Answer, RunningApi
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

OCSP_REQUEST = {"Content-Type": "application/ocsp-request"}


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    """Shared by the tests of this file that leave nothing behind."""
    directory = short_directory()
    limits: dict[str, Any] = {"public_rate": 100_000.0, "unauthorized_rate": 10_000.0, "unauthorized_burst": 10_000}
    with RunningApi(directory, body_timeout=0.4, **limits) as running:
        yield running
    remove_directory(directory)


@pytest.fixture(scope="module")
def leaf(api: RunningApi) -> x509.Certificate:
    answer = api.ask("POST", "/v1/certificates", {"csr": signing_request("a.test", key=new_key())})
    return x509.load_pem_x509_certificate(answer.json()["certificate"].encode())


def crl_path(api: RunningApi, partition: int = 0) -> str:
    return f"/crl/{api.authority.issuer_id}/{partition}.crl"


def question(api: RunningApi, leaf: x509.Certificate) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, api.authority.issuer, hashes.SHA256())
    return builder.build().public_bytes(serialization.Encoding.DER)


# -- revocation lists and issuers


def test_a_revocation_list_is_der_that_the_issuer_signed_and_may_be_kept_until_the_next(api: RunningApi) -> None:
    answer = api.ask_plain("GET", crl_path(api))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pkix-crl")
    crl = x509.load_der_x509_crl(answer.body)
    assert crl.is_signature_valid(api.authority.issuer_key.public_key())
    assert parsedate_to_datetime(answer.headers["expires"]) == crl.next_update_utc
    assert parsedate_to_datetime(answer.headers["last-modified"]) == crl.last_update_utc
    control = answer.headers["cache-control"].split(", ")
    assert control[0] == "public"
    assert control[2:] == ["no-transform", "must-revalidate"]
    left = parsedate_to_datetime(answer.headers["expires"]).timestamp() - time.time()
    assert left - 5 < int(control[1].removeprefix("max-age=")) <= left + 1


def test_a_client_that_has_the_newest_list_is_told_so_and_one_with_an_older_gets_it(api: RunningApi) -> None:
    first = api.ask_plain("GET", crl_path(api))
    known = {"If-None-Match": first.headers["etag"]}
    again = api.ask_plain("GET", crl_path(api), headers=known)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert "max-age=" in again.headers["cache-control"]
    api.authority.crl_number += 1
    newer = api.ask_plain("GET", crl_path(api), headers=known)
    assert newer.status == 200
    assert newer.headers["etag"] != first.headers["etag"]


def test_a_connection_goes_on_after_304(api: RunningApi) -> None:
    connection = plain(api)
    tag = api.ask_plain("GET", crl_path(api)).headers["etag"]
    statuses = []
    for headers in ({"If-None-Match": tag}, {}, {"If-None-Match": tag}):
        connection.request("GET", crl_path(api), headers=headers)
        response = connection.getresponse()
        statuses.append((response.status, bool(response.read())))
    connection.close()
    assert statuses == [(304, False), (200, True), (304, False)]


def test_a_long_list_comes_whole_from_its_parts(api: RunningApi) -> None:
    api.authority.revoked = list(range(1, 500))
    api.authority.crl_part = 1000
    try:
        answer = api.ask_plain("GET", crl_path(api))
        assert answer.body == api.authority.crl()
        assert len(x509.load_der_x509_crl(answer.body)) == 499
    finally:
        api.authority.revoked = []
        api.authority.crl_part = 524_288


def test_the_certificate_of_an_issuer_is_der(api: RunningApi) -> None:
    answer = api.ask_plain("GET", f"/issuer/{api.authority.issuer_id}.cer")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pkix-cert")
    assert x509.load_der_x509_certificate(answer.body) == api.authority.issuer
    assert "immutable" in answer.headers["cache-control"]


# -- OCSP


def test_ocsp_is_answered_to_a_body(api: RunningApi, leaf: x509.Certificate) -> None:
    answer = api.ask_plain("POST", "/ocsp", question(api, leaf), OCSP_REQUEST)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/ocsp-response")
    assert answer.headers["cache-control"] == "no-store"
    response = ocsp.load_der_ocsp_response(answer.body)
    assert (response.serial_number, response.certificate_status) == (leaf.serial_number, ocsp.OCSPCertStatus.GOOD)


@pytest.mark.parametrize("unquoted", ["", "/", "/+="])
def test_ocsp_is_answered_to_a_path_however_it_is_encoded(
    api: RunningApi, leaf: x509.Certificate, unquoted: str
) -> None:
    path = "/ocsp/" + quote(base64.b64encode(question(api, leaf)), safe=unquoted)
    answer = api.ask_plain("GET", path)
    response = ocsp.load_der_ocsp_response(answer.body)
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert parsedate_to_datetime(answer.headers["expires"]) == response.next_update_utc
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.body).hexdigest()}"'
    assert answer.headers["cache-control"].endswith("no-transform, must-revalidate")


def test_a_revoked_certificate_is_told_on_every_way(api: RunningApi, leaf: x509.Certificate) -> None:
    api.authority.revoked = [leaf.serial_number]
    try:
        crl = x509.load_der_x509_crl(api.ask_plain("GET", crl_path(api)).body)
        assert crl.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
        for answer in (
            api.ask_plain("POST", "/ocsp", question(api, leaf), OCSP_REQUEST),
            api.ask_plain("GET", "/ocsp/" + quote(base64.b64encode(question(api, leaf)), safe="")),
        ):
            status = ocsp.load_der_ocsp_response(answer.body).certificate_status
            assert status is ocsp.OCSPCertStatus.REVOKED
    finally:
        api.authority.revoked = []


@pytest.mark.parametrize("request_octets", [b"", b"no request", b"\x30\x80"])
def test_what_is_no_ocsp_request_gets_an_ocsp_error_that_nobody_keeps(api: RunningApi, request_octets: bytes) -> None:
    answers = [api.ask_plain("POST", "/ocsp", request_octets, OCSP_REQUEST)]
    if request_octets:
        answers.append(api.ask_plain("GET", "/ocsp/" + quote(base64.b64encode(request_octets), safe="")))
    for answer in answers:
        assert answer.status == 200
        response = ocsp.load_der_ocsp_response(answer.body)
        assert response.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        assert answer.headers["cache-control"] == "no-store"


# -- what is refused

REFUSALS: dict[str, tuple[int, str, tuple[Any, ...]]] = {
    "the root": (404, "not-found", ("GET", "/")),
    "the API": (404, "not-found", ("GET", "/v1/ca/roots")),
    "issuing": (404, "not-found", ("POST", "/v1/certificates", b"{}", {"Content-Type": "application/json"})),
    "the log": (404, "not-found", ("GET", "/ct/v1/get-sth")),
    "another issuer's list": (404, "not-found", ("GET", "/crl/0a/0.crl")),
    "a list that cannot be": (404, "not-found", ("GET", "/crl/XYZ/0.crl")),
    "a partition that cannot be": (404, "not-found", ("GET", "/crl/0a/256.crl")),
    "a partition written otherwise": (404, "not-found", ("GET", "/crl/0a/00.crl")),
    "a path that climbs": (404, "not-found", ("GET", "/crl/../../etc/passwd")),
    "another issuer": (404, "not-found", ("GET", "/issuer/0a.cer")),
    "a list that is posted": (405, "method-not-allowed", ("POST", "/crl/0a/0.crl", b"")),
    "a body that is put": (405, "method-not-allowed", ("PUT", "/ocsp", b"", OCSP_REQUEST)),
    "a request that is got": (405, "method-not-allowed", ("GET", "/ocsp")),
    "another media type": (415, "wrong-media-type", ("POST", "/ocsp", b"x", {"Content-Type": "application/json"})),
    "a large request": (413, "body-too-large", ("POST", "/ocsp", bytes(MAX_OCSP_BODY + 1), OCSP_REQUEST)),
    "a path without base64": (400, "malformed", ("GET", "/ocsp/***")),
    "a path with other base64": (400, "malformed", ("GET", "/ocsp/AA-_")),
    "a parameter": (404, "not-found", ("GET", "/crl/0a/0.crl?x=1")),
    "a form that cannot be given": (406, "not-acceptable", ("GET", "/crl/0a/0.crl", None, {"Accept": "text/html"})),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
def test_everything_else_is_refused_with_a_problem_and_a_count(api: RunningApi, case: Any) -> None:
    status, kind, request = case
    counted = api.count("trustchain_api_rejections_total", reason=kind)
    answer: Answer = api.ask_plain(*request)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:trustchain:problem:{kind}"
    assert api.count("trustchain_api_rejections_total", reason=kind) == counted + 1


@pytest.mark.parametrize("token", ["administrator", "wrong"])
def test_a_token_means_nothing_here(api: RunningApi, token: str) -> None:
    sent = {"Authorization": f"Bearer {api.token if token == 'administrator' else 'x' * 43}"}
    assert api.ask_plain("GET", "/v1/certificates", headers=sent).status == 404
    assert api.ask_plain("GET", crl_path(api), headers=sent).status == 200


def test_the_answers_have_the_headers_of_a_careful_server(api: RunningApi) -> None:
    for path in (crl_path(api), "/nothing"):
        headers = api.ask_plain("GET", path).headers
        assert headers["server"] == "TrustChain"
        assert headers["x-content-type-options"] == "nosniff"
        assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Unavailable("the disk is full"), 503), (Internal("ZeroDivisionError"), 502), (DeadlineExceeded("5 s"), 504)],
)
def test_what_the_authority_cannot_do_is_not_the_clients_fault(api: RunningApi, fault: Exception, status: int) -> None:
    api.authority.fault = fault
    try:
        answer = api.ask_plain("GET", crl_path(api))
    finally:
        api.authority.fault = None
    assert answer.status == status
    assert answer.headers["cache-control"] == "no-store"


def test_requests_are_counted_by_the_name_of_their_route(api: RunningApi) -> None:
    name = "trustchain_api_requests_total"
    before = [api.count(name, route="get_crl", result=result) for result in ("ok", "rejected")]
    api.ask_plain("GET", crl_path(api))
    api.ask_plain("GET", crl_path(api, partition=1))
    after = [api.count(name, route="get_crl", result=result) for result in ("ok", "rejected")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


# -- connections


def plain(api: RunningApi) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", api.plain_port, timeout=20)


def test_one_connection_carries_many_requests_also_after_refusals(api: RunningApi, leaf: x509.Certificate) -> None:
    connection = plain(api)
    statuses = []
    for method, path, body in (
        ("GET", crl_path(api), None),
        ("GET", "/nothing", None),
        ("POST", "/ocsp", question(api, leaf)),
        ("HEAD", crl_path(api), None),
        ("POST", "/ocsp", b"rubbish"),
        ("GET", crl_path(api), None),
    ):
        connection.request(method, path, body, OCSP_REQUEST if body else {})
        response = connection.getresponse()
        statuses.append(response.status)
        response.read()
    connection.close()
    assert statuses == [200, 404, 200, 200, 200, 200]


def test_a_client_of_http_1_0_gets_its_answer_and_the_connection_ends(api: RunningApi) -> None:
    """Many programs that fetch revocation lists are old."""
    received = api.raw(f"GET {crl_path(api)} HTTP/1.0\r\n\r\n".encode(), plain=True)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert body == api.authority.crl()


def test_an_absolute_target_is_the_path_in_it(api: RunningApi) -> None:
    """As proxies send it (RFC 9112, section 3.2.2)."""
    target = f"http://pki.example:8080{crl_path(api)}"
    received = api.raw(f"GET {target} HTTP/1.1\r\nHost: pki.example\r\nConnection: close\r\n\r\n".encode(), plain=True)
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),  # a TLS handshake
        b"\x00\x01\x02\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /ocsp/" + b"A" * (MAX_LINE_BYTES + 1) + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /ocsp HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:20]),
)
def test_what_is_not_http_gets_400_and_the_connection_closes(api: RunningApi, sent: bytes) -> None:
    received = api.raw(sent, plain=True)
    assert b" 400 " in received.split(b"\r\n")[0]
    assert b"urn:trustchain:problem:bad-request" in received


HEAD = b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Type: application/ocsp-request\r\n"


def test_a_half_sent_body_gets_408_and_the_connection_closes(api: RunningApi) -> None:
    started = time.monotonic()
    received = api.raw(HEAD + b"Content-Length: 100\r\n\r\n\x30", plain=True)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in received
    assert 0.4 <= time.monotonic() - started < 5.0


def test_a_body_without_end_is_cut_at_the_limit(api: RunningApi) -> None:
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    received = api.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 10, plain=True)
    assert received.startswith(b"HTTP/1.1 413 ")


# -- the probe


def probe(api: RunningApi) -> None:
    assert api.service is not None
    api.run(api.service.probe())


def failure(api: RunningApi) -> ProbeFailed:
    with pytest.raises(ProbeFailed) as caught:
        probe(api)
    return caught.value


def test_the_probe_fetches_the_issuer_of_the_apis_own_certificate_and_is_no_traffic(api: RunningApi) -> None:
    asked = len(api.authority.requests)
    counted = api.count("trustchain_api_requests_total", route="get_issuer", result="ok")
    probe(api)
    probe(api)
    names = [type(request).__name__ for request in api.authority.requests[asked:]]
    assert sorted(names) == ["GetIssuerCertificate"] * 2 + ["GetRoots"] * 2
    assert api.count("trustchain_api_requests_total", route="get_issuer", result="ok") == counted


@pytest.mark.parametrize("fault", [Unavailable("full"), ZeroDivisionError(), Refused("not-found", "issuer", "none")])
def test_the_probe_blames_the_authority_for_what_it_does_not_publish(
    api: RunningApi, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_for_plain(call: Any) -> None:
        if call.method == "issuer_certificate":
            raise fault

    monkeypatch.setattr(api.authority, "fault", fail_for_plain)
    assert failure(api).cause == "dependency"


def test_the_probe_notices_an_issuer_that_is_another(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.authority, "issuer", api.authority.root)
    told = failure(api)
    assert (told.cause, api.authority.issuer_id in told.text) == ("dependency", True)


def test_the_probe_blames_itself_when_plain_http_is_not_answered(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.service is not None
    plain_probe = api.service._probe._both[1]
    monkeypatch.setattr(plain_probe, "_addresses", iter([("127.0.0.1", 1)]))
    assert failure(api).cause == "own"


def test_others_cannot_use_up_what_the_probe_needs() -> None:
    directory = short_directory()
    with RunningApi(directory, public_rate=0.01, public_burst=1) as api:
        statuses = {api.ask_plain("GET", crl_path(api)).status for _ in range(5)}
        assert statuses == {200, 429}
        for _ in range(4):
            probe(api)
    remove_directory(directory)
