"""Bearer tokens: the administrator's, kept in a file, and one that this process gives to its own probe.

Rules:
- A token is compared by its SHA-256 digest in constant time, with every known digest, whatever the first ones gave.
- A token is in no log, no error text, no command line. Its file is 0600; one that is open to anybody but its owner, be
  it to a group only, is not accepted.
- An existing file is never overwritten, whatever is in it.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from services.api.durable import File, write_files
from services.errors import ConfigurationError

ADMINISTRATOR: Final = "administrator"
_TOKEN_BYTES: Final = 32
# RFC 6750, section 2.1; long enough that nobody tries them all.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{32,256}=*")


class TokenHolders:
    """Knows who presents a token."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._digests = {holder: _digest(token) for holder, token in tokens.items()}

    def holder_of(self, token: str) -> str | None:
        """The name under which `token` was registered, or None."""
        presented = _digest(token)
        found = None
        for holder, digest in self._digests.items():
            if hmac.compare_digest(presented, digest):
                found = holder
        return found


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def load_or_create(path: Path) -> str:
    """The administrator's token; at first start a new one is stored before it is returned.

    Raises ConfigurationError as `load` does, OSError when the file cannot be written.
    """
    try:
        return load(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_files([File(path, new_token().encode("ascii") + b"\n")])
        return load(path)


def load(path: Path) -> str:
    """Read a token file. Raises FileNotFoundError, PermissionError, or ConfigurationError that says what to do."""
    with open(path, encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(4096).strip()
    if mode & 0o077:
        raise ConfigurationError(f"{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`")
    if not _TOKEN.fullmatch(text):
        raise ConfigurationError(f"{path} holds no token: delete it, and the next start creates a new one")
    return text
