"""What the authority is asked about its own hierarchy, and how it refuses. For the command line of the same host.

Rules:
- These methods are not behind the API: whoever may open the authority's socket, its own user and root, may call them.
- Times are whole seconds since the Unix epoch; certificates, keys and requests are PEM; ids are serial numbers in
  lower-case hexadecimal.
- Keys and passphrases that travel in a message are shown by nothing: not by `repr`, not in an error.
- A refusal is `CeremonyRefused`: nothing was changed. After any other failure `authorities` tells what there is.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from services.ca.hierarchy.document import KeyPlace, Role
from services.ca.hierarchy.hierarchy import Kind, State

MAX_PEM_OCTETS: Final = 262_144
MAX_PASSPHRASE_OCTETS: Final = 1023  # of a PKCS #8 file, as OpenSSL reads it

CeremonyRefusalKind = Literal[
    "malformed",  # not a certificate, not a key
    "bad-key",  # the wrong key, a weak one, or a wrong passphrase
    "bad-authority",  # a certificate that may not issue, or not below what it has to
    "key-elsewhere",  # the key of a root is needed and not here
    "unknown-authority",
    "not-exported",  # a root's key is not removed before its copy was shown
]

Pem = Annotated[bytes, Meta(max_length=MAX_PEM_OCTETS)]
Passphrase = Annotated[bytes, Meta(min_length=1, max_length=MAX_PASSPHRASE_OCTETS)]


class CeremonyRefused(Exception):
    """The request is at fault, or something is missing. `detail` tells the operator what to do."""

    counts_as: Final = "rejected"

    def __init__(self, kind: CeremonyRefusalKind, field: str | None, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if field is None else f"{kind}: {field}: {detail}")
        self.kind: CeremonyRefusalKind = kind
        self.field = field
        self.detail = detail


class PrivateKeyPem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A private key, PKCS #8, with the passphrase that opens it if it is encrypted."""

    pem: Pem
    passphrase: Passphrase | None = None

    def __repr__(self) -> str:
        """Nothing of it."""
        return "PrivateKeyPem(...)"


class ListAuthorities(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask what roots and intermediates there are."""


class AuthorityDescription(Struct, frozen=True, kw_only=True):
    """One root or intermediate. `issuer` is the subject of the certificate above it, `cross` whether it has a cross."""

    id: str
    role: Role
    kind: Kind
    state: State
    since: int
    key: KeyPlace
    subject: str
    issuer: str
    not_before: int
    not_after: int
    cross: bool
    certificate: str


class AuthorityList(Struct, frozen=True, kw_only=True):
    """All of them; those that are active first."""

    authorities: list[AuthorityDescription]


class Rotate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a new intermediate, or a new root and an intermediate below it, and let them be the active ones.

    `root_key`: of the active root, if it is not here.
    """

    role: Role
    kind: Kind = "classical"
    root_key: PrivateKeyPem | None = None
    cross_certify: bool = True


class ImportAuthority(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let a root or an intermediate that was made elsewhere be the active one. `chain`: what is above it."""

    certificate: Pem
    key: PrivateKeyPem
    chain: Pem = b""


class RequestIntermediate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a key for an intermediate that is to be signed elsewhere, and a request for it."""

    kind: Kind = "classical"


class IntermediateRequest(Struct, frozen=True, kw_only=True):
    """PKCS #10."""

    csr: str


class InstallIntermediate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let the certificate that was signed for a request be the active intermediate."""

    certificate: Pem
    chain: Pem = b""


class ExportRootKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for the key of a root (the active one if `id` is None), encrypted with a new passphrase."""

    passphrase: Passphrase
    kind: Kind = "classical"
    id: str | None = None

    def __repr__(self) -> str:
        """Without the passphrase."""
        return f"ExportRootKey(kind={self.kind!r}, id={self.id!r}, ...)"


class ExportedKey(Struct, frozen=True, kw_only=True):
    """PKCS #8, encrypted, and which root it belongs to."""

    id: str
    pem: str


class RemoveRootKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Destroy the key of a root here. `exported` proves that there is a copy that can be opened."""

    exported: PrivateKeyPem
    kind: Kind = "classical"
    id: str | None = None


class EncryptKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Encrypt the keys in files that are not encrypted yet."""


class EncryptedKeys(Struct, frozen=True, kw_only=True):
    """How many keys were encrypted by this call."""

    count: int


METHODS: Final[dict[str, tuple[type[Struct], type[Struct]]]] = {
    "authorities": (ListAuthorities, AuthorityList),
    "rotate": (Rotate, AuthorityList),
    "import_authority": (ImportAuthority, AuthorityList),
    "request_intermediate": (RequestIntermediate, IntermediateRequest),
    "install_intermediate": (InstallIntermediate, AuthorityList),
    "export_root_key": (ExportRootKey, ExportedKey),
    "remove_root_key": (RemoveRootKey, AuthorityList),
    "encrypt_keys": (EncryptKeys, EncryptedKeys),
}
