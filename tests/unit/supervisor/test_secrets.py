"""Where secrets come from, and what is said when they do not."""

import os
import pickle
from pathlib import Path

import pytest

from config.inheritance import SealedSecret
from config.topology import Secret, Service
from supervisor.errors import CONFIGURATION_ERROR, StartError
from supervisor.secrets import MAX_OCTETS, Ask, close_secrets, read_secrets


def unasked(title: str) -> str:
    raise AssertionError(f"nobody is to be asked for {title}")


def read(source: str, ask: Ask = unasked, new_until: str = "") -> bytes:
    """The secret as a worker gets it."""
    secret = Secret(name="word", setting="x.word", source=source, new_until=new_until)
    found = read_secrets([Service(name="x", module="x", secrets=(secret,)), Service(name="y", module="y")], ask)
    assert list(found) == ["x"]
    content = found["x"]["word"].read()
    assert found["x"]["word"].read() == content, "it can be read again"
    close_secrets(found)
    return content


def trouble(source: str, ask: Ask = unasked, new_until: str = "") -> str:
    with pytest.raises(StartError) as caught:
        read(source, ask, new_until)
    assert caught.value.exit_code == CONFIGURATION_ERROR
    assert "hush" not in str(caught.value)
    return str(caught.value)


def pipe(content: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


@pytest.mark.parametrize("content", [b"hush", b"hush\n", b"hush\r\n"])
def test_a_descriptor_is_read_to_its_end_and_closed(content: bytes) -> None:
    descriptor = pipe(content)
    assert read(f"fd:{descriptor}") == b"hush"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_descriptor_that_is_not_open_is_told() -> None:
    assert "cannot be read from the file descriptor 9999" in trouble("fd:9999")


@pytest.mark.parametrize("content", [b"", b"\n", b"hush" * 500])
def test_a_secret_that_is_empty_or_endless_is_told(content: bytes) -> None:
    assert f"1 to {MAX_OCTETS} are possible" in trouble(f"fd:{pipe(content)}")


def test_a_credential_is_a_file_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "pass").write_bytes(b"hush\n")
    assert read("credential:pass") == b"hush"
    assert f"cannot be read from {tmp_path / 'other'}" in trouble("credential:other")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "add LoadCredential=pass:" in trouble("credential:pass")


def test_a_person_is_asked_once_for_a_secret_that_is_in_use(tmp_path: Path) -> None:
    titles: list[str] = []

    def ask(title: str) -> str:
        titles.append(title)
        return "hush"

    assert read("prompt", ask, str(tmp_path)) == b"hush"
    assert titles == ["x.word: "]


def test_a_person_is_asked_twice_for_a_new_secret(tmp_path: Path) -> None:
    answers = iter(["hush", "hush", "hush", "hushh"])
    new_until = str(tmp_path / "not-there")
    assert read("prompt", lambda _: next(answers), new_until) == b"hush"
    assert "was not the same the second time" in trouble("prompt", lambda _: next(answers), new_until)


def test_without_a_terminal_a_person_cannot_be_asked() -> None:
    def ask(_: str) -> str:
        raise OSError(6, "No such device or address")

    assert "there is no terminal" in trouble("prompt", ask)


def test_a_secret_cannot_be_changed_shown_or_written_anywhere() -> None:
    sealed = SealedSecret.of(b"hush")
    assert "hush" not in repr(sealed)
    with pytest.raises(TypeError, match="not written anywhere"):
        pickle.dumps(sealed)
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(sealed._descriptor, b"loud", 0)
    sealed.close()
