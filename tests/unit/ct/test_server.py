"""The log's methods: what goes in comes out, proven; what does not exist is refused."""

import asyncio
import base64
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from services.ct import tiles
from services.ct.messages import (
    DATA_LEVEL,
    MAX_REPLY_OCTETS,
    METHODS,
    GetCheckpoint,
    GetConsistency,
    GetEntries,
    GetEntryAndProof,
    GetIssuer,
    GetLog,
    GetProofByHash,
    GetRoots,
    GetTile,
    GetTreeHead,
    Refusal,
)
from services.ct.metrics import QUERIES
from services.ct.sequencer import HEAD_MAX_AGE_MILLISECONDS
from services.ct.server import MAX_ROOTS, TransparencyLog
from services.errors import ProbeFailed
from services.rfc6962 import merkle, note, structures
from services.rfc6962.structures import PrecertEntry, X509Entry
from services.rfc6962.verifier import LogVerifier, SignedHead, TreeHead
from tests.unit.ct.chains import INTERMEDIATE, OTHER_ROOT, ROOT, authority, certificate, leaf, precertificate
from tests.unit.ct.logs import CALL, NOW, Host, accept, add, add_many, host_certificate

MANY = 600


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def verifier_of(log: TransparencyLog) -> LogVerifier:
    description = await log.log(GetLog(), CALL)
    verifier = LogVerifier.of(description.public_key)
    assert verifier.log_id == description.log_id
    return verifier


async def head_of(log: TransparencyLog) -> TreeHead:
    """The newest head, its signature verified."""
    told = await log.tree_head(GetTreeHead(), CALL)
    head = TreeHead(told.tree_size, told.timestamp, told.root_hash)
    (await verifier_of(log)).verify_head(SignedHead(head, told.signature))
    return head


async def refusal(asked: Any) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        await asked
    return refused.value.kind, refused.value.field


def test_every_method_is_answered() -> None:
    assert all(callable(getattr(TransparencyLog, method)) for method in METHODS)
    assert set(QUERIES) == METHODS.keys() - {"add"}


def test_an_sct_is_that_of_an_entry_in_the_signed_tree(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        sct = await add(log, precertificate(), "precert")
        (logged,) = (await log.entries(GetEntries(start=0, end=0), CALL)).entries
        timestamp, entry, extensions = structures.parse_merkle_tree_leaf(logged.leaf_input)
        assert isinstance(entry, PrecertEntry)
        assert (timestamp, extensions) == (sct.timestamp, sct.extensions) == (NOW, sct.extensions)
        (await verifier_of(log)).verify_sct(structures.parse_sct(sct.serialized), entry)
        assert structures.parse_leaf_index(extensions) == sct.leaf_index == 0
        assert logged.extra_data == structures.precert_extra_data(precertificate(), [INTERMEDIATE, ROOT])
        head = await head_of(log)
        assert head == TreeHead(1, NOW, merkle.leaf_hash(logged.leaf_input))

    host.run(test)
    assert host.count("trustchain_ct_requests_total", result="ok") == 1


def test_a_certificate_is_logged_whole(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add(log, leaf())
        (logged,) = (await log.entries(GetEntries(start=0, end=0), CALL)).entries
        assert structures.parse_merkle_tree_leaf(logged.leaf_input)[1] == X509Entry(leaf())
        assert logged.extra_data == structures.chain_extra_data([INTERMEDIATE, ROOT])

    host.run(test)


def test_what_comes_again_gets_the_first_sct_in_the_same_octets(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        first = await add(log, leaf())
        host.now += 60_000
        assert await add(log, leaf(), above=(INTERMEDIATE,)) == first
        assert (await head_of(log)).size == 1

    host.run(test)
    host.run(lambda log: add(log, leaf()))
    assert host.run(head_of).size == 1
    assert host.count("trustchain_ct_duplicates_total") == 2


def test_what_comes_twice_at_once_is_one_entry(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        first, second = await asyncio.gather(add(log, leaf()), add(log, leaf()))
        assert first == second
        assert (await head_of(log)).size == 1

    host.run(test)
    assert host.count("trustchain_ct_duplicates_total") == 1


def test_what_comes_while_a_batch_is_on_its_way_is_the_next_batch(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        first = asyncio.ensure_future(add(log, host_certificate(0)))
        await asyncio.sleep(0)  # its batch is taken
        await asyncio.sleep(0)
        rest = await add_many(log, range(1, 50))
        assert (await first).leaf_index == 0
        assert sorted(sct.leaf_index for sct in rest) == list(range(1, 50))

    host.run(test)
    assert host.metrics.histogram("trustchain_ct_batch_entries").value.count <= 3


def test_a_refused_chain_stores_nothing_and_is_counted(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        other = certificate("host.example", "other")
        assert await refusal(add(log, other, above=(OTHER_ROOT,))) == ("unknown-root", "chain")
        assert await refusal(add(log, precertificate())) == ("wrong-entry-type", "chain")
        assert (await head_of(log)).size == 0

    host.run(test)
    assert host.count("trustchain_ct_refusals_total", kind="unknown-root") == 1
    assert host.count("trustchain_ct_requests_total", result="rejected") == 2


def test_every_entry_is_proven_in_every_published_tree(host: Host) -> None:
    """The tree passes the end of two tiles; sizes on both sides of it are asked for."""

    async def test(log: TransparencyLog) -> None:
        scts = [sct for begin in range(0, MANY, 200) for sct in await add_many(log, range(begin, begin + 200))]
        assert sorted(sct.leaf_index for sct in scts) == list(range(MANY))
        head = await head_of(log)
        roots = {}
        for size in (1, 255, 256, 257, 512, 599, MANY):
            path = (await log.consistency(GetConsistency(first=size, second=MANY), CALL)).path
            roots[size] = log._storage.tiles.root_at(size)
            merkle.verify_consistency(size, MANY, roots[size], head.root, path)
        for index in (0, 254, 255, 256, 511, 512, 599):
            answer = await log.entry_and_proof(GetEntryAndProof(leaf_index=index, tree_size=MANY), CALL)
            hashed = merkle.leaf_hash(answer.entry.leaf_input)
            merkle.verify_inclusion(index, MANY, hashed, answer.audit_path, head.root)
            for size in (each for each in roots if each > index):
                found = await log.proof_by_hash(GetProofByHash(leaf_hash=hashed, tree_size=size), CALL)
                assert found.leaf_index == index
                merkle.verify_inclusion(index, size, hashed, found.audit_path, roots[size])
        await log.probe()

    host.run(test)
    assert not host.run(lambda log: log.probe())


def test_entries_come_in_order_and_end_with_their_tile(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(300))
        hashes = []
        start = 0
        while start < 300:
            answer = await log.entries(GetEntries(start=start, end=10_000), CALL)
            assert answer.start == start
            hashes += [merkle.leaf_hash(entry.leaf_input) for entry in answer.entries]
            start += len(answer.entries)
        assert merkle.EMPTY_EDGE.extended(hashes).root == (await head_of(log)).root
        assert len((await log.entries(GetEntries(start=0, end=299), CALL)).entries) == 256
        assert len((await log.entries(GetEntries(start=250, end=252), CALL)).entries) == 3
        assert len((await log.entries(GetEntries(start=299, end=299), CALL)).entries) == 1

    host.run(test)


def test_entries_are_found_on_their_way_from_the_database_into_their_tile(host: Host) -> None:
    """The moment after the writer has published a tile, and before the event loop has heard of it."""

    async def test(log: TransparencyLog) -> None:
        log._storage.tiles.published = lambda places: None  # type: ignore[method-assign] # noqa: ARG005 - as it is called
        await add_many(log, range(256))
        assert log._storage.tiles.unpublished
        assert len((await log.entries(GetEntries(start=0, end=255), CALL)).entries) == 256

    host.run(test)


def test_a_reply_with_entries_fits_into_one_message(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(3))
        octets = (await log._storage.entries(0))[0]
        many = log._fitting([octets] * 2000)
        weight = sum(len(entry.leaf_input) + len(entry.extra_data) for entry in many)
        assert MAX_REPLY_OCTETS * 0.95 < weight <= MAX_REPLY_OCTETS

    host.run(test)


def test_what_the_tree_does_not_have_is_refused(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(3))
        hashed = log._node(0, 2)
        ask: list[tuple[Any, tuple[str, str]]] = [
            (log.consistency(GetConsistency(first=2, second=1), CALL), ("out-of-range", "first")),
            (log.consistency(GetConsistency(first=0, second=4), CALL), ("out-of-range", "second")),
            (log.proof_by_hash(GetProofByHash(leaf_hash=bytes(32), tree_size=3), CALL), ("not-found", "hash")),
            (log.proof_by_hash(GetProofByHash(leaf_hash=hashed, tree_size=2), CALL), ("not-found", "hash")),
            (log.proof_by_hash(GetProofByHash(leaf_hash=hashed, tree_size=0), CALL), ("not-found", "hash")),
            (log.proof_by_hash(GetProofByHash(leaf_hash=hashed, tree_size=4), CALL), ("out-of-range", "tree_size")),
            (log.entries(GetEntries(start=3, end=3), CALL), ("out-of-range", "start")),
            (log.entries(GetEntries(start=2, end=1), CALL), ("out-of-range", "start")),
            (log.entry_and_proof(GetEntryAndProof(leaf_index=2, tree_size=2), CALL), ("out-of-range", "leaf_index")),
            (log.entry_and_proof(GetEntryAndProof(leaf_index=0, tree_size=4), CALL), ("out-of-range", "tree_size")),
            (log.issuer(GetIssuer(fingerprint=bytes(32)), CALL), ("not-found", "fingerprint")),
            (log.issuer(GetIssuer(fingerprint=sha256(ROOT).digest(), offset=9999), CALL), ("out-of-range", "offset")),
            (log.tile(GetTile(level=0, index=0, width=4), CALL), ("not-found", "width")),
            (log.tile(GetTile(level=1, index=0, width=1), CALL), ("not-found", "width")),
            (log.tile(GetTile(level=5, index=0, width=1), CALL), ("not-found", "index")),
            (log.tile(GetTile(level=0, index=2**40 - 1, width=1), CALL), ("not-found", "index")),
            (log.tile(GetTile(level=DATA_LEVEL, index=0, width=256), CALL), ("not-found", "width")),
        ]
        for asked, expected in ask:
            assert await refusal(asked) == expected

    host.run(test)


def test_an_empty_log_has_a_signed_head_and_nothing_else(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        assert await head_of(log) == TreeHead(0, NOW, merkle.EMPTY_ROOT)
        assert (await log.consistency(GetConsistency(first=0, second=0), CALL)).path == []
        assert await refusal(log.entries(GetEntries(start=0, end=0), CALL)) == ("out-of-range", "start")
        await log.probe()

    host.run(test)


def test_the_tiles_are_the_tree(host: Host) -> None:
    """A monitor that knows nothing but checkpoint, tiles and issuers comes to the same root and entries."""

    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(300))
        described = await log.log(GetLog(), CALL)
        parsed = note.parse((await log.checkpoint(GetCheckpoint(), CALL)).note)
        checkpoint = note.parse_checkpoint(parsed.text)
        timestamp, signature = note.find_rfc6962_signature(parsed, described.origin, described.log_id)
        head = TreeHead(checkpoint.size, timestamp, checkpoint.root)
        LogVerifier.of(described.public_key).verify_head(SignedHead(head, signature))
        hashes: list[bytes] = []
        for index, width in ((0, 256), (1, 44)):
            tile = await log.tile(GetTile(level=0, index=index, width=width), CALL)
            data = await log.tile(GetTile(level=DATA_LEVEL, index=index, width=width), CALL)
            assert tile.size == len(tile.content) == 32 * width
            entries, expected = zip(*tiles.split_data_tile(data.content), strict=True)
            leaves = [tiles.parse_entry(octets) for octets in entries]
            assert list(expected) == [merkle.leaf_hash(each.merkle_tree_leaf) for each in leaves]
            assert b"".join(expected) == tile.content
            for fingerprint in leaves[0].chain:
                issuer = await log.issuer(GetIssuer(fingerprint=fingerprint), CALL)
                assert sha256(issuer.content).digest() == fingerprint
            hashes += expected
        assert merkle.EMPTY_EDGE.extended(hashes).root == checkpoint.root
        above = await log.tile(GetTile(level=1, index=0, width=1), CALL)
        assert above.content == merkle.perfect_root(hashes[:256])
        narrower = await log.tile(GetTile(level=0, index=1, width=7), CALL)
        assert narrower.content == b"".join(hashes[256:263])

    host.run(test)


def test_a_tile_comes_in_parts(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(5))
        whole = await log.tile(GetTile(level=DATA_LEVEL, index=0, width=5), CALL)
        rest = await log.tile(GetTile(level=DATA_LEVEL, index=0, width=5, offset=100), CALL)
        assert (rest.content, rest.size) == (whole.content[100:], whole.size)
        end = await log.tile(GetTile(level=DATA_LEVEL, index=0, width=5, offset=whole.size), CALL)
        assert end.content == b""

    host.run(test)


def test_the_log_says_who_it_is(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        described = await log.log(GetLog(), CALL)
        assert described.origin == "trust.localhost:8443"
        _, _, key = described.verifier_key.split("+", 2)
        assert base64.b64decode(key) == b"\x05" + described.public_key

    host.run(test)


def test_roots_are_accepted_for_ever(host: Host) -> None:
    assert host.run(lambda log: accept(log, ROOT, OTHER_ROOT, OTHER_ROOT)) == [ROOT, OTHER_ROOT]

    async def test(log: TransparencyLog) -> None:
        assert (await log.roots(GetRoots(), CALL)).certificates == [ROOT, OTHER_ROOT]
        assert await accept(log) == [ROOT, OTHER_ROOT]
        await add(log, certificate("host.example", "other"), above=())

    host.run(test)
    assert host.metrics.gauge("trustchain_ct_accepted_roots").value == 2


def test_of_several_roots_none_is_accepted_when_one_is_none(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        assert await refusal(accept(log, OTHER_ROOT, leaf())) == ("bad-chain", "certificates")
        assert (await log.roots(GetRoots(), CALL)).certificates == [ROOT]

    host.run(test)


def test_the_number_of_roots_is_bounded(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        many = [certificate("root", "root", extensions=authority(), serial=n + 1) for n in range(MAX_ROOTS)]
        assert await refusal(accept(log, *many)) == ("malformed", "certificates")
        assert len(await accept(log, *many[:-1])) == MAX_ROOTS

    host.run(test)


def test_a_head_that_grows_old_is_signed_anew(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add(log, leaf())
        before = await head_of(log)
        log._sequencer._tick()
        await log._sequencer.finish()
        assert await head_of(log) == before
        host.now += HEAD_MAX_AGE_MILLISECONDS
        log._sequencer._tick()
        await log._sequencer.finish()
        assert await head_of(log) == TreeHead(1, host.now, before.root)

    host.run(test)
    assert host.run(head_of).timestamp == host.now


def test_a_clock_behind_the_newest_head_is_the_environments_fault(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add(log, leaf())
        host.now -= 59_000
        await log.probe()
        host.now -= 2_000
        with pytest.raises(ProbeFailed, match="set the clock") as failed:
            await log.probe()
        assert failed.value.cause == "environment"
        sct = await add(log, host_certificate(1))
        assert sct.timestamp == NOW

    host.run(test)


def test_what_is_measured_tells_the_tree(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(4))

    host.run(test)
    assert host.metrics.gauge("trustchain_ct_tree_size").value == 4
    assert host.metrics.gauge("trustchain_ct_tree_head_timestamp_seconds").value == NOW / 1000
    assert host.count("trustchain_ct_entries_total") == 4
    assert host.metrics.histogram("trustchain_ct_batch_entries").value.sum == 4
    for step in ("commit", "publish"):
        assert host.metrics.histogram("trustchain_ct_storage_seconds", step=step).value.count >= 1


def test_a_caller_who_goes_away_loses_nothing(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        asking = asyncio.ensure_future(add(log, leaf()))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        sct = await add(log, leaf())
        assert sct.leaf_index == 0
        assert (await head_of(log)).size == 1

    host.run(test)
