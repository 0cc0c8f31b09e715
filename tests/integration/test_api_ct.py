"""The log over HTTPS with a faithful log behind it: RFC 6962 and C2SP as clients see them, and by their means."""

import base64
import datetime as dt
import gzip
import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.api.routes_ct import MAX_CHAIN_BODY
from services.ct.messages import MAX_CERTIFICATE_OCTETS, MAX_CHAIN
from services.errors import Internal, StorageUnavailable, Unavailable
from tests.integration.fake_log import leaf_hash, tree_hash
from tests.integration.running_api import Answer, RunningApi
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

ENTRIES = 260  # more than a tile


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    """With ENTRIES entries in the log; the tests of this file add more."""
    directory = short_directory()
    limits: dict[str, Any] = {"public_rate": 100_000.0, "unauthorized_rate": 10_000.0, "unauthorized_burst": 10_000}
    with RunningApi(directory, body_timeout=1.0, **limits) as running:
        connection = running.client()
        for _ in range(ENTRIES):
            connection.request("POST", "/ct/v1/add-chain", submission(*chain(running)), JSON_HEADERS)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
        connection.close()
        yield running
    remove_directory(directory)


JSON_HEADERS = {"Content-Type": "application/json"}
KEY = ec.generate_private_key(ec.SECP256R1())


def chain(api: RunningApi, *, poison: bool = False, padding: int = 0) -> list[bytes]:
    """A new certificate of the fake authority with its issuer, DER."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder(api.authority.issuer.subject, x509.Name([]), KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.test")]), critical=True)
    )
    if poison:
        builder = builder.add_extension(x509.PrecertPoison(), critical=True)
    if padding:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(padding))
        builder = builder.add_extension(unknown, critical=False)
    leaf = builder.sign(api.authority.issuer_key, hashes.SHA256())
    return [each.public_bytes(serialization.Encoding.DER) for each in (leaf, api.authority.issuer)]


def submission(*certificates: bytes) -> bytes:
    return json.dumps({"chain": [b64(certificate) for certificate in certificates]}).encode()


def post(api: RunningApi, method: str, body: bytes) -> Answer:
    return api.ask("POST", f"/ct/v1/{method}", body, token=None)


def get(api: RunningApi, path: str, **headers: str) -> Answer:
    return api.ask("GET", f"/ct/{path}", headers=headers, token=None)


def head(api: RunningApi) -> Any:
    return get(api, "v1/get-sth").json()


def root_of_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2: what the root must be for the path to prove the leaf."""
    number, last, found = index, size - 1, leaf
    for node in path:
        assert last > 0, "the path is too long"
        if number & 1 or number == last:
            found = hashlib.sha256(b"\x01" + node + found).digest()
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\x01" + found + node).digest()
        number, last = number >> 1, last >> 1
    assert last == 0, "the path is too short"
    return found


def is_signed(api: RunningApi, signed: bytes, message: bytes) -> bool:
    assert signed[:2] == b"\x04\x03"
    assert int.from_bytes(signed[2:4], "big") == len(signed) - 4
    api.log.key.public_key().verify(signed[4:], message, ec.ECDSA(hashes.SHA256()))
    return True


def test_a_submitted_chain_gets_an_sct_that_verifies_and_its_entry_is_provable(api: RunningApi) -> None:
    certificates = chain(api)
    answer = post(api, "add-chain", submission(*certificates))
    assert answer.status == 200
    sct = answer.json()
    assert set(sct) == {"sct_version", "id", "timestamp", "extensions", "signature"}
    assert (sct["sct_version"], base64.b64decode(sct["id"])) == (0, api.log.log_id)
    extensions = base64.b64decode(sct["extensions"])
    length = len(certificates[0]).to_bytes(3, "big")
    entry = b"\x00\x00" + length + certificates[0] + len(extensions).to_bytes(2, "big") + extensions
    signed = sct["timestamp"].to_bytes(8, "big") + entry
    assert is_signed(api, base64.b64decode(sct["signature"]), b"\x00\x00" + signed)

    newest = head(api)
    leaf = leaf_hash(b"\x00\x00" + signed)
    query = f"hash={b64(leaf).replace('+', '%2B')}&tree_size={newest['tree_size']}"
    proof = get(api, f"v1/get-proof-by-hash?{query}").json()
    path = [base64.b64decode(node) for node in proof["audit_path"]]
    root = root_of_path(leaf, proof["leaf_index"], newest["tree_size"], path)
    assert root == base64.b64decode(newest["sha256_root_hash"])


def test_the_same_chain_again_gets_the_same_sct_and_no_new_entry(api: RunningApi) -> None:
    body = submission(*chain(api))
    first, size = post(api, "add-chain", body), len(api.log.entries)
    assert post(api, "add-chain", body).body == first.body
    assert len(api.log.entries) == size


def test_a_precertificate_is_submitted_to_its_own_path(api: RunningApi) -> None:
    body = submission(*chain(api, poison=True))
    assert post(api, "add-pre-chain", body).status == 200
    assert post(api, "add-chain", body).json()["type"] == "urn:trustchain:problem:wrong-entry-type"


def test_a_tree_head_is_signed(api: RunningApi) -> None:
    newest = head(api)
    signed = b"\x00\x01" + newest["timestamp"].to_bytes(8, "big") + newest["tree_size"].to_bytes(8, "big")
    root = base64.b64decode(newest["sha256_root_hash"])
    assert is_signed(api, base64.b64decode(newest["tree_head_signature"]), signed + root)
    assert get(api, "v1/get-sth").headers["cache-control"] == "no-store"


def test_entries_come_with_their_proofs(api: RunningApi) -> None:
    newest = head(api)
    for index in (0, 1, 255, 256, newest["tree_size"] - 1):
        found = get(api, f"v1/get-entry-and-proof?leaf_index={index}&tree_size={newest['tree_size']}").json()
        leaf = leaf_hash(base64.b64decode(found["leaf_input"]))
        path = [base64.b64decode(node) for node in found["audit_path"]]
        root = root_of_path(leaf, index, newest["tree_size"], path)
        assert root == base64.b64decode(newest["sha256_root_hash"])
        entry = get(api, f"v1/get-entries?start={index}&end={index}")
        assert entry.json() == {"entries": [{"leaf_input": found["leaf_input"], "extra_data": found["extra_data"]}]}
        assert "immutable" in entry.headers["cache-control"]


def test_all_entries_make_the_tree_that_its_head_tells(api: RunningApi) -> None:
    newest = head(api)
    answer = get(api, f"v1/get-entries?start=0&end={newest['tree_size'] + 5000}")
    entries = answer.json()["entries"]
    assert answer.headers["cache-control"] == "public, max-age=60"
    leaves = [leaf_hash(base64.b64decode(entry["leaf_input"])) for entry in entries[: newest["tree_size"]]]
    assert b64(tree_hash(leaves)) == newest["sha256_root_hash"]


@pytest.mark.parametrize(
    ("first", "second", "nodes"), [(0, 0, 0), (0, 7, 0), (7, 7, 0), (3, 7, 4), (4, 7, 1), (6, 7, 3)]
)
def test_consistency_has_the_lengths_of_the_example_of_rfc_6962(
    api: RunningApi, first: int, second: int, nodes: int
) -> None:
    answer = get(api, f"v1/get-sth-consistency?first={first}&second={second}")
    assert set(answer.json()) == {"consistency"}
    assert len(answer.json()["consistency"]) == nodes
    assert "immutable" in answer.headers["cache-control"]


def test_the_roots_are_those_at_which_chains_end(api: RunningApi) -> None:
    (root,) = get(api, "v1/get-roots").json()["certificates"]
    assert x509.load_der_x509_certificate(base64.b64decode(root)) == api.authority.root


def test_tiles_and_checkpoint_make_the_same_tree(api: RunningApi) -> None:
    checkpoint = get(api, "checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "no-store"
    _, size, root = checkpoint.body.decode().split("\n")[:3]
    full, partial = get(api, "tile/0/000"), get(api, f"tile/0/001.p/{int(size) - 256}")
    content = full.body + partial.body
    leaves = [content[at : at + 32] for at in range(0, len(content), 32)]
    assert b64(tree_hash(leaves)) == root
    assert get(api, "tile/1/000.p/1").body == tree_hash(leaves[:256])
    for tile in (full, partial):
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert tile.headers["content-type"] == "application/octet-stream"


def test_a_data_tile_comes_in_parts_and_compressed_for_who_asks(api: RunningApi) -> None:
    whole = get(api, "tile/data/000").body
    assert whole == b"".join(entry.leaf_input + entry.extra_data for entry in api.log.entries[:256])
    asked = len(api.log.requests)
    api.log.part = len(whole) // 5 + 1
    try:
        answer = get(api, "tile/data/000", **{"Accept-Encoding": "br, gzip"})
    finally:
        api.log.part = 786_432
    assert len(api.log.requests) == asked + 5
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(answer.body) < len(whole)
    assert gzip.decompress(answer.body) == whole


def test_the_issuer_of_an_entry_is_found_by_its_fingerprint(api: RunningApi) -> None:
    issuer = api.authority.issuer.public_bytes(serialization.Encoding.DER)
    answer = get(api, f"issuer/{hashlib.sha256(issuer).hexdigest()}")
    assert (answer.body, answer.headers["content-type"]) == (issuer, "application/pkix-cert")


def test_head_is_get_without_the_body(api: RunningApi) -> None:
    answer = api.ask("HEAD", "/ct/tile/0/000", token=None)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "8192")


def other_root() -> bytes:
    """A certificate that signs itself, of nobody."""
    now, name = dt.datetime.now(dt.UTC), x509.Name([])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1).not_valid_before(now)
    signed = builder.not_valid_after(now + dt.timedelta(days=1)).sign(KEY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


ADD, ADD_PRE = "/ct/v1/add-chain", "/ct/v1/add-pre-chain"
REFUSED_BODIES: dict[str, tuple[int, str, str, Callable[[bytes, bytes], bytes]]] = {
    "an unknown root": (400, "unknown-root", ADD, lambda *_: submission(other_root())),
    "a chain in the wrong order": (400, "bad-chain", ADD, lambda leaf, issuer: submission(issuer, leaf)),
    "a certificate as precertificate": (400, "wrong-entry-type", ADD_PRE, submission),
    "no certificate": (400, "malformed", ADD, lambda *_: submission(b"no certificate")),
    "half a certificate": (400, "malformed", ADD, lambda leaf, issuer: submission(leaf[:-9], issuer)),
    "an empty chain": (400, "malformed", ADD, lambda *_: submission()),
    "a chain that is too long": (400, "malformed", ADD, lambda leaf, _: submission(*[leaf] * (MAX_CHAIN + 1))),
    "a certificate that is too large": (
        400,
        "malformed",
        ADD,
        lambda *_: submission(bytes(MAX_CERTIFICATE_OCTETS + 1)),
    ),
    "no base64": (400, "malformed", ADD, lambda *_: b'{"chain": ["*"]}'),
    "no JSON": (400, "bad-json", ADD, lambda *_: b"chain=x"),
    "no chain": (400, "malformed", ADD, lambda *_: b"{}"),
    "too many octets": (413, "body-too-large", ADD, lambda *_: b" " * (MAX_CHAIN_BODY + 1)),
    "a tree head that is posted": (405, "method-not-allowed", "/ct/v1/get-sth", lambda *_: b"{}"),
}
REFUSED_QUERIES = {
    "a chain that is got": (405, "method-not-allowed", "v1/add-chain"),
    "a missing parameter": (400, "malformed", "v1/get-entries?start=0"),
    "an unknown parameter": (400, "malformed", "v1/get-sth?x=1"),
    "a negative number": (400, "malformed", "v1/get-entries?start=-1&end=0"),
    "a number that is none": (400, "malformed", "v1/get-entries?start=0&end=all"),
    "a number with an exponent": (400, "malformed", "v1/get-entries?start=0&end=1e1"),
    "a number that no tree has": (400, "malformed", f"v1/get-entries?start=0&end={2**64}"),
    "entries from the end on": (400, "out-of-range", "v1/get-entries?start={size}&end={size}"),
    "entries backwards": (400, "out-of-range", "v1/get-entries?start=1&end=0"),
    "a tree that is still to come": (400, "out-of-range", "v1/get-sth-consistency?first=1&second=1{size}"),
    "trees backwards": (400, "out-of-range", "v1/get-sth-consistency?first=2&second=1"),
    "a hash that is too short": (400, "malformed", "v1/get-proof-by-hash?hash=AA==&tree_size=1"),
    "a hash that is no base64": (400, "malformed", f"v1/get-proof-by-hash?hash={'*' * 44}&tree_size=1"),
    "a hash of no leaf": (404, "not-found", f"v1/get-proof-by-hash?hash={b64(bytes(32))}&tree_size=1"),
    "a leaf beyond its tree": (400, "out-of-range", "v1/get-entry-and-proof?leaf_index=5&tree_size=5"),
    "no such method": (404, "not-found", "v1/get-everything"),
    "a tile beyond the tree": (404, "not-found", "tile/0/999"),
    "a level beyond the highest": (404, "not-found", "tile/6/000"),
    "a tile written otherwise": (404, "not-found", "tile/0/x000/000"),
    "a tile by its entries": (404, "not-found", "tile/entries/000"),
    "an issuer of no chain": (404, "not-found", f"issuer/{'0' * 64}"),
    "an issuer by another name": (404, "not-found", "issuer/a"),
}


def is_refused(api: RunningApi, answer: Answer, status: int, kind: str, counted: int) -> bool:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert (document["type"], document["status"]) == (f"urn:trustchain:problem:{kind}", status)
    assert document["detail"]
    return api.count("trustchain_api_rejections_total", reason=kind) == counted + 1


@pytest.mark.parametrize("case", REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
def test_a_submission_that_is_refused_leaves_no_entry_and_a_count(api: RunningApi, case: Any) -> None:
    status, kind, path, body = case
    size, counted = len(api.log.entries), api.count("trustchain_api_rejections_total", reason=kind)
    answer = api.ask("POST", path, body(*chain(api)), token=None)
    assert is_refused(api, answer, status, kind, counted)
    assert len(api.log.entries) == size


@pytest.mark.parametrize("case", REFUSED_QUERIES.values(), ids=REFUSED_QUERIES.keys())
def test_a_question_that_has_no_answer_gets_the_status_of_rfc_6962(api: RunningApi, case: Any) -> None:
    status, kind, path = case
    counted = api.count("trustchain_api_rejections_total", reason=kind)
    answer = get(api, path.format(size=len(api.log.entries)))
    assert is_refused(api, answer, status, kind, counted)


def test_a_wrong_method_is_told_the_right_one(api: RunningApi) -> None:
    assert get(api, "v1/add-chain").headers["allow"] == "POST"
    assert api.ask("DELETE", "/ct/tile/0/000", token=None).headers["allow"] == "GET, HEAD"


def test_a_chain_may_be_larger_than_other_bodies(api: RunningApi) -> None:
    body = submission(*chain(api, padding=60_000))
    assert len(body) > api.settings.api.max_body_bytes
    assert post(api, "add-chain", body).status == 200
    assert api.ask("POST", "/v1/certificates", body).status == 413


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Unavailable("the disk is full"), 503, "unavailable"),
        (StorageUnavailable("/var/lib/secret: No space left on device"), 503, "unavailable"),
        (Internal("ZeroDivisionError"), 502, "log-failed"),
    ],
)
def test_what_the_log_cannot_do_is_not_the_clients_fault_nor_the_authoritys(
    api: RunningApi, fault: Exception, status: int, kind: str
) -> None:
    api.log.fault = fault
    try:
        answer = post(api, "add-chain", submission(*chain(api)))
    finally:
        api.log.fault = None
    assert (answer.status, answer.json()["type"]) == (status, f"urn:trustchain:problem:{kind}")
    assert "the transparency log" in answer.json()["detail"]
    assert b"secret" not in answer.body
    assert ("retry-after" in answer.headers) == (status == 503)


def test_requests_are_counted_by_the_name_of_their_route(api: RunningApi) -> None:
    name = "trustchain_api_requests_total"
    before = [api.count(name, route="ct_tile", result=result) for result in ("ok", "rejected")]
    get(api, "tile/0/000")
    get(api, "tile/0/000.p/7")
    get(api, "tile/0/999")
    after = [api.count(name, route="ct_tile", result=result) for result in ("ok", "rejected")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1]


def test_a_valid_token_changes_nothing_but_the_limit(api: RunningApi) -> None:
    assert api.ask("GET", "/ct/v1/get-roots").body == get(api, "v1/get-roots").body


def test_the_log_is_not_there_over_plain_http(api: RunningApi) -> None:
    assert api.ask_plain("GET", "/ct/v1/get-sth").status == 404


def test_one_connection_reads_the_whole_log(api: RunningApi) -> None:
    connection: http.client.HTTPSConnection = api.client()
    entries: list[Any] = []
    while len(entries) < ENTRIES:
        connection.request("GET", f"/ct/v1/get-entries?start={len(entries)}&end={len(entries) + 49}")
        entries += json.loads(connection.getresponse().read())["entries"]
    connection.close()
    assert len(entries) >= ENTRIES
