"""Precedence, directories, and every kind of error text."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from config.keys import KEYS
from config.loader import ConfigError, Loaded, load

HOME = {"HOME": "/home/operator"}
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `t.toml` into the working directory, and gives its relative path."""
    monkeypatch.chdir(tmp_path)

    def written(content: str | bytes) -> Path:
        Path("t.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return Path("t.toml")

    return written


def refused(
    file: Path | None = None, *overrides: str, mode: str | None = None, environ: Mapping[str, str] = HOME
) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(file, mode, None, overrides, environ)
    assert str(error.value).splitlines() == [str(problem) for problem in error.value.problems]
    return str(error.value).splitlines()


# -- precedence


@pytest.mark.parametrize(
    ("file", "mode", "overrides", "value", "origin"),
    [
        ("", None, [], 1.0, "default"),
        ("", "production", [], 10.0, "mode production"),
        ('mode = "production"', None, [], 10.0, "mode production"),
        ('mode = "production"', "development", [], 1.0, "default"),
        ('mode = "production"\n[monitoring]\ncollection_interval = 2', None, [], 2.0, "t.toml:3"),
        ("monitoring.collection_interval = 2", "production", [], 2.0, "t.toml:1"),
        ("monitoring.collection_interval = 2", None, ["monitoring.collection_interval=3"], 3.0, "--set"),
        ("", "production", ["monitoring.collection_interval=3", "monitoring.collection_interval=4"], 4.0, "--set"),
        ("", "development", ["mode=production"], 10.0, "mode production"),
    ],
)
def test_the_later_layer_wins_and_is_named(
    write: Write, file: str, mode: str | None, overrides: list[str], value: float, origin: str
) -> None:
    loaded = load(write(file), mode, None, overrides, HOME)
    assert loaded.settings.monitoring.collection_interval == value
    assert loaded.origins["monitoring.collection_interval"] == origin


def test_every_key_has_an_origin() -> None:
    assert list(load(environ=HOME).origins) == list(KEYS)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ('ca.name="Example CA"', "Example CA"),
        ("ca.name=Example CA", "Example CA"),
        ("ca.name= 'Example CA' ", "Example CA"),
        ("ca.name=2026", "2026"),
        ("ca.name=true", "true"),
        ("ca.name=a=b", "a=b"),
        ('ca.name="unfinished', '"unfinished'),
    ],
)
def test_an_override_is_a_toml_value_or_else_bare_text(override: str, value: str) -> None:
    assert load(overrides=[override], environ=HOME).settings.ca.name == value


def test_an_override_may_be_a_list_or_a_whole_section() -> None:
    overrides = ['api.names=["a.example", "192.0.2.1"]', "monitoring.alert_thresholds={max_memory_mb = 512}"]
    settings = load(overrides=overrides, environ=HOME).settings
    assert settings.api.names == ("a.example", "192.0.2.1")
    assert settings.monitoring.alert_thresholds.max_memory_mb == 512.0
    assert settings.monitoring.alert_thresholds.min_success_rate == 0.95


def test_an_override_cannot_say_a_second_key() -> None:
    assert refused(None, "api.port=1\ndomain=2") == [
        '--set: api.port: found "1\\ndomain=2", expected an integer from 1 to 65535'
    ]


# -- directories


def directories(loaded: Loaded) -> tuple[str, str, str, str]:
    server = loaded.settings.server
    return (
        server.data_dir,
        loaded.origins["server.data_dir"],
        server.runtime_dir,
        loaded.origins["server.runtime_dir"],
    )


SYSTEMD = {"STATE_DIRECTORY": "/var/lib/other:/var/lib/more", "RUNTIME_DIRECTORY": "/run/other"}


@pytest.mark.parametrize(
    ("mode", "environ", "expected"),
    [
        ("development", HOME, ("/home/operator/.local/state/trustchain", "default", "run", "inside server.data_dir")),
        (
            "development",
            HOME | {"XDG_STATE_HOME": "/state"},
            ("/state/trustchain", "environment XDG_STATE_HOME", "run", "inside server.data_dir"),
        ),
        (
            "development",
            HOME | {"XDG_STATE_HOME": "relative"} | SYSTEMD,
            ("/home/operator/.local/state/trustchain", "default", "run", "inside server.data_dir"),
        ),
        ("production", {}, ("/var/lib/trustchain", "mode production", "/run/trustchain", "mode production")),
        (
            "production",
            SYSTEMD,
            ("/var/lib/other", "environment STATE_DIRECTORY", "/run/other", "environment RUNTIME_DIRECTORY"),
        ),
    ],
)
def test_default_directories(mode: str, environ: Mapping[str, str], expected: tuple[str, str, str, str]) -> None:
    data, data_origin, runtime, runtime_origin = expected
    runtime = runtime if runtime.startswith("/") else f"{data}/{runtime}"
    assert directories(load(None, mode, environ=environ)) == (data, data_origin, runtime, runtime_origin)


def test_a_data_dir_on_the_command_line_has_its_sockets_inside_even_in_production() -> None:
    loaded = load(None, "production", Path("/srv/two"), environ=SYSTEMD)
    assert directories(loaded) == ("/srv/two", "--data-dir", "/srv/two/run", "inside server.data_dir")
    loaded = load(None, "production", Path("/srv/two"), ["server.runtime_dir=/run/two"], environ=SYSTEMD)
    assert directories(loaded) == ("/srv/two", "--data-dir", "/run/two", "--set")


def test_a_data_dir_in_the_file_keeps_the_runtime_directory_of_the_unit(write: Write) -> None:
    file = write('[server]\ndata_dir = "/srv/one"')
    assert directories(load(file, "production", environ=SYSTEMD)) == (
        "/srv/one",
        "t.toml:2",
        "/run/other",
        "environment RUNTIME_DIRECTORY",
    )


def test_a_relative_directory_is_meant_from_the_folder_of_the_file_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "t.toml").write_text('[server]\ndata_dir = "../data"\nruntime_dir = "~/run"')
    monkeypatch.chdir(tmp_path)
    server = load(Path("etc/t.toml"), environ=HOME).settings.server
    assert (server.data_dir, server.runtime_dir) == (str(tmp_path / "data"), "/home/operator/run")
    assert load(None, None, Path("data"), environ=HOME).settings.server.data_dir == str(tmp_path / "data")


def test_all_names_of_one_data_directory_lead_to_one_block(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    paths = [load(None, None, tmp_path / name, environ=HOME).settings.paths for name in ("real", "link", "x/../real")]
    assert len({path.block_name for path in paths}) == 1


def test_without_a_home_directory_a_data_directory_must_be_given() -> None:
    assert refused(environ={}) == [
        "default: server.data_dir: found no HOME in the environment, expected a directory, given by --data-dir"
    ]
    assert load(None, None, Path("/srv/two"), environ={}).settings.server.data_dir == "/srv/two"
    assert refused(None, "server.data_dir=~/x", environ={}) == [
        '--set: server.data_dir: found "~/x" but no HOME in the environment, expected an absolute path'
    ]


# -- error texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "[supervisor]\n\nheartbeat_timout = 3",
            (
                "t.toml:3: supervisor.heartbeat_timout: found an unknown key, expected a key of [supervisor];"
                " did you mean supervisor.heartbeat_timeout?"
            ),
        ),
        (
            "[monitor]",
            (
                "t.toml:1: monitor: found an unknown key, expected a section or key of the configuration;"
                " did you mean monitoring?"
            ),
        ),
        (
            "[api]\nretention_seconds = 60",
            (
                "t.toml:2: api.retention_seconds: found an unknown key, expected a key of [api];"
                " did you mean monitoring.retention_seconds?"
            ),
        ),
        ("[log]\nqqq = 60", "t.toml:2: log.qqq: found an unknown key, expected a key of [log]"),
        (
            '"api.port" = 1',
            (
                "t.toml:1: api.port: found an unknown key, expected a section or key of the configuration;"
                " did you mean api.port?"
            ),
        ),
        ("api = 5", "t.toml:1: api: found 5, expected a section [api]"),
        ("[[api]]\nport = 1", "t.toml:1: api: found [a table], expected a section [api]"),
        ("[api]\nport = 0", "t.toml:2: api.port: found 0, expected an integer from 1 to 65535"),
        ("[api]\nport = 8443.0", "t.toml:2: api.port: found 8443.0, expected an integer from 1 to 65535"),
        ('[api]\nport = "8443"', 't.toml:2: api.port: found "8443", expected an integer from 1 to 65535'),
        ("[api]\nport = true", "t.toml:2: api.port: found true, expected an integer from 1 to 65535"),
        ("[api.port]\na = 1", "t.toml:1: api.port: found a table, expected an integer from 1 to 65535"),
        (
            f"[api]\nport = 0x{'f' * 4000}",
            "t.toml:2: api.port: found an integer of 16000 bits, expected an integer from 1 to 65535",
        ),
        (
            "[supervisor]\nperiod = nan",
            "t.toml:2: supervisor.period: found nan, expected a number from 0.1 to 86400 (seconds)",
        ),
        (
            "[supervisor]\nperiod = 1979-05-27",
            "t.toml:2: supervisor.period: found 1979-05-27, expected a number from 0.1 to 86400 (seconds)",
        ),
        ("[supervisor]\ndrills = 1", "t.toml:2: supervisor.drills: found 1, expected true or false"),
        ('mode = "test"', 't.toml:1: mode: found "test", expected one of "development", "production"'),
        (
            '[server]\ndomain = "Trust.Example"',
            't.toml:2: server.domain: found "Trust.Example", expected a DNS name in lower case such as "corp.internal"',
        ),
        (
            '[monitoring]\naddresses = [\n  "::1",\n  "::1",\n]',
            (
                't.toml:2: monitoring.addresses: found ["::1", "::1"], expected a list of 1 to 16 different values,'
                ' each an IP address in its shortest form such as "127.0.0.1" or "::1"'
            ),
        ),
        (
            '[ca]\nallowed_names = ["*.example"]',
            (
                't.toml:2: ca.allowed_names: found ["*.example"], expected a list of at most 256 different values,'
                ' each a DNS name in lower case or an IP network such as "corp.internal" or "10.0.0.0/8"'
            ),
        ),
        (
            '[ca]\nname = " x"',
            't.toml:2: ca.name: found " x", expected a text of 1 to 48 printable characters without space around it',
        ),
        (
            f'[ca]\nname = "{"x" * 200}"',
            (
                f't.toml:2: ca.name: found "{"x" * 40}"... (200 characters),'
                " expected a text of 1 to 48 printable characters without space around it"
            ),
        ),
        (
            '[server]\ndata_dir = "/a\\u0000b"',
            't.toml:2: server.data_dir: found "/a\\u0000b", expected the path of a directory',
        ),
        (
            "[api]\n\nport = 1 2",
            (
                "t.toml:3: found a syntax error (expected newline or end of document after a statement, column 10),"
                " expected valid TOML"
            ),
        ),
        ("a = " + "[" * 1000, "t.toml: found a document that is nested too deeply, expected fewer brackets"),
        ("a = " + "9" * 5000, "t.toml: found an integer of more than 4300 digits, expected a smaller one"),
        (b"\n# caf\xe9", "t.toml:2: found byte 0xe9, expected UTF-8 text"),
        (b"#" * 1_048_577, "t.toml: found a larger file, expected at most 1048576 bytes"),
    ],
)
def test_a_wrong_file_gets_this_text(write: Write, content: str | bytes, expected: str) -> None:
    assert refused(write(content)) == [expected]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml") == [
        f"{tmp_path}/none.toml: found that it cannot be read (No such file or directory), expected a readable TOML file"
    ]
    assert refused(tmp_path) == [
        f"{tmp_path}: found that it cannot be read (Is a directory), expected a readable TOML file"
    ]
    assert len(refused(Path("a\0b"))) == 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("api.port", '--set: found "api.port", expected section.key=value'),
        ("=5", '--set: found "=5", expected section.key=value'),
        ("api.port=", '--set: api.port: found "", expected an integer from 1 to 65535'),
        (
            "api.prt=5",
            "--set: api.prt: found an unknown key, expected a key of [api]; did you mean api.port?",
        ),
        ("api=5", "--set: api: found 5, expected a section [api]"),
        ("api.port.x=5", "--set: api.port: found a table, expected an integer from 1 to 65535"),
    ],
)
def test_a_wrong_override_gets_this_text(override: str, expected: str) -> None:
    assert refused(None, override) == [expected]


def test_a_wrong_mode_is_refused() -> None:
    assert refused(mode="prod") == ['--mode: mode: found "prod", expected one of "development", "production"']


def test_everything_wrong_is_reported_at_once(write: Write) -> None:
    file = write("[api]\nport = 0\nbody_timeout = 20\nfoo = 1\n[supervisor]\nheartbeat_timeout = false")
    assert refused(file, "monitoring.port=x", "supervisor.heartbeat_interval=9") == [
        "t.toml:4: api.foo: found an unknown key, expected a key of [api]",
        "t.toml:2: api.port: found 0, expected an integer from 1 to 65535",
        "t.toml:6: supervisor.heartbeat_timeout: found false, expected a number from 0.1 to 600 (seconds)",
        '--set: monitoring.port: found "x", expected an integer from 1 to 65535',
        "t.toml:3: api.body_timeout: found 20, expected at most api.request_timeout, which is 10",
    ]


def test_what_an_override_mends_is_no_problem(write: Write) -> None:
    assert load(write("[api]\nport = 0"), None, None, ["api.port=9443"], HOME).settings.api.port == 9443


def test_a_contradiction_with_a_default_is_placed_where_something_was_said(write: Write) -> None:
    assert refused(write("\n[supervisor]\nheartbeat_interval = 4")) == [
        (
            "t.toml:3: supervisor.heartbeat_timeout: found 5,"
            " expected more than twice supervisor.heartbeat_interval, which is 4"
        )
    ]


def test_a_flood_of_wrong_keys_is_counted(write: Write) -> None:
    file = write("\n".join(f"k{number} = 1" for number in range(20_000)))
    with pytest.raises(ConfigError) as error:
        load(file, environ=HOME)
    lines = str(error.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "and 19950 more"
