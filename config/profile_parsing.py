"""From the bytes of one TOML document to one checked certificate profile. Pure.

Rules:
- A profile is judged like the configuration: everything that is wrong is told at once, with its line, what was found,
  what is expected and the nearest valid key.
- What a key can be used for is judged for its type (RFC 4055, section 1.2; RFC 5480, section 3; RFC 8410, section 5;
  RFC 9881, section 5): a profile that could only lead to certificates that break these is refused as a whole.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from config.keys import Section, keys_of, section_of
from config.layers import Entry, document_layer
from config.problems import ConfigError, Problem, shortened
from config.profile_schema import NamedProfile, ProfileDocument

PROFILE: Final[Section] = section_of(ProfileDocument)
"""What a profile's file may say."""

# A key that only signs: EdDSA and ML-DSA. Usages beyond these contradict what the key can do.
_SIGNING: Final = frozenset({"digitalSignature", "contentCommitment"})
_USAGES: Final = {
    "rsa": _SIGNING | {"keyEncipherment", "dataEncipherment"},
    "ecdsa": _SIGNING | {"keyAgreement"},
    "ed25519": _SIGNING,
    "ml_dsa": _SIGNING,
}

_KEYS: Final = {key.path: key for key in keys_of(PROFILE)}
_REQUIRED: Final = ("description", "extended_key_usages")


@lru_cache(maxsize=256)  # a worker reads its profiles again at each start, and most of them never change
def parse_profile(content: bytes, name: str, place: str) -> NamedProfile:
    """Read the TOML document of the profile `name`; `place` is its file. Raises ConfigError with all that is wrong."""
    layer = document_layer(content, place, root=PROFILE)
    problems = list(layer.problems)
    values: dict[str, object] = {}
    for path, entry in layer.entries.items():
        try:
            values[path] = _KEYS[path].judged(entry.value)
        except ValueError:
            problems.append(Problem(entry.origin, path, shortened(entry.value), _KEYS[path].expected))
    if not layer.problems:  # a document that could not be read says nothing about what it leaves out
        problems += [
            Problem(place, path, "nothing", _KEYS[path].expected) for path in _REQUIRED if path not in layer.entries
        ]
    if not problems:
        document = _document(values)
        problems += _contradictions(document, layer.entries, place)
        if not problems:
            return NamedProfile(name=name, place=place, document=document)
    raise ConfigError(problems)


def _document(values: Mapping[str, object]) -> ProfileDocument:
    nested: dict[str, object] = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        node = nested.setdefault(section, {}) if section else nested
        if isinstance(node, dict):
            node[name] = value
    return msgspec.convert(nested, ProfileDocument)


def _contradictions(document: ProfileDocument, entries: Mapping[str, Entry], place: str) -> Iterator[Problem]:
    """What does not fit together in one document."""

    def at(path: str) -> str:
        return entries[path].origin if path in entries else place

    for field, possible in _USAGES.items():
        impossible = [usage for usage in getattr(document.key_usage, field) if usage not in possible]
        if impossible:
            path = f"key_usage.{field}"
            expected = f"what such a key can do: {', '.join(sorted(possible))}"
            yield Problem(at(path), path, ", ".join(impossible), expected)
    validity = document.validity
    if validity.default is not None and validity.max is not None and validity.default > validity.max:
        expected = f"at most validity.max, which is {validity.max}"
        yield Problem(at("validity.default"), "validity.default", str(validity.default), expected)
    post_quantum = {key_type for key_type in document.key_types if key_type.startswith("ml-dsa")}
    if post_quantum and document.hierarchy == "classical":
        yield Problem(
            at("key_types"),
            "key_types",
            ", ".join(sorted(post_quantum)),
            'types of a classical hierarchy, or hierarchy = "post-quantum"',
        )
