"""Bearer tokens: who holds one, and what happens to the file of the administrator's."""

import os
import stat
from pathlib import Path

import pytest

from services.api.tokens import TokenHolders, load, load_or_create, new_token
from services.errors import ConfigurationError

TOKEN = "a" * 43


def test_a_first_start_creates_a_token_that_only_the_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "data" / "admin.token"
    token = load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == token + "\n"
    assert len(token) >= 43


def test_later_starts_use_the_same_token_and_leave_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    assert load_or_create(path) == load_or_create(path)
    assert os.listdir(tmp_path) == ["admin.token"]


def test_a_left_over_of_a_crash_does_not_prevent_the_creation_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".admin.token.0123.unfinished").write_text("half a tok")
    assert len(load_or_create(tmp_path / "admin.token")) >= 43
    assert os.listdir(tmp_path) == ["admin.token"]


def test_an_operators_own_token_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text(f"  {TOKEN}\n\n")
    path.chmod(0o400)
    assert load_or_create(path) == TOKEN


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"two words " * 8, b"\xff" * 64, b"a" * 300, b"\x00" * 64])
def test_a_file_without_a_token_is_refused_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no token: delete it"):
        load_or_create(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o610, 0o604, 0o602])
def test_a_token_that_is_open_to_others_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "admin.token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        load(path)


def test_error_texts_never_hold_the_token(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text(TOKEN + "!")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert TOKEN not in str(caught.value)


def test_a_holder_is_found_by_exactly_the_token() -> None:
    first, second = new_token(), new_token()
    holders = TokenHolders({"administrator": first, "probe": second})
    assert holders.holder_of(first) == "administrator"
    assert holders.holder_of(second) == "probe"
    for wrong in ("", first[:-1], first + "x", first.swapcase(), "ünïcödé", "\udc80"):
        assert holders.holder_of(wrong) is None


def test_tokens_are_not_kept_in_readable_form() -> None:
    assert TOKEN not in repr(vars(TokenHolders({"administrator": TOKEN})))
