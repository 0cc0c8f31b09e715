"""Every refusal has one HTTP form, and it tells the client what to change and nothing about the inside."""

import json
import typing

import pytest

from services.api.problems import AUTHORITY, KINDS, LOG, PeerName, Problem, internal, of_remote
from services.ca.messages import RefusalKind
from services.ct.messages import RefusalKind as LogRefusalKind
from services.errors import (
    DeadlineExceeded,
    Internal,
    Overloaded,
    PeerGone,
    Refused,
    RemoteError,
    StorageUnavailable,
    Unavailable,
)


def test_a_document_has_the_members_of_rfc_9457_and_names_field_and_request() -> None:
    problem = Problem("bad-field", "Expected `str`, got `int`", field="csr")
    assert json.loads(problem.document("abc")) == {
        "type": "urn:trustchain:problem:bad-field",
        "title": KINDS["bad-field"].title,
        "status": 422,
        "detail": "Expected `str`, got `int`",
        "field": "csr",
        "request_id": "abc",
    }


def test_absent_members_are_left_out() -> None:
    assert set(json.loads(Problem("not-found", "x").document(None))) == {"type", "title", "status", "detail"}


def test_a_position_of_zero_is_told() -> None:
    assert json.loads(Problem("bad-json", "x", position=0).document(None))["position"] == 0


def test_every_status_is_an_error_status() -> None:
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


@pytest.mark.parametrize("kind", sorted({*typing.get_args(RefusalKind), *typing.get_args(LogRefusalKind)}))
def test_every_refusal_of_a_service_is_the_clients_fault_and_keeps_its_field(kind: str) -> None:
    problem = of_remote(Refused(kind, "csr", "what to change"), AUTHORITY)
    assert (problem.kind, problem.field, problem.detail) == (kind, "csr", "what to change")
    assert 400 <= problem.status < 500
    assert problem.counts_as == "rejected"


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Unavailable("disk full"), 503, True),
        (StorageUnavailable("disk full"), 503, True),
        (PeerGone("connection lost"), 503, True),
        (Overloaded("1000 calls"), 503, True),
        (DeadlineExceeded("5 s"), 504, False),
        (Internal("ZeroDivisionError in /opt/secret.py"), 502, False),
        (RemoteError("something"), 502, False),
        (Refused("a kind from a newer version", None, "detail"), 500, False),
    ],
)
def test_what_is_not_the_clients_fault_is_a_5xx(error: RemoteError, status: int, retry: bool) -> None:
    problem = of_remote(error, AUTHORITY)
    assert (problem.status, problem.counts_as, "Retry-After" in problem.headers()) == (status, "error", retry)


@pytest.mark.parametrize(
    "error",
    [
        Internal("ZeroDivisionError in /opt/secret.py"),
        RemoteError("/opt/secret"),
        Unavailable("no connection to ca at /run/secret/ca.sock: Connection refused"),
        StorageUnavailable("/var/lib/secret/certificates.db: No space left on device"),
        Overloaded("1000 calls to secret"),
        PeerGone("/run/secret/ca.sock"),
        DeadlineExceeded("/run/secret/ca.sock"),
        Refused("a kind from a newer version", None, "/opt/secret"),
    ],
)
def test_what_is_not_the_clients_fault_tells_nothing_of_the_inside(error: RemoteError) -> None:
    assert b"secret" not in of_remote(error, AUTHORITY).document("id")
    assert internal().status == 500


def test_headers_that_http_wants_beside_the_document() -> None:
    assert Problem("unauthorized", "x").headers() == {"WWW-Authenticate": 'Bearer realm="trustchain"'}
    assert Problem("method-not-allowed", "x", allow=("GET", "HEAD")).headers() == {"Allow": "GET, HEAD"}
    assert Problem("rate-limited", "x", retry_after=3).headers() == {"Retry-After": "3"}


@pytest.mark.parametrize("kind", typing.get_args(LogRefusalKind))
def test_what_the_log_refuses_has_the_status_of_rfc_6962(kind: str) -> None:
    assert of_remote(Refused(kind, None, "x"), LOG).status == (404 if kind == "not-found" else 400)


@pytest.mark.parametrize(("peer", "kind"), [(AUTHORITY, "authority-failed"), (LOG, "log-failed")])
def test_a_failure_names_the_service_that_failed(peer: PeerName, kind: str) -> None:
    problem = of_remote(Internal("ZeroDivisionError"), peer)
    assert (problem.kind, problem.status) == (kind, 502)
    assert peer.text in problem.detail
