"""Certificate profiles: the shipped files, the operator's own, and what a wrong one gets."""

from pathlib import Path

import msgspec
import pytest
import tomli
from hypothesis import example, given
from hypothesis import strategies as st

from config.keys import keys_of
from config.loader import load
from config.problems import MAX_SHOWN, ConfigError
from config.profile_files import MAX_FILE_BYTES, MAX_PROFILES, SHIPPED, load_profiles
from config.profile_parsing import PROFILE, parse_profile
from config.profile_schema import NamedProfile
from config.schema import Ca, Server, Settings

GOOD = 'description = "mine"\nextended_key_usages = ["clientAuth"]\n'


def settings(data_dir: Path, **ca: object) -> Settings:
    return Settings(
        server=Server(data_dir=str(data_dir), runtime_dir=str(data_dir / "run")),
        ca=Ca(**ca),  # type: ignore[arg-type] # settings by name
    )


def own(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"{name.replace('_', '-')}.toml").write_text(text)
    return directory


def said(text: str) -> str:
    """What is wrong with a profile."""
    with pytest.raises(ConfigError) as caught:
        parse_profile(text.encode(), "mine", "mine.toml")
    return str(caught.value)


def test_the_shipped_profiles_are_those_that_have_always_been(tmp_path: Path) -> None:
    profiles = load_profiles(settings(tmp_path))
    assert sorted(profiles) == ["tls-client", "tls-server", "tls-server-client"]
    assert profiles["tls-server"].document.extended_key_usages == ("serverAuth",)
    assert profiles["tls-server"].document.names.kinds == ("dns", "ip")
    assert profiles["tls-server-client"].document.names.kinds == ("dns", "ip", "email", "uri")


def test_the_explained_profile_says_every_key_with_its_default() -> None:
    """tls-server.toml is the documentation: what it writes out changes nothing, and nothing is missing."""
    text = (SHIPPED / "tls-server.toml").read_text()
    written = parse_profile(text.encode(), "x", "x").document
    short = f'description = "{written.description}"\nextended_key_usages = ["serverAuth"]\n'
    assert written == parse_profile(short.encode(), "x", "x").document
    said_keys = set()
    for section, values in {"": tomli.loads(text), **tomli.loads(text)}.items():
        if isinstance(values, dict):
            said_keys |= {f"{section}.{name}" if section else name for name in values}
    commented = {f"validity.{name}" for name in ("default", "max", "backdate") if f"#{name} = " in text}
    assert {key.path for key in keys_of(PROFILE)} <= said_keys | commented


def test_a_profile_of_the_operators_own_is_added_and_one_with_a_shipped_name_replaces_it(tmp_path: Path) -> None:
    directory = own(tmp_path / "profiles", mine=GOOD, tls_server=GOOD)
    (directory / "mine.toml.bak").write_text("not read")
    (directory / ".hidden.toml").write_text("not read")
    profiles = load_profiles(settings(tmp_path, profiles_dir=str(directory)))
    assert sorted(profiles) == ["mine", "tls-client", "tls-server", "tls-server-client"]
    assert profiles["tls-server"].document.extended_key_usages == ("clientAuth",)
    assert profiles["mine"].place == str(directory / "mine.toml")


def test_the_directory_inside_the_data_directory_is_looked_at_when_no_other_is_set(tmp_path: Path) -> None:
    own(tmp_path / "ca" / "profiles", mine=GOOD)
    elsewhere = own(tmp_path / "elsewhere")
    assert "mine" in load_profiles(settings(tmp_path))
    assert "mine" not in load_profiles(settings(tmp_path, profiles_dir=str(elsewhere)))


def test_everything_that_is_wrong_in_all_files_is_told_at_once(tmp_path: Path) -> None:
    own(tmp_path / "ca" / "profiles", first=GOOD + 'key_type = "rsa"\n', second="nonsense", Third=GOOD)
    with pytest.raises(ConfigError) as caught:
        load_profiles(settings(tmp_path, default_profile="fourth"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any("first.toml:3: key_type: found an unknown key" in line and "key_types?" in line for line in lines)
    assert any("second.toml:1: found a syntax error" in line for line in lines)
    assert any('found the name "Third", expected the name of a profile' in line for line in lines)


def test_the_default_profile_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'ca.default_profile: found "mine", .* tls-server'):
        load_profiles(settings(tmp_path, default_profile="mine"))
    own(tmp_path / "ca" / "profiles", mine=GOOD)
    assert "mine" in load_profiles(settings(tmp_path, default_profile="mine"))


def test_a_directory_that_is_set_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca.profiles_dir: found .*, which is no directory"):
        load_profiles(settings(tmp_path, profiles_dir=str(tmp_path / "missing")))


def test_a_file_that_cannot_be_read_or_is_too_large_is_an_error(tmp_path: Path) -> None:
    directory = own(tmp_path / "ca" / "profiles", large="#" * (MAX_FILE_BYTES + 1))
    (directory / "folder.toml").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_profiles(settings(tmp_path))
    assert "large.toml: found a larger file" in str(caught.value)
    assert "folder.toml: found that it cannot be read" in str(caught.value)


def test_the_number_of_profiles_is_bounded(tmp_path: Path) -> None:
    own(tmp_path / "ca" / "profiles", **{f"p{n}": GOOD for n in range(MAX_PROFILES)})
    with pytest.raises(ConfigError, match=f"at most {MAX_PROFILES}"):
        load_profiles(settings(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mine.toml: description: found nothing, expected a text"),
        ('description = "x"', "mine.toml: extended_key_usages: found nothing, expected a list of 1 to 16"),
        (GOOD + "names = 1", "mine.toml:3: names: found 1, expected a section [names]"),
        (GOOD + "[names]\nkind = []", "mine.toml:4: names.kind: found an unknown key, expected a key of [names]"),
        (GOOD + 'key_types = ["dsa"]', 'mine.toml:3: key_types: found ["dsa"], expected a list of 1 to 8'),
        (GOOD + 'key_types = ["rsa", "rsa"]', "mine.toml:3: key_types: found"),
        (GOOD + "transparency = 1", "mine.toml:3: transparency: found 1, expected true or false"),
        (GOOD + 'hierarchy = "quantum"', "mine.toml:3: hierarchy: found"),
        (GOOD + "[validity]\nmax = 59", "mine.toml:4: validity.max: found 59, expected an integer from 60"),
        (GOOD + "[validity]\ndefault = 90\nmax = 80", "mine.toml:4: validity.default: found 90, expected at most"),
        (GOOD + '[names]\nallowed = ["A"]', "mine.toml:4: names.allowed: found"),
        (GOOD + '[key_usage]\nrsa = ["keyCertSign"]', "mine.toml:4: key_usage.rsa: found"),
        (GOOD + '[key_usage]\ned25519 = ["keyAgreement"]', "mine.toml:4: key_usage.ed25519: found keyAgreement"),
        (GOOD + '[key_usage]\necdsa = ["keyEncipherment"]', "what such a key can do: contentCommitment"),
        (GOOD + 'key_types = ["ml-dsa-65"]', "mine.toml:3: key_types: found ml-dsa-65, expected types of a classical"),
        (GOOD + '[extensions]\ncertificate_policies = ["2.5.29.x"]', "mine.toml:4: extensions.certificate_policies"),
        (GOOD + '[subject]\norganization = " x"', "mine.toml:4: subject.organization: found"),
    ],
)
def test_a_wrong_profile_is_told_with_line_key_finding_and_expectation(text: str, expected: str) -> None:
    assert expected in said(text)


@pytest.mark.parametrize(
    "purpose",
    ["OCSPSigning", "anyExtendedKeyUsage", "2.5.29.37.0", "1.3.6.1.5.5.7.3.9", "1.3.6.1.4.1.11129.2.4.4", "1"],
)
def test_no_profile_makes_a_leaf_speak_for_its_authority(purpose: str) -> None:
    assert "extended_key_usages: found" in said(f'description = "x"\nextended_key_usages = ["{purpose}"]')


def test_purposes_have_names_or_are_object_identifiers_but_not_both() -> None:
    text = 'description = "x"\nextended_key_usages = ["codeSigning", "1.3.6.1.5.5.7.3.17"]'
    assert parse_profile(text.encode(), "x", "x").document.extended_key_usages == ("codeSigning", "1.3.6.1.5.5.7.3.17")
    assert "extended_key_usages" in said('description = "x"\nextended_key_usages = ["1.3.6.1.5.5.7.3.1"]')


keys = st.sampled_from([key.path for key in keys_of(PROFILE)])
values = st.one_of(
    st.text(max_size=20), st.integers(), st.booleans(), st.floats(), st.lists(st.text(max_size=20), max_size=3)
)


@given(st.binary(max_size=300))
@example(b"\xff")
@example(b"[" * 3000)
@example(b"a=" + b"9" * 5000)
def test_any_octets_are_a_profile_or_refused(content: bytes) -> None:
    try:
        parse_profile(content, "any", "any.toml")
    except ConfigError as error:
        if len(str(error).splitlines()) > MAX_SHOWN + 1:
            raise AssertionError("an unbounded error") from error


@given(st.dictionaries(keys, values, max_size=6))
def test_any_values_are_a_profile_or_refused(document: dict[str, object]) -> None:
    """What comes out is of the types that the schema has."""
    text = "\n".join(f"{path} = {msgspec.json.encode(value).decode()}" for path, value in document.items())
    try:
        parsed = parse_profile(text.encode(), "any", "any.toml")
    except ConfigError:
        return
    assert msgspec.convert(msgspec.to_builtins(parsed), NamedProfile) == parsed


def test_a_relative_directory_is_meant_from_the_file_that_says_it(tmp_path: Path) -> None:
    file = tmp_path / "trustchain.toml"
    file.write_text('[ca]\nprofiles_dir = "mine"\n')
    loaded = load(file, environ={"HOME": str(tmp_path)})
    assert loaded.settings.ca.profiles_dir == str(tmp_path / "mine")
    assert loaded.origins["ca.profiles_dir"] == f"{file}:2"
    assert load(environ={"HOME": str(tmp_path)}).settings.ca.profiles_dir == ""


@pytest.mark.parametrize(
    ("given_url", "port", "base"),
    [
        ("", 8080, "http://pki.example:8080"),
        ("", 80, "http://pki.example"),
        ("http://crl.example/pki", 8080, "http://crl.example/pki"),
    ],
)
def test_the_base_of_status_urls_follows_from_the_domain_unless_it_is_set(given_url: str, port: int, base: str) -> None:
    overrides = ["server.domain=pki.example", f"api.http_port={port}", f"ca.status_url={given_url}"]
    assert load(overrides=overrides, environ={"HOME": "/home/x"}).settings.status_url == base


@pytest.mark.parametrize(
    "url",
    [
        "https://pki.example",
        "http://",
        "http://pki.example/",
        "pki.example",
        "http://a b",
        "http://pki.example:0",
        "http://pki.example:99999",
        "http://user@pki.example",
        "http://pki.example?x",
        "http://[zz]",
        "http://-a.example",
    ],
)
def test_a_base_of_status_urls_that_clients_could_not_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ca\.status_url"):
        load(overrides=[f"ca.status_url={url}"], environ={"HOME": "/home/x"})


@pytest.mark.parametrize("url", ["http://[2001:db8::1]:8080/x", "http://192.0.2.1", "http://pki.corp.internal/a/b-c"])
def test_a_base_of_status_urls_may_be_any_plain_http_url(url: str) -> None:
    assert load(overrides=[f"ca.status_url={url}"], environ={"HOME": "/home/x"}).settings.status_url == url
