"""The key paths of a schema: what each key takes, in words, and which valid key is nearest to a wrong one.

Rules: everything here is derived from the types, so that no limit is said twice. A value is judged alone; what
depends on another value is judged in `consistency`. A key whose type allows None may be left out and is never None when
it is given.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from config.schema import Settings

PURPOSES: Final = MappingProxyType(
    {
        "serverAuth": "1.3.6.1.5.5.7.3.1",
        "clientAuth": "1.3.6.1.5.5.7.3.2",
        "codeSigning": "1.3.6.1.5.5.7.3.3",
        "emailProtection": "1.3.6.1.5.5.7.3.4",
        "documentSigning": "1.3.6.1.5.5.7.3.36",
    }
)
"""Extended key usages by name (RFC 5280, section 4.2.1.12; RFC 9336)."""

# Any purpose, time stamping (which has to be critical), OCSP signing, and precertificate signing: with one of these a
# leaf would speak for its authority.
_FORBIDDEN_PURPOSES: Final = frozenset(
    {"2.5.29.37.0", "1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.9", "1.3.6.1.4.1.11129.2.4.4"}
)
_SECRET: Final = re.compile(r"none|prompt|credential:[A-Za-z0-9][A-Za-z0-9._-]{0,127}|fd:([3-9]|[1-9][0-9]{1,4})")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROFILE: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_OID: Final = re.compile(r"(?:[01]\.[1-3]?[0-9]|2\.(?:0|[1-9][0-9]{0,8}))(?:\.(?:0|[1-9][0-9]{0,18})){1,30}", re.ASCII)
_HTTP_URL: Final = re.compile(
    r"http://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?:/[A-Za-z0-9._~-]+)*", re.ASCII
)


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


def nearest(path: str, siblings: Iterable[str], root: "Section | None" = None) -> str:
    """Return the valid path of `root` (the settings) that a wrong one most likely means, or an empty string.

    A similar name in the same section comes first, then the same name in another section, then any similar path.
    """
    prefix, _, name = path.rpartition(".")
    valid_paths = ALL_PATHS if root is None else tuple(paths_of(root))
    elsewhere = [valid for valid in valid_paths if valid.rpartition(".")[2] == name]
    sibling = _most_similar(name, siblings, 0.6)
    if sibling:
        return f"{prefix}.{sibling}" if prefix else sibling
    # For whole paths more must agree, as their first parts often do.
    return _most_similar(path, elsewhere, 0.0) or _most_similar(path, valid_paths, 0.75)


def _most_similar(word: str, valid: Iterable[str], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(word, list(valid), n=1, cutoff=cutoff)), "")


def section_of(struct: type[Struct], prefix: str = "") -> Section:
    """The keys and sub-sections that a struct declares."""
    section: dict[str, Key | Section] = {}
    for field in msgspec.structs.fields(struct):
        path = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            section[field.name] = section_of(field.type, f"{path}.")
        else:
            default = None if field.default is msgspec.NODEFAULT else field.default
            hint = _when_given(field.type)
            section[field.name] = Key(path, hint, default, _in_words(hint))
    return section


def _when_given(hint: Any) -> Any:
    """The type of a key that may be left out, without the None."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
    return hint


def keys_of(section: Section) -> Iterator[Key]:
    """Every key inside `section`, in the order of the schema."""
    for node in section.values():
        if isinstance(node, Key):
            yield node
        else:
            yield from keys_of(node)


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


def _is_origin(text: str) -> bool:
    # What can stand as a name in a signed note (C2SP signed-note).
    return text.isprintable() and not any(character.isspace() or character == "+" for character in text)


def _is_file(text: str) -> bool:
    return text.isprintable() and text.startswith("/")


def _is_path(text: str) -> bool:
    return text.isprintable()


def _is_http_url(text: str) -> bool:
    """Empty, or scheme, host, perhaps a port and a path, and nothing behind them."""
    found = _HTTP_URL.fullmatch(text)
    if found is None:
        return not text
    host = found["host"]
    is_host = _is_address(host[1:-1]) and ":" in host if host.startswith("[") else _is_domain(host) or _is_address(host)
    return is_host and 1 <= int(found["port"] or 80) <= 65535


def _is_purpose(text: str) -> bool:
    return text in PURPOSES or (_is_oid(text) and text not in _FORBIDDEN_PURPOSES and text not in PURPOSES.values())


def _is_oid(text: str) -> bool:
    return len(text) <= 128 and _OID.fullmatch(text) is not None


def _is_optional_file(text: str) -> bool:
    return not text or _is_file(text)


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
    "origin": _Kind('a name without spaces and plus signs such as "ct.corp.internal", or ""', _is_origin),
    "label": _Kind("a text of at most {max} printable characters", str.isprintable),
    "file": _Kind("the absolute path of a file", _is_file),
    "optional file": _Kind('the absolute path of a file, or ""', _is_optional_file),
    "secret": _Kind('"none", "credential:NAME", "fd:N" (3 or above) or "prompt"', lambda t: bool(_SECRET.fullmatch(t))),
    "path": _Kind("the path of a directory", _is_path),
    "optional path": _Kind("the path of a directory, or an empty text", _is_path),
    "profile": _Kind(
        "the name of a profile: 1 to {max} lower-case letters, digits and inner hyphens",
        lambda text: _PROFILE.fullmatch(text) is not None,
    ),
    "HTTP URL": _Kind(
        'an empty text or a URL such as "http://pki.corp.internal" without a slash at its end', _is_http_url
    ),
    "purpose": _Kind(
        f"one of {', '.join(PURPOSES)}, or the object identifier of another purpose, none that an authority's own "
        "certificates are for",
        _is_purpose,
    ),
    "object identifier": _Kind('an object identifier such as "1.3.6.1.4.1.99999.1"', _is_oid),
    "organization": _Kind("a text of at most {max} printable characters without space around it", _is_name),
}

ROOT: Final = section_of(Settings)
"""The whole schema as a tree of keys."""

KEYS: Final[Mapping[str, Key]] = {key.path: key for key in keys_of(ROOT)}
"""Every setting by its path, in the order of the schema."""

ALL_PATHS: Final = tuple(paths_of(ROOT))
"""Every key and section path, in the order of the schema."""
