"""URIs of keys in tokens (RFC 7512): text to attributes, and back. Pure.

Rules:
- A URI names one private key by the token's label and the key's id; the label of the key is for people.
- Query attributes are refused: a PIN has no place in a file beside the certificate, and the module is a setting.
- Whatever the text is, the answer is a KeyUri or a BadKeyUri.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

SCHEME: Final = "pkcs11:"
MAX_URI: Final = 1024
MAX_ID_OCTETS: Final = 64
MAX_LABEL: Final = 255

_NAMES: Final = frozenset({"token", "id", "object", "type"})
# Of section 2.3: unreserved, and what else may stand in a path attribute as it is.
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})*", re.ASCII)


class BadKeyUri(ValueError):
    """Text that names no private key in a token. It says what is wrong."""


@dataclass(frozen=True, slots=True)
class KeyUri:
    """One private key. Raises BadKeyUri unless it has an id, and labels of a possible length."""

    token: str
    id: bytes
    label: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= MAX_ID_OCTETS:
            raise BadKeyUri(f"the id of a key has 1 to {MAX_ID_OCTETS} octets")
        if not self.token or max(len(self.token), len(self.label)) > MAX_LABEL:
            raise BadKeyUri(f"the label of a token has 1 to {MAX_LABEL} characters")

    def __str__(self) -> str:
        """The URI."""
        key_id = "".join(f"%{octet:02x}" for octet in self.id)
        label = f"object={quote(self.label, safe='')};" if self.label else ""
        return f"{SCHEME}token={quote(self.token, safe='')};{label}id={key_id};type=private"


def parsed(text: str) -> KeyUri:
    """Read a URI. Raises BadKeyUri."""
    if len(text) > MAX_URI or not text.startswith(SCHEME):
        raise BadKeyUri(f"it does not begin with {SCHEME}, or has more than {MAX_URI} characters")
    path = text.removeprefix(SCHEME)
    if "?" in path:
        raise BadKeyUri("it has a query: the PIN comes from ca.pkcs11_pin, the module from ca.pkcs11_module")
    attributes: dict[str, bytes] = {}
    for attribute in path.split(";"):
        name, _, value = attribute.partition("=")
        if name not in _NAMES or name in attributes or not _VALUE.fullmatch(value):
            raise BadKeyUri("it has an attribute that is not understood: once each token, id, object and type are")
        attributes[name] = unquote_to_bytes(value)
    if attributes.get("type", b"private") != b"private":
        raise BadKeyUri("it names something else than a private key")
    try:
        return KeyUri(_text(attributes, "token"), attributes.get("id", b""), _text(attributes, "object"))
    except UnicodeDecodeError:
        raise BadKeyUri("its labels are not UTF-8") from None


def _text(attributes: dict[str, bytes], name: str) -> str:
    return attributes.get(name, b"").decode("utf-8")
