"""The certificate profiles of a tree: the shipped files, and the operator's own.

Rules: the name of a profile is that of its file, without `.toml`. A file of the operator's with the name of a shipped
one replaces it as a whole. Files with other endings, and hidden ones, are not looked at. A file that is wrong is no
profile left out: it is an error, with those of all other files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from config.keys import KEYS
from config.problems import ConfigError, Problem, shortened
from config.profile_parsing import parse_profile
from config.profile_schema import NamedProfile
from config.schema import Settings

MAX_FILE_BYTES: Final = 65_536
MAX_PROFILES: Final = 64
"""Each profile is a value of a label of metrics."""

SHIPPED: Final = Path(__file__).parent / "profiles"


def read_shipped() -> tuple[str, ...]:
    """Read the shipped profiles once, for a process whose children will read them again. Return their names."""
    return tuple(parse_profile(_content(file), file.stem, str(file)).name for file in sorted(SHIPPED.glob("*.toml")))


def load_profiles(settings: Settings) -> Mapping[str, NamedProfile]:
    """Return every profile by its name, the default one among them. Raises ConfigError with all that is wrong."""
    problems: list[Problem] = []
    files = {file.stem: file for directory in _directories(settings, problems) for file in _files(directory, problems)}
    if len(files) > MAX_PROFILES:
        raise ConfigError([Problem("ca.profiles_dir", "", f"{len(files)} profiles", f"at most {MAX_PROFILES}")])
    profiles: dict[str, NamedProfile] = {}
    for name, file in files.items():
        try:
            profiles[name] = parse_profile(_content(file), name, str(file))
        except ConfigError as error:
            problems += error.problems
    if not problems and settings.ca.default_profile not in profiles:
        found, expected = shortened(settings.ca.default_profile), f"the name of a profile: {', '.join(profiles)}"
        problems.append(Problem("ca.default_profile", "", found, expected))
    if problems:
        raise ConfigError(problems)
    return profiles


def _directories(settings: Settings, problems: list[Problem]) -> Iterator[Path]:
    yield SHIPPED
    said = settings.ca.profiles_dir
    own = Path(said) if said else settings.paths.profiles_dir
    try:
        if own.is_dir():
            yield own
        elif said:
            problems.append(Problem("ca.profiles_dir", "", f"{own}, which is no directory", "a directory of profiles"))
    except OSError as error:
        found = f"{own}, which cannot be looked at ({error.strerror})"
        problems.append(Problem("ca.profiles_dir", "", found, "a directory that this user may read"))


def _files(directory: Path, problems: list[Problem]) -> Iterator[Path]:
    try:
        found = sorted(file for file in directory.iterdir() if file.suffix == ".toml" and file.name[0] != ".")
    except OSError as error:
        problems.append(Problem(str(directory), "", f"that it cannot be read ({error.strerror})", "a directory"))
        return
    key = KEYS["ca.default_profile"]
    for file in found:
        try:
            key.judged(file.stem)
        except ValueError:
            problems.append(Problem(str(file), "", f"the name {shortened(file.stem)}", key.expected))
        else:
            yield file


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        found = f"that it cannot be read ({error.strerror})"
        raise ConfigError([Problem(str(file), "", found, "a readable TOML file")]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(str(file), "", "a larger file", f"at most {MAX_FILE_BYTES} bytes")])
    return content
