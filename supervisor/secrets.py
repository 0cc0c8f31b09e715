"""What services need to know and nobody else may: read once, at the start, and kept only in memory.

Rules:
- A secret comes from a credential of systemd, from an open file descriptor, or from the terminal: never from an
  argument or the environment, which other users may read.
- It is read before any process is started, and once: a descriptor is at its end afterwards, and nobody sits at the
  terminal when a worker is replaced.
- What cannot be had ends the start with exit code 78 and a text that says what to do. No text holds the secret.
"""

import getpass
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from config.inheritance import SealedSecret
from config.topology import Secret, Service
from supervisor.errors import CONFIGURATION_ERROR, StartError

MAX_OCTETS: Final = 1023
TERMINAL: Final = "/dev/tty"

Ask = Callable[[str], str]
Secrets = Mapping[str, Mapping[str, SealedSecret]]


def read_secrets(services: Iterable[Service], ask: Ask | None = None) -> Secrets:
    """Return the secrets of each service by their name. `ask` asks a person. Raises StartError."""
    return {
        service.name: {secret.name: SealedSecret.of(_read(secret, ask or _asked)) for secret in service.secrets}
        for service in services
        if service.secrets
    }


def close_secrets(secrets: Secrets) -> None:
    """Let go of all of them."""
    for several in secrets.values():
        for secret in several.values():
            secret.close()


def _read(secret: Secret, ask: Ask) -> bytes:
    kind, _, place = secret.source.partition(":")
    if kind == "credential":
        content = _credential(secret, place)
    elif kind == "fd":
        content = _from_descriptor(secret, int(place))
    else:
        content = _from_person(secret, ask)
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(content) <= MAX_OCTETS:
        raise _trouble(secret, f"has {len(content)} octets, and 1 to {MAX_OCTETS} are possible")
    return content


def _credential(secret: Secret, name: str) -> bytes:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise _trouble(
            secret, f"needs the credential {name}, and there are none: add LoadCredential={name}:/path to the unit"
        )
    path = Path(directory) / name
    try:
        with path.open("rb") as file:
            return file.read(MAX_OCTETS + 3)
    except OSError as error:
        raise _trouble(
            secret, f"cannot be read from {path}: {error.strerror}; see LoadCredential= in the unit"
        ) from error


def _from_descriptor(secret: Secret, descriptor: int) -> bytes:
    content = b""
    try:
        while len(content) <= MAX_OCTETS + 2 and (part := os.read(descriptor, MAX_OCTETS + 3)):
            content += part
        os.close(descriptor)
    except OSError as error:
        text = f"cannot be read from the file descriptor {descriptor}: {error.strerror}"
        raise _trouble(
            secret, f"{text}; open it for the command, as in `trustchain run ... {descriptor}<FILE`"
        ) from error
    return content


def _from_person(secret: Secret, ask: Ask) -> bytes:
    try:
        first = ask(f"{secret.setting}: ")
        if secret.new_until and not Path(secret.new_until).exists() and ask(f"{secret.setting}, again: ") != first:
            raise _trouble(secret, "was not the same the second time")
    except (OSError, EOFError) as error:
        raise _trouble(
            secret, "is to be asked for, and there is no terminal: use credential:NAME or fd:N instead of prompt"
        ) from error
    return first.encode("utf-8", "surrogateescape")


def _asked(title: str) -> str:
    with open(TERMINAL, "r+b", buffering=0):  # without one, getpass would read standard input
        return getpass.getpass(title)


def _trouble(secret: Secret, text: str) -> StartError:
    return StartError(f"{secret.setting} = {secret.source!r} {text}", CONFIGURATION_ERROR)
