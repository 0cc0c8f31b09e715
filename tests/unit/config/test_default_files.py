"""default.toml and production.toml agree with the schema, in both directions."""

import re
from pathlib import Path

import pytest
import tomli

import config
from config.keys import KEYS
from config.loader import load
from config.problems import as_toml
from config.schema import MODE_DEFAULTS

FOLDER = Path(config.__file__).parent
DEFAULT = (FOLDER / "default.toml").read_text()
PRODUCTION = FOLDER / "production.toml"
HOME = {"HOME": "/home/operator"}
SETTING = re.compile(r"^#(?=[a-z_0-9]+ = )", re.MULTILINE)


def flat(document: dict[str, object], prefix: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in document.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return values


def said_by_default() -> dict[str, object]:
    return flat(tomli.loads(SETTING.sub("", DEFAULT)))


def annotations() -> dict[str, str]:
    """The comment above each setting of default.toml, by key path."""
    comments: dict[str, str] = {}
    section, comment = "", ""
    for line in DEFAULT.splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]") + ".", ""
        elif line.startswith("# "):
            comment += line[1:]
        elif setting := re.match(r"#([a-z_0-9]+) = ", line):
            comments[section + setting[1]] = comment
            comment = ""
        else:
            assert line in {"", "#"}, line
            comment = "" if not line else comment
    return comments


def test_default_toml_says_every_key_of_the_schema_in_its_order_and_no_other() -> None:
    assert list(said_by_default()) == list(KEYS)


@pytest.mark.parametrize("path", [path for path, key in KEYS.items() if not key.is_directory])
def test_default_toml_gives_the_default_of_the_schema(path: str) -> None:
    said = said_by_default()[path]
    assert KEYS[path].judged(said) == KEYS[path].default
    assert as_toml(said) == as_toml(KEYS[path].default), "spelled like the type of the schema"


@pytest.mark.parametrize("path", KEYS)
def test_default_toml_explains_every_key(path: str) -> None:
    assert len(annotations()[path].split()) >= 4


def test_default_toml_says_what_production_changes() -> None:
    notes = annotations()
    for path, value in MODE_DEFAULTS["production"].items():
        assert f"Production: {as_toml(value)}" in notes[path]
    said = {path for path, note in notes.items() if "Production: " in note}
    assert said == set(MODE_DEFAULTS["production"])


def test_default_toml_as_it_is_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "copy.toml"
    file.write_text(DEFAULT)
    for mode in ("development", "production"):
        assert load(file, mode, environ=HOME).settings == load(None, mode, environ=HOME).settings


def test_default_toml_uncommented_is_what_development_does(tmp_path: Path) -> None:
    file = tmp_path / "copy.toml"
    file.write_text(SETTING.sub("", DEFAULT))
    assert load(file, environ=HOME).settings == load(environ=HOME).settings


def test_production_toml_is_what_production_does() -> None:
    assert load(PRODUCTION, environ={}).settings == load(None, "production", environ={}).settings


def test_every_value_in_production_toml_is_in_effect() -> None:
    loaded = load(PRODUCTION, environ={"STATE_DIRECTORY": "/elsewhere", "RUNTIME_DIRECTORY": "/elsewhere"})
    said = flat(tomli.loads(PRODUCTION.read_text()))
    assert said["mode"] == "production"
    for path, value in said.items():
        assert loaded.origins[path].startswith(f"{PRODUCTION}:"), path
        effective: object = loaded.settings
        for name in path.split("."):
            effective = getattr(effective, name)
        assert effective == KEYS[path].judged(value)


def test_each_mode_changes_only_keys_that_exist_to_values_that_they_take() -> None:
    for changes in MODE_DEFAULTS.values():
        for path, value in changes.items():
            assert KEYS[path].judged(value) == value
