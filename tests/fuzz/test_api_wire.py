"""Damaged HTTP over TLS and without: every connection is answered with less than 500 or closed, the server is well."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.errors import ProbeFailed
from tests.integration.running_api import RunningApi
from tests.rig.signing_request import signing_request
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

BODY = b'{"csr": "%b"}' % signing_request("a.test").replace("\n", "\\n").encode()
PIECES = (
    b"GET /v1/ca/roots HTTP/1.1\r\n",
    b"POST /v1/certificates HTTP/1.1\r\n",
    b"HEAD * HTTP/1.0\r\n",
    b"POST /ct/v1/add-chain HTTP/1.1\r\n",
    b"GET /ct/v1/get-entries?start=0&end=%d&start=%%zz HTTP/1.1\r\n" % 2**70,
    b"GET /ct/tile/data/x001/../%2e%2e/000.p/1 HTTP/1.1\r\n",
    b"GET /ocsp/MA%3D%3D//+/%zz HTTP/1.1\r\n",
    b"GET http://a/crl/0a/0.crl?%ff HTTP/1.1\r\n",
    b"POST /ocsp HTTP/1.1\r\n",
    b"Content-Type: application/ocsp-request\r\n",
    b'If-None-Match: W/"\xff", *, "\r\n',
    b"Accept-Encoding: gzip;q=, *;q=0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"OPTIONS https://a/v1/%zz?%ff=%00&limit=1 HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Host: localhost\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Length: %d\r\n" % len(BODY),
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Accept: */*;q=1.1, ,;\r\n",
    b"traceparent: 00-0-0-0\r\n",
    b"Connection: close\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    BODY,
)


LIMITS: dict[str, Any] = {
    "unauthorized_rate": 1e5,
    "unauthorized_burst": 100_000,
    "public_rate": 1e5,
    "public_burst": 100_000,
}


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    directory = short_directory()
    with RunningApi(directory, body_timeout=0.1, **LIMITS) as running:
        yield running
    remove_directory(directory)


@given(st.booleans(), st.lists(st.sampled_from((*PIECES, "token")) | st.binary(max_size=12), min_size=1, max_size=12))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_octets_on_a_connection(api: RunningApi, tls: bool, pieces: list[bytes | str]) -> None:
    token = f"Authorization: Bearer {api.token}\r\n".encode()
    received = b""
    with api.connect(timeout=0.05) if tls else api.connect_plain(timeout=0.05) as connection:
        connection.sendall(b"".join(token if isinstance(piece, str) else piece for piece in pieces))
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass  # the answer is incomplete because the request was
    statuses = [line.split(b" ", 2)[1] for line in received.split(b"\r\n") if line.startswith(b"HTTP/")]
    assert all(status < b"500" for status in statuses), received
    assert b"Traceback" not in received


def test_the_server_is_well_afterwards(api: RunningApi) -> None:
    assert api.service is not None
    try:
        api.run(api.service.probe())
    except ProbeFailed as failure:
        pytest.fail(failure.text)
    assert api.count("trustchain_api_rejections_total", reason="internal") == 0
