"""Whatever octets arrive, the log's parsers return a value or raise their own error, and nothing else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services import der
from services.ct import chain, tiles
from services.ct.chain import AcceptedRoots, ChainPolicy
from services.ct.messages import EntryType, Refusal
from services.der import DerError
from services.rfc6962 import merkle, note, structures
from services.rfc6962.note import NoteError
from services.rfc6962.structures import PrecertEntry, SignedEntry, StructureError, TileLeaf, X509Entry
from services.rfc6962.verifier import LogVerifier
from tests.unit.ct.chains import INTERMEDIATE, ROOT, leaf, precertificate

OCTETS = st.binary(max_size=300)
DIGESTS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, 2**63 - 1)
BODIES = st.binary(min_size=1, max_size=80)
ENTRIES: st.SearchStrategy[SignedEntry] = st.builds(X509Entry, BODIES) | st.builds(PrecertEntry, DIGESTS, BODIES)
ENTRY_TYPES = st.sampled_from(["x509", "precert"])


@st.composite
def tile_leaves(draw: st.DrawFn) -> TileLeaf:
    entry = draw(ENTRIES)
    precert = draw(BODIES) if isinstance(entry, PrecertEntry) else None
    index = draw(st.integers(0, 2**40 - 2))
    return TileLeaf(draw(TIMES), entry, index, precert, tuple(draw(st.lists(DIGESTS, max_size=3))))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Octets with one change: something replaced, cut out, or put in."""
    at = draw(st.integers(0, len(whole)))
    until = draw(st.integers(at, min(len(whole), at + 8)))
    return whole[:at] + draw(st.binary(max_size=8)) + whole[until:]


@given(tile_leaves())
def test_a_tile_leaf_is_read_as_it_was_written(written: TileLeaf) -> None:
    octets = structures.tile_leaf(written)
    assert structures.parse_tile_leaf(b"before" + octets + b"after", 6) == (written, 6 + len(octets))
    timestamp, entry, extensions = structures.parse_merkle_tree_leaf(written.merkle_tree_leaf)
    assert (timestamp, entry) == (written.timestamp, written.entry)
    assert structures.parse_leaf_index(extensions) == written.leaf_index


@given(OCTETS | tile_leaves().map(structures.tile_leaf).flatmap(damaged))
@example(b"")
def test_tile_leaves(octets: bytes) -> None:
    try:
        parsed, end = structures.parse_tile_leaf(octets)
    except StructureError:
        return
    assert structures.tile_leaf(parsed) == octets[:end]
    timestamped, leaf_end = structures.tile_leaf_ends(octets)
    assert (structures.LEAF_PREFIX + octets[:timestamped], leaf_end) == (parsed.merkle_tree_leaf, end)


@given(OCTETS | tile_leaves().map(lambda each: each.merkle_tree_leaf).flatmap(damaged))
def test_merkle_tree_leaves(octets: bytes) -> None:
    try:
        timestamp, entry, extensions = structures.parse_merkle_tree_leaf(octets)
    except StructureError:
        return
    assert structures.merkle_tree_leaf(timestamp, structures.signed_entry(entry), extensions) == octets


@given(OCTETS | st.lists(tile_leaves().map(structures.tile_leaf), max_size=4).map(b"".join).flatmap(damaged))
def test_data_tiles(octets: bytes) -> None:
    try:
        entries = [entry for entry, _ in tiles.split_data_tile(octets)]
    except StructureError:
        return
    assert b"".join(entries) == octets


@given(st.lists(tile_leaves(), max_size=4))
def test_a_data_tile_is_cut_into_its_entries_and_their_hashes(leaves: list[TileLeaf]) -> None:
    octets = [structures.tile_leaf(leaf) for leaf in leaves]
    hashes = [merkle.leaf_hash(leaf.merkle_tree_leaf) for leaf in leaves]
    assert list(tiles.split_data_tile(b"".join(octets))) == list(zip(octets, hashes, strict=True))


@given(OCTETS)
@example(bytes.fromhex("0403000130"))
@example(b"\x00" + bytes(32) + bytes(8) + b"\x00\x00" + bytes.fromhex("0403000130"))
def test_scts_and_signatures(octets: bytes) -> None:
    for parse in (structures.parse_sct, structures.parse_digitally_signed, structures.parse_leaf_index):
        try:
            parse(octets)
        except StructureError:
            continue
    try:
        parsed = structures.parse_sct(octets)
    except StructureError:
        return
    assert structures.sct(parsed) == octets


NOTES = st.builds(
    lambda text, name, signature: f"{text}\n\n— {name} {signature}\n".encode(),
    st.text(max_size=20),
    st.text(max_size=8),
    st.text(alphabet="ABab01+/=", max_size=20),
)


@given(OCTETS | NOTES)
@example(b"a\n\n\xe2\x80\x94 b AAAAAAA=\n")
@example(b"\n\n")
def test_notes(octets: bytes) -> None:
    try:
        parsed = note.parse(octets)
    except NoteError:
        return
    assert note.encode(parsed) == octets


@given(
    st.text(max_size=60) | st.builds("{}\n{}\n{}\n".format, st.text(max_size=9), st.integers(), st.text(max_size=50))
)
@example("a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
def test_checkpoints(text: str) -> None:
    try:
        parsed = note.parse_checkpoint(text)
    except NoteError:
        return
    assert note.checkpoint_text(parsed) == text


@given(OCTETS | damaged(leaf()))
@example(leaf())
def test_der(octets: bytes) -> None:
    try:
        element = der.whole(octets, der.SEQUENCE)
        inside = der.members(element)
    except DerError:
        return
    assert der.encode(der.SEQUENCE, b"".join(each.octets for each in inside)) == octets


@given(st.lists(OCTETS | damaged(precertificate()) | damaged(leaf()) | damaged(INTERMEDIATE), max_size=3), ENTRY_TYPES)
@example([precertificate(), INTERMEDIATE], "precert")
@example([], "x509")
@example([b""], "x509")
def test_chains(certificates: list[bytes], entry_type: EntryType) -> None:
    policy = ChainPolicy(AcceptedRoots([ROOT]))
    try:
        accepted = policy.accept(certificates, entry_type)
    except Refusal:
        return
    assert accepted.issuers[-1] == ROOT


@given(OCTETS | damaged(ROOT))
def test_roots(octets: bytes) -> None:
    roots = AcceptedRoots()
    try:
        roots.add(octets)
    except Refusal:
        assert len(roots) == 0
        return
    assert roots.certificates == [octets]


@given(OCTETS | damaged(precertificate()))
def test_precertificates(octets: bytes) -> None:
    try:
        chain.tbs_without_poison(octets)
    except Refusal:
        return


@given(OCTETS)
def test_keys_of_logs(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is not a public key|the key of a log"):
        LogVerifier.of(octets)
