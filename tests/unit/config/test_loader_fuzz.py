"""Whatever is in the file and on the command line: settings, or ConfigError, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import config
from config.keys import ALL_PATHS
from config.layers import document_layer
from config.loader import ConfigError, Loaded, load
from config.problems import as_toml

ENVIRON = {"HOME": "/home/operator"}
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "~", "~/x", "::1", "a.example", "production", "json", "/x", "\0", "\n"]
)
SCALARS = st.booleans() | st.integers() | st.integers(0, 100_000) | st.floats() | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
WORDS = st.sampled_from(sorted({word for path in ALL_PATHS for word in path.split(".")})) | st.text(max_size=8)


def toml_document(values: Mapping[tuple[str, ...], object]) -> str:
    return "\n".join(f"{'.'.join(map(as_toml, path))} = {as_toml(value)}" for path, value in values.items())


VALID = st.sampled_from(ALL_PATHS).map(lambda path: tuple(path.split(".")))
INVENTED = st.tuples(WORDS) | st.tuples(WORDS, WORDS) | st.tuples(WORDS, WORDS, WORDS)
DOCUMENTS = st.dictionaries(VALID | INVENTED, VALUES, max_size=8).map(toml_document)
OVERRIDES = st.text(max_size=30) | st.tuples(st.sampled_from(ALL_PATHS), VALUES.map(as_toml) | TEXTS).map("=".join)
MODES = st.none() | st.sampled_from(["development", "production"]) | st.text(max_size=5)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "t.toml"


def settings_or_config_error(file: Path | None, overrides: list[str], mode: str | None = None) -> Loaded | None:
    try:
        return load(file, mode, None, overrides, ENVIRON)
    except ConfigError as error:
        refusal = error
    assert refusal.problems
    assert str(refusal)
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | DOCUMENTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_gives_settings_or_a_config_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    loaded = settings_or_config_error(file, [])
    if loaded:
        assert Path(loaded.settings.server.data_dir).is_absolute()


DEFAULT = (Path(config.__file__).parent / "production.toml").read_bytes()


@given(st.integers(0, len(DEFAULT)), st.integers(0, 20), st.binary(max_size=10))
def test_a_damaged_file_gives_a_layer(start: int, length: int, replacement: bytes) -> None:
    damaged = DEFAULT[:start] + replacement + DEFAULT[start + length :]
    layer = document_layer(damaged, "t.toml")
    assert all(entry.origin.startswith("t.toml:") for entry in layer.entries.values())
    assert all(str(problem).startswith("t.toml") for problem in layer.problems)


@given(st.lists(OVERRIDES, max_size=4), MODES)
def test_any_override_gives_settings_or_a_config_error(overrides: list[str], mode: str | None) -> None:
    settings_or_config_error(None, overrides, mode)


WRITABLE = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXTS


@given(WRITABLE | st.lists(WRITABLE, max_size=3))
def test_a_value_as_toml_reads_back_as_itself(value: object) -> None:
    layer = document_layer(f"ca.name = {as_toml(value)}".encode(), "t.toml")
    assert not layer.problems
    assert repr(layer.entries["ca.name"].value) == repr(value)
