"""Every tile has one path, and every path is one tile or none (C2SP tlog-tiles)."""

import pytest

from services.api.tile_paths import (
    FULL_WIDTH,
    MAX_LEVEL,
    Tile,
    format_tile,
    parse_fingerprint,
    parse_level,
    parse_tile,
)
from services.ct.messages import MAX_TREE_SIZE

PATHS = {
    "000": Tile(0, 256),
    "999": Tile(999, 256),
    "x001/000": Tile(1000, 256),
    "x001/x234/067": Tile(1_234_067, 256),  # the example of tlog-tiles
    "x001/x234/067.p/8": Tile(1_234_067, 8),
    "000.p/1": Tile(0, 1),
    "000.p/255": Tile(0, 255),
    "x001/x099/x511/x627/775": Tile(MAX_TREE_SIZE, 256),
}


@pytest.mark.parametrize(("path", "tile"), PATHS.items())
def test_a_path_is_a_tile_and_the_tile_that_path(path: str, tile: Tile) -> None:
    assert parse_tile(path) == tile
    assert format_tile(tile) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "00",
        "0000",
        "1000",
        "x000",
        "x000/001",
        "001/000",
        "x001/x000",
        "X001/000",
        "x001//000",
        "/000",
        "000/",
        "000.p",
        "000.p/",
        "000.p/0",
        "000.p/01",
        "000.p/256",
        "000.p/1000",
        "000.p/-1",
        "000.p/1/",
        "000.P/1",
        "x001.p/1/000",
        "x001/x099/x511/x627/776",
        "x001/x000/x000/x000/x000/000",
        "+00",
        " 000",
        "000\n",
        "٠٠٠",
        "00%30",
        "../000",
    ],
)
def test_what_is_written_otherwise_is_no_tile(path: str) -> None:
    assert parse_tile(path) is None


def test_a_level_is_one_digit() -> None:
    assert [parse_level(str(level)) for level in range(MAX_LEVEL + 1)] == list(range(MAX_LEVEL + 1))
    assert {parse_level(text) for text in ("", "6", "00", "-1", "data", "٣", "x", "1\n")} == {None}


def test_a_fingerprint_is_64_lower_case_digits() -> None:
    assert parse_fingerprint("0a" * 32) == b"\x0a" * 32
    assert {
        parse_fingerprint(t) for t in ("", "0A" * 32, "0a" * 31, "0a" * 33, "0a" * 31 + "0g", "0a" * 32 + "\n")
    } == {None}


def test_a_full_tile_has_256_hashes() -> None:
    assert FULL_WIDTH == 256
