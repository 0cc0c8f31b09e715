"""What the operator says: a configuration file and command-line options, each read into settings with their origin.

Rules: a layer knows only what was said in it; defaults and precedence belong to `loader`. Whatever bytes come in, a
layer comes out: what cannot be used is among its problems.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tomli

from config.key_lines import KeyPath, key_lines, line_of
from config.keys import KEYS, ROOT, Key, Section, nearest
from config.problems import MAX_SHOWN, Problem, shortened

MAX_FILE_BYTES: Final = 1_048_576
"""A larger configuration file is a mistake."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as it was given, and where; a relative directory is meant from `base` (empty: the working directory)."""

    value: object
    origin: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings by key path, and what is wrong with the rest."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def file_layer(file: Path) -> Layer:
    """Read a TOML file."""
    place = str(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        base = str(file.absolute().parent)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Layer(problems=[Problem(place, "", f"that it cannot be read ({reason})", "a readable TOML file")])
    if len(content) > MAX_FILE_BYTES:
        return Layer(problems=[Problem(place, "", "a larger file", f"at most {MAX_FILE_BYTES} bytes")])
    return document_layer(content, place, base)


def document_layer(content: bytes, place: str, base: str = "", root: Section = ROOT) -> Layer:
    """Read the bytes of a TOML document that came from `place`; `root` is what it may say."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Layer(problems=[Problem(f"{place}:{line}", "", f"byte 0x{content[error.start]:02x}", "UTF-8 text")])
    text = text.replace("\r\n", "\n")
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        return Layer(problems=[_syntax_problem(error, place)])
    except RecursionError:
        return Layer(problems=[Problem(place, "", "a document that is nested too deeply", "fewer brackets")])
    except ValueError:  # the interpreter reads no longer integers, sys.get_int_max_str_digits()
        return Layer(problems=[Problem(place, "", "an integer of more than 4300 digits", "a smaller one")])
    lines = key_lines(text)

    def origin(path: KeyPath) -> str:
        line = line_of(lines, path)
        return f"{place}:{line}" if line else place

    layer = Layer()
    _Collection(root, origin, base, layer).collect(document, root, ())
    return layer


def option_layer(options: Mapping[str, tuple[str, object]]) -> Layer:
    """Take the options that stand for one setting each: key path to (option, value)."""
    return Layer({path: Entry(value, option) for path, (option, value) in options.items() if value is not None})


def override_layer(overrides: Sequence[str]) -> Layer:
    """Read `section.key=value` arguments. A later one wins over an earlier one."""
    layer = Layer()
    for override in overrides:
        dotted, equals, text = override.partition("=")
        dotted = dotted.strip()
        if not equals or not dotted:
            layer.problems.append(Problem("--set", "", shortened(override), "section.key=value"))
            continue
        *sections, name = dotted.split(".")
        document: dict[str, object] = {name: override_value(text, KEYS.get(dotted))}
        for section in reversed(sections):
            document = {section: document}
        _Collection(ROOT, lambda _: "--set", "", layer).collect(document, ROOT, ())
    return layer


def override_value(text: str, key: Key | None) -> object:
    """Return what a `--set` argument means: a TOML value, or the bare text where it is none or the key takes text."""
    try:
        document = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text.strip()
    value: object = document["value"]
    said_more = len(document) > 1
    wanted_text = key is not None and key.is_text and not isinstance(value, str)
    return text.strip() if said_more or wanted_text else value


@dataclass(frozen=True, slots=True)
class _Collection:
    """One document on its way into a layer."""

    root: Section
    origin: Callable[[KeyPath], str]
    base: str
    layer: Layer

    def collect(self, document: Mapping[str, object], section: Section, prefix: KeyPath) -> None:
        """Add what `document` says about `section` to the layer."""
        for name, value in document.items():
            path = (*prefix, name)
            dotted = ".".join(path)
            node = section.get(name)
            if isinstance(node, Key):
                self.layer.entries[dotted] = Entry(value, self.origin(path), self.base)
            elif node is None:
                self.layer.problems.append(self._unknown_key(dotted, section, prefix, self.origin(path)))
            elif isinstance(value, dict):
                self.collect(value, node, path)
            else:
                self.layer.problems.append(
                    Problem(self.origin(path), dotted, shortened(value), f"a section [{dotted}]")
                )

    def _unknown_key(self, dotted: str, section: Section, prefix: KeyPath, place: str) -> Problem:
        what = "the configuration" if self.root is ROOT else "a profile"
        expected = f"a key of [{'.'.join(prefix)}]" if prefix else f"a section or key of {what}"
        # A suggestion costs milliseconds, and a file may hold a hundred thousand wrong keys.
        suggest = len(self.layer.problems) < MAX_SHOWN and len(dotted) < 256
        suggestion = nearest(dotted, section, self.root) if suggest else ""
        return Problem(place, _printable(dotted), "an unknown key", expected, suggestion)


def _printable(dotted: str) -> str:
    return dotted if dotted.isprintable() and len(dotted) < 256 else shortened(dotted)


def _syntax_problem(error: tomli.TOMLDecodeError, place: str) -> Problem:
    message = error.msg[:1].lower() + error.msg[1:]
    return Problem(f"{place}:{error.lineno}", "", f"a syntax error ({message}, column {error.colno})", "valid TOML")
