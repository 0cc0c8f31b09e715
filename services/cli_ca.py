"""`trustchain ca ...`: the authority's own hierarchy.

Rules:
- The commands act through the running authority, over its Unix socket: whoever may open that, its own user and root,
  may do all of this. Nothing of it is behind the API.
- Passphrases come from a file descriptor or from the terminal, never from an argument or the environment, which other
  users may read.
- What is written here is new (an existing file is never replaced), and a key only for its owner.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from msgspec import Struct

from config.cli import settings_options
from config.loader import Loaded
from services import cli_ca_socket
from services.ca.hierarchy.hierarchy import KINDS
from services.ca.hierarchy.messages import (
    MAX_PASSPHRASE_OCTETS,
    MAX_PEM_OCTETS,
    AuthorityDescription,
    AuthorityList,
    EncryptedKeys,
    EncryptKeys,
    ExportedKey,
    ExportRootKey,
    ImportAuthority,
    InstallIntermediate,
    IntermediateRequest,
    ListAuthorities,
    PrivateKeyPem,
    RemoveRootKey,
    RequestIntermediate,
    Rotate,
)
from services.ca.keys import key_files
from services.ca.keys.key_files import UnreadableKey, WrongPassphrase
from services.cli import told
from services.cli_client import CommandError
from services.whole_files import sync_directory, write_new

T = TypeVar("T", bound=Struct)

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


def _kind(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--kind", type=click.Choice(KINDS), default="classical", show_default=True)(command)


def _passphrase_fd(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "Read the passphrase from this file descriptor; default: ask on the terminal."
    return click.option("--passphrase-fd", type=click.IntRange(0), metavar="N", help=text)(command)


@click.group()
def ca() -> None:
    """The authority's own roots and intermediates: list, rotate, import, keep the root's key elsewhere."""


@ca.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, certificates included.")
@settings_options
@told
def list_(loaded: Loaded, as_json: bool) -> None:
    """List all roots and intermediates, those that are active first."""
    _show(_ask(loaded, "authorities", ListAuthorities(), AuthorityList), as_json=as_json)


@ca.command()
@click.argument("role", type=click.Choice(["intermediate", "root"]))
@_kind
@click.option("--root-key", type=_FILE, metavar="FILE", help="Key of the active root, if it is kept elsewhere.")
@click.option("--without-cross-certificate", is_flag=True, help="The old root does not certify the new one.")
@_passphrase_fd
@settings_options
@told
def rotate(
    loaded: Loaded,
    role: Any,
    kind: Any,
    root_key: Path | None,
    without_cross_certificate: bool,
    passphrase_fd: int | None,
) -> None:
    """Make a new intermediate, or a new root with an intermediate below it, and let them be the active ones.

    What was active stays known: its certificates go on being valid, and clients that trust only the old root verify new
    certificates through its certificate for the new root.
    """
    brought = None if root_key is None else _key(root_key, passphrase_fd)
    request = Rotate(role=role, kind=kind, root_key=brought, cross_certify=not without_cross_certificate)
    _show(_ask(loaded, "rotate", request, AuthorityList))


@ca.command(name="import")
@click.option("--certificate", type=_FILE, required=True, metavar="FILE", help="Of the root or intermediate, PEM.")
@click.option("--key", type=_FILE, required=True, metavar="FILE", help="Its private key, PEM, PKCS #8.")
@click.option("--chain", type=_FILE, metavar="FILE", help="What is above an intermediate, with the root, PEM.")
@_passphrase_fd
@settings_options
@told
def import_(loaded: Loaded, certificate: Path, key: Path, chain: Path | None, passphrase_fd: int | None) -> None:
    """Let a root or an intermediate that was made elsewhere be the active one of its kind."""
    request = ImportAuthority(certificate=_read(certificate), key=_key(key, passphrase_fd), chain=_read_optional(chain))
    _show(_ask(loaded, "import_authority", request, AuthorityList))


@ca.command()
@click.option("--out", type=_FILE, required=True, metavar="FILE", help="For the request, PKCS #10, PEM.")
@_kind
@settings_options
@told
def request_intermediate(loaded: Loaded, out: Path, kind: Any) -> None:
    """Make a key for an intermediate that another authority is to sign. The key stays here."""
    _must_be_new(out)
    reply = _ask(loaded, "request_intermediate", RequestIntermediate(kind=kind), IntermediateRequest)
    _write(out, reply.csr.encode("ascii"), key_files.PUBLIC)
    click.echo(f"request  {out}")
    click.echo(
        "Have it signed as an authority; then: trustchain ca install-intermediate --certificate FILE --chain FILE"
    )


@ca.command()
@click.option("--certificate", type=_FILE, required=True, metavar="FILE", help="What was signed, PEM.")
@click.option("--chain", type=_FILE, metavar="FILE", help="What is above it, with the root, PEM.")
@settings_options
@told
def install_intermediate(loaded: Loaded, certificate: Path, chain: Path | None) -> None:
    """Let the certificate that was signed for a request be the active intermediate."""
    request = InstallIntermediate(certificate=_read(certificate), chain=_read_optional(chain))
    _show(_ask(loaded, "install_intermediate", request, AuthorityList))


@ca.command()
@click.option("--out", type=_FILE, required=True, metavar="FILE", help="For the encrypted key, PEM, PKCS #8.")
@click.option("--id", "root_id", metavar="ID", help="Of a root as in `trustchain ca list`; default: the active one.")
@_kind
@_passphrase_fd
@settings_options
@told
def export_root_key(loaded: Loaded, out: Path, root_id: str | None, kind: Any, passphrase_fd: int | None) -> None:
    """Write the key of a root to FILE, encrypted with a new passphrase, and read it back."""
    _must_be_new(out)
    passphrase = _passphrase(passphrase_fd, "New passphrase", confirm=True)
    reply = _ask(loaded, "export_root_key", ExportRootKey(passphrase=passphrase, kind=kind, id=root_id), ExportedKey)
    _write(out, reply.pem.encode("ascii"), key_files.PRIVATE)
    try:
        key_files.parse_key(out.read_bytes(), passphrase)
    except (OSError, WrongPassphrase, UnreadableKey) as error:
        raise CommandError(f"{out} cannot be read back: {error}") from error
    click.echo(f"root  {reply.id}")
    click.echo(f"key   {out}")
    click.echo("Keep the file and its passphrase in different places. To remove the key here:")
    click.echo(f"trustchain ca remove-root-key --id {reply.id} --exported {out}")


@ca.command()
@click.option("--exported", type=_FILE, required=True, metavar="FILE", help="What export-root-key wrote.")
@click.option("--id", "root_id", metavar="ID", help="Of a root as in `trustchain ca list`; default: the active one.")
@_kind
@_passphrase_fd
@settings_options
@told
def remove_root_key(loaded: Loaded, exported: Path, root_id: str | None, kind: Any, passphrase_fd: int | None) -> None:
    """Destroy the key of a root here, once its exported copy was shown and opened."""
    request = RemoveRootKey(exported=_key(exported, passphrase_fd), kind=kind, id=root_id)
    _show(_ask(loaded, "remove_root_key", request, AuthorityList))


@ca.command()
@settings_options
@told
def encrypt_keys(loaded: Loaded) -> None:
    """Encrypt the keys on the disk with the passphrase of ca.key_passphrase."""
    reply = _ask(loaded, "encrypt_keys", EncryptKeys(), EncryptedKeys)
    click.echo(f"{reply.count} keys were encrypted")


def _ask(loaded: Loaded, method: str, request: Struct, reply_type: type[T]) -> T:
    return cli_ca_socket.ask(loaded.settings, method, request, reply_type)


def _show(found: AuthorityList, *, as_json: bool = False) -> None:
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for authority in found.authorities:
        click.echo(_line(authority))


def _line(authority: AuthorityDescription) -> str:
    end = datetime.fromtimestamp(authority.not_after, UTC).strftime("%Y-%m-%d")
    columns = f"{authority.id:<32}  {authority.state:<7}  {authority.role:<12}  {authority.kind:<12}"
    return f"{columns}  key {authority.key:<7}  until {end}  {authority.subject}"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM_OCTETS + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_PEM_OCTETS:
        raise CommandError(f"{path} is larger than {MAX_PEM_OCTETS} octets: it holds something else")
    return content


def _read_optional(path: Path | None) -> bytes:
    return b"" if path is None else _read(path)


def _key(path: Path, passphrase_fd: int | None) -> PrivateKeyPem:
    content = _read(path)
    encrypted = key_files.is_encrypted(content)
    return PrivateKeyPem(
        pem=content, passphrase=_passphrase(passphrase_fd, f"Passphrase of {path}") if encrypted else None
    )


def _passphrase(descriptor: int | None, title: str, *, confirm: bool = False) -> bytes:
    if descriptor is not None:
        found = _from_descriptor(descriptor)
    elif sys.stdin.isatty():
        found = click.prompt(title, hide_input=True, confirmation_prompt=confirm, err=True).encode("utf-8")
    else:
        raise CommandError("there is no terminal to ask for a passphrase on: give --passphrase-fd N")
    if not 0 < len(found) <= MAX_PASSPHRASE_OCTETS:
        raise CommandError(f"a passphrase has 1 to {MAX_PASSPHRASE_OCTETS} octets; this one has {len(found)}")
    return found


def _from_descriptor(descriptor: int) -> bytes:
    """All that can be read, up to the limit, without the end of a line."""
    found = b""
    try:
        while len(found) <= MAX_PASSPHRASE_OCTETS + 1 and (part := os.read(descriptor, MAX_PASSPHRASE_OCTETS + 2)):
            found += part
    except OSError as error:
        raise CommandError(f"the file descriptor {descriptor} cannot be read: {error.strerror}") from error
    return found.removesuffix(b"\n").removesuffix(b"\r")


def _must_be_new(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise CommandError(f"{path} exists: it is not replaced; choose another name")


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        write_new(path, content, mode)
        sync_directory(path.absolute().parent)
    except FileExistsError:
        raise CommandError(f"{path} exists: it is not replaced; choose another name") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
