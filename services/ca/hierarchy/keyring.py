"""Where the authority's keys are and what opens them: files with or without a passphrase, and a token.

Rules:
- The passphrase and the PIN come from outside and are shown by nothing: not by `repr`, not in an error.
- A key in a file is `key.pem` (PKCS #8); of a key in a token the directory holds the URI (`key.pkcs11`, RFC 7512).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from config.schema import KeyType
from services.ca.hierarchy.document import KeyPlace
from services.ca.hierarchy.hierarchy import Kind
from services.ca.keys import key_files
from services.ca.keys.key_files import UnreadableKey, WrongPassphrase
from services.ca.keys.signatures import prove
from services.ca.keys.signing_keys import SigningKey, token_uri
from services.ca.policy.public_keys import RSA_EXPONENT
from services.errors import ConfigurationError

KEY_FILE: Final = "key.pem"
URI_FILE: Final = "key.pkcs11"


class Token(Protocol):
    """A device that keeps keys."""

    def key(self, uri: str) -> SigningKey:
        """The key at a URI. Raises ConfigurationError."""

    def generate(self, key_type: KeyType, label: str) -> SigningKey:
        """A new key that stays in the token. Raises ConfigurationError."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """What opens keys. `passphrase`: keys in files are encrypted with it; None: they are not."""

    passphrase: bytes | None = field(default=None, repr=False)
    token: Token | None = field(default=None, repr=False)

    def generate(self, kind: Kind, key_type: KeyType, label: str) -> SigningKey:
        """A new key, in the token if there is one and it knows the kind. Raises ConfigurationError."""
        if kind == "post-quantum":
            return mldsa.MLDSA65PrivateKey.generate()
        return generate(key_type) if self.token is None else self.token.generate(key_type, label)

    def stored(self, key: SigningKey) -> tuple[str, bytes]:
        """Name and content of the file for `key`."""
        uri = token_uri(key)
        if uri is not None:
            return URI_FILE, f"{uri}\n".encode("ascii")
        return KEY_FILE, key_files.pkcs8(key, self.passphrase)

    def opened(self, path: Path, content: bytes, *, trusted: bool = False) -> SigningKey:
        """The key whose file `path` has this content; `trusted` as for `parse_key`. Raises ConfigurationError."""
        if path.name == URI_FILE:
            return self._in_token(path, content)
        try:
            return key_files.parse_key(content, self.passphrase, trusted=trusted)
        except WrongPassphrase as error:
            raise ConfigurationError(
                f"{path}: {error}: give the passphrase with which it was encrypted (ca.key_passphrase)"
            ) from error
        except UnreadableKey as error:
            raise ConfigurationError(f"{path}: {error}: {key_files.RESTORE}") from error

    def _in_token(self, path: Path, content: bytes) -> SigningKey:
        if self.token is None:
            raise ConfigurationError(f"{path} says that the key is in a token: set ca.pkcs11_module")
        try:
            return self.token.key(content.decode("ascii").strip())
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path} is not a URI of RFC 7512: {key_files.RESTORE}") from None


def generate(key_type: KeyType) -> SigningKey:
    """A new private key in memory. RSA takes a good part of a second."""
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa3072":
        return rsa.generate_private_key(RSA_EXPONENT, 3072)
    return ec.generate_private_key(ec.SECP256R1())


def warm_up() -> None:
    """Do once what every start does with keys, so that the cryptographic library has prepared itself for it."""
    key = key_files.parse_key(key_files.pkcs8(generate("p256"), None), None)
    prove(key, key.public_key())


def place_of(key: SigningKey | None) -> KeyPlace:
    """Where a key is."""
    if key is None:
        return "offline"
    return "file" if token_uri(key) is None else "token"
