"""What a client gets for a request that is wrong: a problem document naming the field, a counter, nothing stored."""

import base64
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import Response, Tree, running_tree

pytestmark = pytest.mark.integration

_CSR = signing_request("bad-input.example.test", key=new_key())


@pytest.fixture(scope="module")
def shared_tree() -> Iterator[Tree]:
    """One tree for all cases of this file: none of them may leave anything behind."""
    settings = {
        "api.body_timeout": 0.5,
        "ca.denied_names": '["forbidden.test"]',
        # The cases with a wrong token come fast after one another.
        "api.unauthorized_rate": 1000,
    }
    with running_tree(settings=settings) as tree:
        yield tree


@dataclass(frozen=True)
class Case:
    """A request and what it gets."""

    status: int
    kind: str
    field: str | None
    body: Mapping[str, object] | bytes | None = None
    method: str = "POST"
    path: str = "/v1/certificates"
    headers: Mapping[str, str] | None = None


def _tampered(csr: str) -> str:
    """`csr` with a signature that is well formed and wrong."""
    body = bytearray(base64.b64decode("".join(csr.splitlines()[1:-1])))
    body[-1] ^= 1
    return (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.b64encode(body).decode()}\n-----END CERTIFICATE REQUEST-----\n"
    )


_CASES = {
    "a CSR that is no PEM": Case(400, "malformed", "csr", {"csr": "this is no request"}),
    "a CSR with garbage inside": Case(
        400,
        "malformed",
        "csr",
        {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"},
    ),
    "a CSR signed by another key": Case(400, "bad-signature", "csr", {"csr": _tampered(_CSR)}),
    "a name that is denied": Case(403, "forbidden-name", "csr", {"csr": signing_request("www.forbidden.test")}),
    "a name that is no name": Case(403, "forbidden-name", "csr", {"csr": signing_request("not a name.test")}),
    "an unknown profile": Case(422, "unknown-profile", "profile", {"csr": _CSR, "profile": "no-such-profile"}),
    "a lifetime above the limit": Case(
        422, "bad-validity", "validity_seconds", {"csr": _CSR, "validity_seconds": 2_000_000_000}
    ),
    "a lifetime that is no number": Case(
        422, "bad-field", "validity_seconds", {"csr": _CSR, "validity_seconds": "long"}
    ),
    "an unknown member": Case(422, "bad-field", None, {"csr": _CSR, "colour": "red"}),
    "no CSR at all": Case(422, "bad-field", "csr", {}),
    "no JSON": Case(400, "bad-json", None, b"{"),
    "a body above the limit": Case(413, "body-too-large", None, b"{" + b" " * 70_000 + b"}"),
    "another media type": Case(415, "wrong-media-type", None, b"csr=1", headers={"Content-Type": "text/csv"}),
    "a wrong token": Case(401, "unauthorized", None, {"csr": _CSR}, headers={"Authorization": "Bearer wrong"}),
    "a wrong method": Case(405, "method-not-allowed", None, method="DELETE"),
    "a path that is not there": Case(404, "not-found", None, method="GET", path="/v1/nothing"),
    "a serial number that is none": Case(422, "bad-field", "serial", method="GET", path="/v1/certificates/XYZ"),
    "a serial number never issued": Case(404, "not-found", "serial", method="GET", path="/v1/certificates/00ff"),
    "a limit that is no number": Case(422, "bad-field", "limit", method="GET", path="/v1/certificates?limit=many"),
    "an unknown parameter": Case(422, "bad-field", None, method="GET", path="/v1/certificates?colour=red"),
}


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES.keys())
def test_it_is_refused_counted_and_not_stored(shared_tree: Tree, case: Case) -> None:
    listed = shared_tree.certificates().keys()
    counted = _rejections(shared_tree, case.kind)
    answer = shared_tree.api(case.method, case.path, case.body, case.headers)
    _is_problem(answer, case)
    assert _rejections(shared_tree, case.kind) > counted, f"no counter moved for {case.kind}"
    assert shared_tree.certificates().keys() == listed, "something was stored"


def test_no_token_is_refused(shared_tree: Tree) -> None:
    answer = shared_tree.api("POST", "/v1/certificates", {"csr": _CSR}, authorized=False)
    _is_problem(answer, Case(401, "unauthorized", None))
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_body_that_never_ends_is_given_up(shared_tree: Tree) -> None:
    """Half of the announced body, then silence: 408 after api.body_timeout, and the connection is closed."""
    counted = _rejections(shared_tree, "body-timeout")
    head = (
        f"POST /v1/certificates HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shared_tree.token}\r\n"
        'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"csr": '
    )
    received = _raw(shared_tree, head.encode())
    assert received.startswith(b"HTTP/1.1 408"), received[:200]
    assert b"body-timeout" in received
    assert _rejections(shared_tree, "body-timeout") > counted


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x00\xff\x00\xff" * 64, id="bytes that are no HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n", id="a header without end"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths that differ",
        ),
    ],
)
def test_what_is_no_http_gets_400_and_hurts_nobody(shared_tree: Tree, sent: bytes) -> None:
    received = _raw(shared_tree, sent)
    assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), received[:200]
    assert shared_tree.api("GET", "/v1/ca/roots").status == 200


def _is_problem(answer: Response, case: Case) -> None:
    assert answer.status == case.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"].endswith(f":{case.kind}"), document
    assert document["status"] == case.status
    assert document["detail"], "the document says what to change"
    if case.field is not None:
        assert document.get("field") == case.field, document
    assert "Traceback" not in answer.text


def _rejections(tree: Tree, kind: str) -> float:
    """The counter of `kind`, with everything in it that has been answered."""
    return _counted(tree.metrics(), kind)


def _counted(text: str, kind: str) -> float:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "trustchain_api_rejections_total" and sample.labels.get("reason") == kind:
                return sample.value
    raise AssertionError(f"no counter for {kind}")


def _raw(tree: Tree, sent: bytes) -> bytes:
    """What the server sends before it closes, for bytes that no client library would send."""
    context: ssl.SSLContext = tree.tls()
    received = b""
    with (
        socket.create_connection(("127.0.0.1", tree.api_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        try:
            connection.sendall(sent)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return received
    return received
