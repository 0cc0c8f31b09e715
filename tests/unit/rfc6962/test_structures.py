"""Structures refuse what they cannot hold."""

import pytest

from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, Sct, StructureError, TileLeaf, X509Entry

PRECERT = PrecertEntry(bytes(32), b"tbs")
CERTIFICATE = X509Entry(b"certificate")


def test_an_entry_is_laid_out_as_rfc_6962_has_it() -> None:
    """Section 3.4, word for word: version, leaf type, timestamp, entry type, entry, extensions."""
    leaf = structures.merkle_tree_leaf(5, structures.signed_entry(PRECERT), b"ext")
    assert leaf == b"\x00\x00" + (5).to_bytes(8, "big") + b"\x00\x01" + bytes(32) + b"\x00\x00\x03tbs" + b"\x00\x03ext"
    leaf = structures.merkle_tree_leaf(5, structures.signed_entry(CERTIFICATE), b"")
    assert leaf == b"\x00\x00" + (5).to_bytes(8, "big") + b"\x00\x00" + b"\x00\x00\x0bcertificate" + b"\x00\x00"


def test_what_is_signed_is_laid_out_as_rfc_6962_has_it() -> None:
    """Sections 3.2 and 3.5: an SCT and a tree head can never be taken for one another."""
    entry = structures.signed_entry(CERTIFICATE)
    assert structures.sct_signed_data(1, entry, b"")[:2] == b"\x00\x00"
    head = structures.tree_head_signed_data(1, 2, bytes(32))
    assert head == b"\x00\x01" + (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + bytes(32)


def test_extra_data_is_laid_out_as_rfc_6962_has_it() -> None:
    """Section 4.6: a list with its length, of certificates with theirs; a precertificate before it."""
    assert structures.chain_extra_data([]) == b"\x00\x00\x00"
    assert structures.chain_extra_data([b"a", b"bc"]) == b"\x00\x00\x09\x00\x00\x01a\x00\x00\x02bc"
    assert structures.precert_extra_data(b"pre", [b"a"]) == b"\x00\x00\x03pre\x00\x00\x04\x00\x00\x01a"


@pytest.mark.parametrize(
    ("entry", "precertificate", "chain"),
    [(PRECERT, None, ()), (CERTIFICATE, b"pre", ()), (CERTIFICATE, None, (b"short",))],
)
def test_parts_that_do_not_belong_together_do_not_construct(
    entry: PrecertEntry | X509Entry, precertificate: bytes | None, chain: tuple[bytes, ...]
) -> None:
    with pytest.raises(StructureError):
        TileLeaf(0, entry, 0, precertificate, chain)


def test_a_key_hash_of_another_length_does_not_construct() -> None:
    with pytest.raises(StructureError):
        PrecertEntry(bytes(31), b"tbs")


@pytest.mark.parametrize("index", [-1, 2**40 - 1, 2**40])
def test_an_index_that_no_leaf_can_have_is_refused(index: int) -> None:
    with pytest.raises(StructureError):
        structures.leaf_index_extension(index)


@pytest.mark.parametrize("timestamp", [-1, 2**63])
def test_a_timestamp_beyond_any_clock_is_refused(timestamp: int) -> None:
    with pytest.raises(StructureError):
        structures.merkle_tree_leaf(timestamp, b"", b"")


def test_what_does_not_fit_its_length_is_refused() -> None:
    with pytest.raises(StructureError):
        structures.signed_entry(X509Entry(bytes(1 << 24)))
    with pytest.raises(StructureError):
        structures.digitally_signed(bytes(1 << 16))


def test_an_sct_with_a_log_id_of_another_length_is_not_written() -> None:
    with pytest.raises(StructureError):
        structures.sct(Sct(bytes(31), 0, b"", bytes.fromhex("0403000130")))


@pytest.mark.parametrize("head", [(-1, 0, bytes(32)), (0, 2**40, bytes(32)), (0, -1, bytes(32)), (0, 0, bytes(31))])
def test_a_head_that_no_tree_has_is_not_signed(head: tuple[int, int, bytes]) -> None:
    with pytest.raises(StructureError):
        structures.tree_head_signed_data(*head)


def test_a_list_is_read_as_it_was_written() -> None:
    for scts in ((b"a", b"bc"), (bytes(65_533),)):
        assert structures.parse_sct_list(structures.sct_list(scts)) == scts


@pytest.mark.parametrize(
    "octets", ["", "00", "0000", "0001", "000100", "00020000", "0003000241", "0004000141", "0003000141ff", "00030001"]
)
def test_what_is_no_list_is_refused(octets: str) -> None:
    with pytest.raises(StructureError):
        structures.parse_sct_list(bytes.fromhex(octets))


@pytest.mark.parametrize("scts", [[], [b""], [b"a", b""], [bytes(65_534)]])
def test_what_cannot_be_a_list_is_refused(scts: list[bytes]) -> None:
    with pytest.raises(StructureError):
        structures.sct_list(scts)


def test_octets_that_a_log_signs_are_those_of_rfc_6962() -> None:
    """Section 3.2: version, signature type, timestamp, entry type, issuer key hash, TBSCertificate, extensions."""
    signed = structures.sct_signed_data(
        0x0102030405060708, structures.signed_entry(PrecertEntry(b"\xaa" * 32, b"tbs")), b"ext"
    )
    assert signed.hex() == "000001020304050607080001" + "aa" * 32 + "0000037462730003657874"
