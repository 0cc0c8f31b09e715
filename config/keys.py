"""The key paths of the schema: what each key takes, in words, and which valid key is nearest to a wrong one.

Rules: everything here is derived from `schema`, so that no limit is said twice. A value is judged alone; what
depends on another value is judged in `consistency`.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from config.schema import Settings

_SECRET: Final = re.compile(r"none|prompt|credential:[A-Za-z0-9][A-Za-z0-9._-]{0,127}|fd:([3-9]|[1-9][0-9]{1,4})")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its path with dots, its annotated type, its default (None: decided at load time), what it takes."""

    path: str
    hint: Any
    default: object
    expected: str

    @property
    def is_directory(self) -> bool:
        """Whether the value names a directory, which may be given relative to something."""
        return _extra(self.hint).get("kind") == "path"

    @property
    def is_text(self) -> bool:
        """Whether every value of this key is a string."""
        base = _unwrapped(self.hint)[0]
        return base is str or get_origin(base) is Literal

    def judged(self, value: object) -> object:
        """Return the value in the type of the schema. Raises ValueError when it is not one that the key takes."""
        try:
            converted: object = msgspec.convert(value, self.hint)
        except (msgspec.ValidationError, OverflowError) as error:
            raise ValueError(self.expected) from error
        if not _fits(converted, self.hint):
            raise ValueError(self.expected)
        return converted


Section = Mapping[str, "Key | Section"]
"""The keys and sub-sections of one section, by name."""


def paths_of(section: Section, prefix: str = "") -> Iterator[str]:
    """Every key and section path inside `section`, in the order of the schema."""
    for name, node in section.items():
        yield prefix + name
        if not isinstance(node, Key):
            yield from paths_of(node, f"{prefix}{name}.")


def nearest(path: str, siblings: Iterable[str]) -> str:
    """Return the valid path that a wrong one most likely means, or an empty string.

    A similar name in the same section comes first, then the same name in another section, then any similar path.
    """
    prefix, _, name = path.rpartition(".")
    elsewhere = [valid for valid in ALL_PATHS if valid.rpartition(".")[2] == name]
    sibling = _most_similar(name, siblings, 0.6)
    if sibling:
        return f"{prefix}.{sibling}" if prefix else sibling
    # For whole paths more must agree, as their first parts often do.
    return _most_similar(path, elsewhere, 0.0) or _most_similar(path, ALL_PATHS, 0.75)


def _most_similar(word: str, valid: Iterable[str], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(word, list(valid), n=1, cutoff=cutoff)), "")


def _section(struct: type[Struct], prefix: str = "") -> Section:
    section: dict[str, Key | Section] = {}
    for field in msgspec.structs.fields(struct):
        path = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            section[field.name] = _section(field.type, f"{path}.")
        else:
            default = None if field.default is msgspec.NODEFAULT else field.default
            section[field.name] = Key(path, field.type, default, _in_words(field.type))
    return section


def _leaves(section: Section) -> Iterator[Key]:
    for node in section.values():
        if isinstance(node, Key):
            yield node
        else:
            yield from _leaves(node)


def _unwrapped(hint: Any) -> tuple[Any, Meta]:
    if get_origin(hint) is not Annotated:
        return hint, Meta()
    base, meta = get_args(hint)
    return base, meta


def _extra(hint: Any) -> Mapping[str, str]:
    return _unwrapped(hint)[1].extra or {}


def _in_words(hint: Any) -> str:
    base, meta = _unwrapped(hint)
    if base is bool:
        return "true or false"
    if base is int or base is float:
        noun = "an integer" if base is int else "a number"
        unit = (meta.extra or {}).get("unit", "")
        return f"{noun} from {meta.ge:.10g} to {meta.le:.10g}" + (f" ({unit})" if unit else "")
    if get_origin(base) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(base))
    if get_origin(base) is tuple:
        size = f"{meta.min_length} to {meta.max_length}" if meta.min_length else f"at most {meta.max_length}"
        return f"a list of {size} different values, each {_in_words(get_args(base)[0])}"
    return _KINDS[_extra(hint)["kind"]].in_words.format(max=meta.max_length)


def _fits(value: object, hint: Any) -> bool:
    """Whether strings are of the kind that the schema asks for, and lists without repetition."""
    base = _unwrapped(hint)[0]
    if get_origin(base) is tuple and isinstance(value, tuple):
        item = get_args(base)[0]
        return len(set(value)) == len(value) and all(_fits(one, item) for one in value)
    kind = _extra(hint).get("kind")
    return kind is None or (isinstance(value, str) and _KINDS[kind].fits(value))


def _is_address(text: str) -> bool:
    try:
        # The shortest spelling only: otherwise one address could be listed twice, and be bound twice.
        return str(ipaddress.ip_address(text)) == text and "%" not in text
    except ValueError:
        return False


def _is_domain(text: str) -> bool:
    labels = text.split(".")
    # A last label of digits only makes an IP address, or a mistyped one.
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "%" not in text


def _is_name(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def _is_path(text: str) -> bool:
    return text.isprintable()


def _is_file(text: str) -> bool:
    return not text or (text.isprintable() and text.startswith("/"))


@dataclass(frozen=True, slots=True)
class _Kind:
    in_words: str
    fits: Callable[[str], bool]


_KINDS: Final = {
    "address": _Kind('an IP address in its shortest form such as "127.0.0.1" or "::1"', _is_address),
    "domain": _Kind('a DNS name in lower case such as "corp.internal"', _is_domain),
    "host": _Kind(
        'a DNS name in lower case or an IP address such as "ca.corp.internal" or "192.0.2.1"',
        lambda text: _is_domain(text) or _is_address(text),
    ),
    "zone": _Kind(
        'a DNS name in lower case or an IP network such as "corp.internal" or "10.0.0.0/8"',
        lambda text: _is_domain(text) or _is_network(text),
    ),
    "name": _Kind("a text of 1 to {max} printable characters without space around it", _is_name),
    "label": _Kind("a text of at most {max} printable characters", str.isprintable),
    "file": _Kind('the absolute path of a file, or ""', _is_file),
    "secret": _Kind('"none", "credential:NAME", "fd:N" (3 or above) or "prompt"', lambda t: bool(_SECRET.fullmatch(t))),
    "path": _Kind("the path of a directory", _is_path),
}

ROOT: Final = _section(Settings)
"""The whole schema as a tree of keys."""

KEYS: Final[Mapping[str, Key]] = {key.path: key for key in _leaves(ROOT)}
"""Every setting by its path, in the order of the schema."""

ALL_PATHS: Final = tuple(paths_of(ROOT))
"""Every key and section path, in the order of the schema."""
