"""What each route below /ct/ asks the log, and the shapes of RFC 6962 that it makes of the replies."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from services.api.endpoints import Call, Reply
from services.api.endpoints_ct import CtEndpoints
from services.api.parsing import JSON, parse_body, parse_parameters
from services.api.problems import Problem
from services.api.routes_ct import (
    CT_ROUTES,
    MAX_CHAIN_BODY,
    ChainBody,
    ConsistencyQuery,
    DataTilePath,
    EntriesQuery,
    EntryQuery,
    IssuerPath,
    ProofQuery,
    TilePath,
)
from services.api.routing import NoParameters
from services.ct.messages import (
    DATA_LEVEL,
    MAX_CERTIFICATE_OCTETS,
    MAX_CHAIN,
    AddChain,
    Checkpoint,
    Consistency,
    Entries,
    Entry,
    EntryAndProof,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetIssuer,
    GetProofByHash,
    GetRoots,
    GetTile,
    GetTreeHead,
    InclusionProof,
    Part,
    Roots,
    SignedCertificateTimestamp,
    SignedTreeHead,
)

HASH = bytes(range(32))
SCT = SignedCertificateTimestamp(
    log_id=HASH, timestamp=1_234, extensions=b"\0\0\5\0\0\0\0\7", signature=b"\4\3\0\1x", leaf_index=7, serialized=b"."
)
HEAD = SignedTreeHead(tree_size=7, timestamp=1_234, root_hash=HASH, signature=b"\4\3\0\1x")
ENTRY = Entry(leaf_input=b"leaf", extra_data=b"\0\0\0")


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


class Log:
    """Answers everything with `reply`, in parts of `part` octets, and remembers what it was asked."""

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
        self.asked.append((method, request_at(5), reply_type, *how[:2]))
        return Part(content=self.reply, size=len(self.reply)), self.reply


def answer(route: str, reply: Any, **call: Any) -> tuple[Reply, list[tuple[Any, ...]]]:
    log = Log(reply)
    endpoints = CtEndpoints(log)  # type: ignore[arg-type]  # the methods of it that endpoints use
    defaults: dict[str, Any] = {
        "path": NoParameters(),
        "query": NoParameters(),
        "body": None,
        "media_type": JSON,
        "requester": "anyone at 192.0.2.1",
        "seconds": 7.5,
        "trace": "00-trace",
        "hold": lambda _: None,
    }

    async def answered() -> Reply:
        return await endpoints.by_route[route](Call(**(defaults | call)))

    return asyncio.run(answered()), log.asked


def test_every_route_has_an_endpoint_and_every_endpoint_a_route() -> None:
    endpoints = CtEndpoints(Log(None))  # type: ignore[arg-type]  # as above
    assert set(endpoints.by_route) == {route.name for route in CT_ROUTES}


@pytest.mark.parametrize(("route", "entry_type"), [("ct_add_chain", "x509"), ("ct_add_pre_chain", "precert")])
def test_a_submission_is_answered_with_its_sct_and_no_member_more(route: str, entry_type: Any) -> None:
    reply, asked = answer(route, SCT, body=ChainBody(chain=[b"leaf", b"issuer"]))
    request = AddChain(chain=[b"leaf", b"issuer"], entry_type=entry_type)
    assert asked == [("add", request, SignedCertificateTimestamp, 7.5, "00-trace")]
    assert json.loads(reply.content) == {
        "sct_version": 0,
        "id": b64(HASH),
        "timestamp": 1_234,
        "extensions": b64(SCT.extensions),
        "signature": b64(SCT.signature),
    }
    assert "Cache-Control" not in reply.headers


def test_empty_extensions_are_an_empty_text() -> None:
    sct = SignedCertificateTimestamp(
        log_id=HASH, timestamp=1, extensions=b"", signature=b"x", leaf_index=0, serialized=b"."
    )
    reply, _ = answer("ct_add_chain", sct, body=ChainBody(chain=[b"leaf"]))
    assert json.loads(reply.content)["extensions"] == ""


def test_a_tree_head_has_the_names_of_rfc_6962_and_is_not_kept() -> None:
    reply, asked = answer("ct_get_sth", HEAD)
    assert asked == [("tree_head", GetTreeHead(), SignedTreeHead, 7.5, "00-trace")]
    assert json.loads(reply.content) == {
        "tree_size": 7,
        "timestamp": 1_234,
        "sha256_root_hash": b64(HASH),
        "tree_head_signature": b64(HEAD.signature),
    }
    assert reply.headers == {}


@pytest.mark.parametrize("path", [[], [HASH, HASH[::-1]]])
def test_a_consistency_proof_is_a_list_and_may_be_kept(path: list[bytes]) -> None:
    reply, asked = answer("ct_get_sth_consistency", Consistency(path=path), query=ConsistencyQuery(first=0, second=7))
    assert asked[0][:3] == ("consistency", GetConsistency(first=0, second=7), Consistency)
    assert json.loads(reply.content) == {"consistency": [b64(node) for node in path]}
    assert reply.headers["Cache-Control"] == "public, max-age=86400, immutable"


def test_an_inclusion_proof_is_asked_for_by_the_leaf_hash() -> None:
    query = ProofQuery(hash=HASH, tree_size=1)
    reply, asked = answer("ct_get_proof_by_hash", InclusionProof(leaf_index=0, audit_path=[]), query=query)
    assert asked[0][:3] == ("proof_by_hash", GetProofByHash(leaf_hash=HASH, tree_size=1), InclusionProof)
    assert json.loads(reply.content) == {"leaf_index": 0, "audit_path": []}
    assert "immutable" in reply.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("end", "kept"), [(9, "public, max-age=86400, immutable"), (10, "public, max-age=60"), (999, "public, max-age=60")]
)
def test_all_entries_that_were_asked_for_may_be_kept_and_fewer_only_for_a_minute(end: int, kept: str) -> None:
    found = Entries(start=8, entries=[ENTRY, ENTRY])
    reply, asked = answer("ct_get_entries", found, query=EntriesQuery(start=8, end=end))
    assert asked[0][:3] == ("entries", GetEntries(start=8, end=end), Entries)
    entry = {"leaf_input": b64(b"leaf"), "extra_data": b64(b"\0\0\0")}
    assert json.loads(reply.content) == {"entries": [entry, entry]}
    assert reply.headers["Cache-Control"] == kept


def test_roots_are_der_in_base64() -> None:
    reply, asked = answer("ct_get_roots", Roots(certificates=[b"root"]))
    assert asked[0][:3] == ("roots", GetRoots(), Roots)
    assert json.loads(reply.content) == {"certificates": [b64(b"root")]}
    assert json.loads(answer("ct_get_roots", Roots(certificates=[]))[0].content) == {"certificates": []}


def test_an_entry_comes_with_its_proof_in_one_object() -> None:
    found = EntryAndProof(entry=ENTRY, audit_path=[HASH])
    reply, asked = answer("ct_get_entry_and_proof", found, query=EntryQuery(leaf_index=3, tree_size=7))
    assert asked[0][:3] == ("entry_and_proof", GetEntryAndProof(leaf_index=3, tree_size=7), EntryAndProof)
    assert json.loads(reply.content) == {
        "leaf_input": b64(b"leaf"),
        "extra_data": b64(b"\0\0\0"),
        "audit_path": [b64(HASH)],
    }


def test_a_checkpoint_is_the_note_as_it_is_and_not_kept() -> None:
    reply, asked = answer("ct_checkpoint", Checkpoint(note=b"log\n7\n\n\xe2\x80\x94 log x\n"))
    assert asked[0][:3] == ("checkpoint", GetCheckpoint(), Checkpoint)
    assert reply.content == b"log\n7\n\n\xe2\x80\x94 log x\n"
    assert reply.headers == {}


def test_a_tile_is_asked_for_by_its_numbers_and_kept_for_ever() -> None:
    reply, asked = answer("ct_tile", b"hashes", path=TilePath(level="1", tile="x001/x234/067.p/8"))
    assert [question[1] for question in asked] == [
        GetTile(level=1, index=1_234_067, width=8, offset=offset) for offset in (0, 5)
    ]
    assert reply.content == b"hashes"
    assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("ct_tile", TilePath(level="6", tile="000")),
        ("ct_tile", TilePath(level="entries", tile="000")),
        ("ct_tile", TilePath(level="0", tile="0")),
        ("ct_data_tile", DataTilePath(tile="000.p/256")),
        ("ct_issuer", IssuerPath(fingerprint="0A" * 32)),
    ],
)
def test_what_has_no_such_name_is_not_there_and_the_log_is_not_asked(route: str, path: Any) -> None:
    with pytest.raises(Problem) as caught:
        answer(route, b"", path=path)
    assert caught.value.status == 404


def test_a_data_tile_is_compressed_for_who_asks_for_that_only() -> None:
    content = b"entries " * 1000
    path = DataTilePath(tile="000")
    plain, asked = answer("ct_data_tile", content, path=path)
    assert asked[0][1] == GetTile(level=DATA_LEVEL, index=0, width=256)
    assert plain.content == content
    assert "Content-Encoding" not in plain.headers
    packed, _ = answer("ct_data_tile", content, path=path, accepts_gzip=True)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == content
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert packed.content == answer("ct_data_tile", content, path=path, accepts_gzip=True)[0].content, "repeatable"


def test_an_issuer_is_asked_for_by_its_fingerprint() -> None:
    reply, asked = answer("ct_issuer", b"certificate", path=IssuerPath(fingerprint="0a" * 32))
    assert [question[1] for question in asked] == [
        GetIssuer(fingerprint=b"\x0a" * 32, offset=offset) for offset in (0, 5)
    ]
    assert reply.content == b"certificate"
    assert "immutable" in reply.headers["Cache-Control"]


def refusal(attempt: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        attempt()
    return caught.value


@pytest.mark.parametrize(
    ("query", "wanted", "field"),
    [
        ([], ConsistencyQuery, "first"),
        ([("first", "1")], ConsistencyQuery, "second"),
        ([("first", "-1"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "1.0"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "1e0"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "01"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "x"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", ""), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "1"), ("second", str(2**40))], ConsistencyQuery, "second"),
        ([("first", "1"), ("first", "1"), ("second", "2")], ConsistencyQuery, "first"),
        ([("first", "1"), ("second", "2"), ("third", "3")], ConsistencyQuery, "third"),
        ([("hash", "!" * 44), ("tree_size", "1")], ProofQuery, "hash"),
        ([("hash", b64(HASH[:31])), ("tree_size", "1")], ProofQuery, "hash"),
        ([("hash", b64(HASH + b"x")), ("tree_size", "1")], ProofQuery, "hash"),
        ([("hash", b64(HASH).rstrip("=")), ("tree_size", "1")], ProofQuery, "hash"),
        ([("hash", b64(b"\xff" * 32).replace("/", "_")), ("tree_size", "1")], ProofQuery, "hash"),
        ([("hash", b64(HASH)), ("tree_size", "")], ProofQuery, "tree_size"),
    ],
)
def test_a_parameter_that_does_not_fit_is_400_and_named(query: Any, wanted: Any, field: str) -> None:
    problem = refusal(lambda: parse_parameters(query, wanted, "malformed"))
    assert (problem.status, problem.field) == (400, field)


def test_the_largest_tree_that_an_sct_can_tell_of_is_a_size() -> None:
    query = parse_parameters([("first", "0"), ("second", str(2**40 - 1))], ConsistencyQuery, "malformed")
    assert (query.first, query.second) == (0, 2**40 - 1)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"chain": null}',
        '{"chain": []}',
        '{"chain": "AA=="}',
        '{"chain": [1]}',
        '{"chain": [""]}',
        '{"chain": ["A"]}',
        '{"chain": ["AA"]}',
        '{"chain": ["A-A="]}',
        '{"chain": ["AA==\\n"]}',
        '{"chain": [" AA=="]}',
        '{"chain": ["AA=="], "more": 1}',
        json.dumps({"chain": ["AA=="] * (MAX_CHAIN + 1)}),
        json.dumps({"chain": [b64(b"x" * (MAX_CERTIFICATE_OCTETS + 1))]}),
        '{"chain": ["AA=="]',
    ],
    ids=lambda body: str(body)[:24],
)
def test_a_body_that_is_no_chain_is_400(body: str) -> None:
    assert refusal(lambda: parse_body(body.encode(), ChainBody, "malformed")).status == 400


def test_the_longest_chain_of_the_largest_certificates_fits_into_a_body_as_json_libraries_write_it() -> None:
    chain = [b"\xff" * MAX_CERTIFICATE_OCTETS] * MAX_CHAIN
    body = json.dumps({"chain": [b64(certificate) for certificate in chain]}, indent=8).encode()
    assert len(body) <= MAX_CHAIN_BODY
    assert parse_body(body, ChainBody, "malformed").chain == chain
